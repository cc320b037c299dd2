"""Export of trained models: programs that run without vaex, and their weights."""

from vaex.export.functions import WHAT, Exportable
from vaex.export.write import FORMATS, export

__all__ = ["FORMATS", "WHAT", "Exportable", "export"]
