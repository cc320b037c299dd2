"""Offline pages: a trained decoder in one HTML file that needs no server and no network."""

from vaex.page.write import DEFAULT_EXAMPLES, Shown, write_page

__all__ = ["DEFAULT_EXAMPLES", "Shown", "write_page"]
