"""How methods look: colour, marker and line of each, the same in all documents.

Any two that may stand in one panel differ in marker or line, or in colour also under deuteranopia (CIEDE2000 at least 20); every colour has
a contrast of at least 3 to 1 against white.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

BLUE, BROWN, GREEN, VERMILLION, PINK, BLACK = PALETTE = ["#0173b2", "#7a4a12", "#029e73", "#d55e00", "#cb74b8", "#222222"]
GREY, PURPLE = "#737373", "#5e3c99"
TEACHER = GREY  # of lines that others are compared with
MARKERS = "osD^vPX<>hp"  # as many as colours have no common divisor with
LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Look:
    """How a method is drawn; `marker` is empty for a reference without points, `hatch` is of bars."""

    colour: str
    marker: str = "o"
    line: str = "-"
    hatch: str = ""
    hollow: bool = False

    @property
    def points(self) -> dict[str, Any]:
        """Keywords of `axes.plot` and `axes.errorbar` for points that no line joins."""
        return self.lines | {"linestyle": "none", "marker": self.marker or "o"}

    @property
    def lines(self) -> dict[str, Any]:
        """Keywords of `axes.plot` and `axes.errorbar` for points on a line."""
        face = {"markerfacecolor": "white"} if self.hollow else {}
        return {"color": self.colour, "marker": self.marker, "linestyle": self.line} | face

    @property
    def rule(self) -> dict[str, Any]:
        """Keywords of `axes.axhline` and `axes.axvline`."""
        return {"color": self.colour, "linestyle": self.line}

    @property
    def bars(self) -> dict[str, Any]:
        """Keywords of `axes.bar`."""
        return {"color": self.colour, "hatch": self.hatch, "edgecolor": "white", "linewidth": 0}

    def but(self, **fields: Any) -> Look:
        """The same but for some fields."""
        return replace(self, **fields)


LOOKS_BY_SUBJECT = {  # those of one subject, and what all are compared with, may stand in one panel
    "compared with": {
        "teacher": Look(BLACK, "*"),
        "dense": Look(BLACK, "", "--"),
        "no distillation": Look(GREY, "v"),
    },
    "networks": {
        "supervised": Look(BLUE, "s"),
        "DINO": Look(VERMILLION, "o", hatch="//"),
        "MAE": Look(GREEN, "^", hatch=".."),
        "DINO + MAE": Look(PINK, "D"),
        "DINO + MAE, frozen": Look(BROWN, "P", "--"),
        "convnet": Look(BROWN, "h"),
        "untrained": Look(GREY, "<", "--"),
        "uniform attention": Look(GREY, "", ":"),
    },
    "distillation": {
        "soft": Look(BLUE, "o"),
        "hard": Look(VERMILLION, "X"),
        "token": Look(GREEN, "D"),
        "token, longer": Look(PINK, "P"),
        "class token": Look(BLUE, "p"),
    },
    "pruning": {
        "AFR": Look(VERMILLION, "o"),
        "ReFer": Look(GREEN, "^"),
        "SNIP": Look(BLUE, "s"),
        "magnitude": Look(BROWN, "D"),
        "random": Look(GREY, "X"),
    },
    "weight copy": {
        "WeCoLoRA": Look(BLUE, "s"),
        "random factors": Look(GREY, "X", "-."),
        "SVD": Look(VERMILLION, "D"),
        "SVD, shifted": Look(GREEN, "^"),
        "weight copy": Look(BLACK, "", ":"),
        "WeCoLoRA + AFR": Look(PURPLE, "P"),
    },
    "multi-distillation": {
        "online peer": Look(BLUE, "o"),
        "frozen teacher": Look(BLACK, "s"),
        "relations": Look(VERMILLION, "D"),
        "self-distillation": Look(GREEN, "^"),
        "peer + relations": Look(PINK, "P"),
        "multi-distillation": Look(BROWN, "h"),
    },
    "searches": {
        "random search": Look(BLUE, "o"),
        "TPE": Look(VERMILLION, "D"),
    },
}
LOOKS = {name: found for looks in LOOKS_BY_SUBJECT.values() for name, found in looks.items()}


def look(name: str) -> Look:
    return LOOKS[name]


def distinct(names: Iterable[str]) -> dict[str, Look]:
    """A look for each of any number of names: marker and colour change at each step, so that 66 differ in them, and the line after that."""
    count = len(PALETTE) * len(MARKERS)
    return {
        name: Look(PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)], LINES[place // count % len(LINES)])
        for place, name in enumerate(names)
    }
