"""The nine weights, the ranges they are searched in, and the draws of the random search. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vitlib.recipe import NonNegative
from vitlib.spec import Part

Letter = Literal["a", "b", "c", "d", "e", "f", "g", "h", "i"]
LETTERS: tuple[Letter, ...] = ("a", "b", "c", "d", "e", "f", "g", "h", "i")


class Weights(Part):
    """Table 1's nine weights.

    Args:
        a, b, c: of kd_loss, rkd_loss and skd_loss in the total.
        d, e: of the distance and the angle relation.
        f, g: undefined in the document; `Reading.relation_reading` says what they do.
        h, i: of the exits' soft targets and of their feature hints.
    """

    a: NonNegative
    b: NonNegative
    c: NonNegative
    d: NonNegative
    e: NonNegative
    f: NonNegative
    g: NonNegative
    h: NonNegative
    i: NonNegative


class Range(Part):
    """Values from `low` to `high` in steps; both ends belong to it."""

    low: NonNegative
    high: NonNegative
    step: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"low={self.low} and high={self.high}; allowed: low below high")
        steps = (self.high - self.low) / self.step
        if steps > 10_000:
            raise ValueError(f"step={self.step} makes {steps:.3g} steps from low={self.low} to high={self.high}; allowed: at most 10,000")
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"step={self.step} does not lead from low={self.low} to high={self.high}; allowed: a whole number of steps")
        return self

    @property
    def values(self) -> np.ndarray:
        count = round((self.high - self.low) / self.step) + 1
        return np.round(self.low + self.step * np.arange(count), 9)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


class Space(Part):
    """A range for each weight."""

    a: Range
    b: Range
    c: Range
    d: Range
    e: Range
    f: Range
    g: Range
    h: Range
    i: Range

    def drawn(self, seed: int, number: int) -> Weights:
        """Trial `number` of the random search `seed`: each weight uniform on its grid; a function of these two alone."""
        generator = np.random.default_rng([seed, number])
        return Weights(**{letter: float(generator.choice(getattr(self, letter).values)) for letter in LETTERS})

    @property
    def hardest(self) -> Weights:
        """The corner where labels weigh least and thresholds are smallest: what can be learnt there can be learnt in the whole space."""
        ends = dict.fromkeys(LETTERS, "low") | {"b": "high", "h": "high"}
        return Weights(**{letter: getattr(getattr(self, letter), end) for letter, end in ends.items()})
