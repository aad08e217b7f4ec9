"""Tables as files and as a notebook shows them: CSV with full precision, Markdown and HTML with fixed decimals."""

from vitlib.report.tables.numbers import DASH, formatted
from vitlib.report.tables.showing import markdown, published_only, save, shown

__all__ = ["DASH", "formatted", "markdown", "published_only", "save", "shown"]
