"""Atomic writing of files, and locks on directories."""

from vaex.files.atomic import atomic_path, read_json, write_bytes, write_json
from vaex.files.digests import digest, is_as_written, with_digest
from vaex.files.json_types import mismatch
from vaex.files.locks import held, make_writable

__all__ = [
    "atomic_path",
    "digest",
    "held",
    "is_as_written",
    "make_writable",
    "mismatch",
    "read_json",
    "with_digest",
    "write_bytes",
    "write_json",
]
