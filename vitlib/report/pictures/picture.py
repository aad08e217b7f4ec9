"""A saved picture, as a notebook displays it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from matplotlib.figure import Figure

from vitlib.report.pictures.words import described


@dataclass(frozen=True)
class Picture:
    """A saved PNG: `width` pixels wide, `alt` for who cannot see it, the caption below."""

    data: bytes = field(repr=False)
    caption: str = ""
    width: int = 760
    alt: str = ""

    @classmethod
    def of(cls, figure: Figure, data: bytes, caption: str = "") -> Self:
        """The PNG that a figure was saved as, described by the figure itself."""
        return cls(data, caption, alt=described(figure, caption))

    def _ipython_display_(self) -> None:
        from IPython.display import Image, Markdown, display

        display(Image(self.data, width=self.width, alt=self.alt or self.caption))
        if self.caption:
            display(Markdown(f"*{self.caption}*"))


def alt_texts(outputs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of the pictures among a notebook cell's outputs, as far as they have some."""
    said = (output.get("metadata", {}).get("image/png", {}).get("alt", "") for output in outputs)
    return [text for text in said if text]
