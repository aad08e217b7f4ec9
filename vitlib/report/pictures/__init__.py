"""A figure as a notebook shows it: the picture, its caption, and the text that stands in for it where it cannot be seen."""

from vitlib.report.pictures.picture import Picture, alt_texts
from vitlib.report.pictures.words import described

__all__ = ["Picture", "alt_texts", "described"]
