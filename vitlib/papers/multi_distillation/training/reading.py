"""The total loss a kd + b rkd + c skd as fields: the nine weights, and how the document's open places are read. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vitlib.papers.multi_distillation.search.space import Weights
from vitlib.spec import Part

Above = Annotated[float, Field(gt=0)]


class Reading(Part):
    """How the document's open places are read (method sheet, section 6).

    Args:
        kd: terms of kd_loss: cross-entropy with the labels, KL(peer || self), or both.
        kd_temperature, exit_temperature: T of the KL and of the exits' soft targets.
        relation_reading: f and g are smooth-L1 `threshold`s of distance and angle loss; or d L_D f + e L_A g (`multiplicative`);
            f (d L_D + e L_A) (`trade-off`); d L_D + f e L_A + g KL(peer || self) (`ctsl`).
        exit_form: `additive` CE + h KD + i F, or the reference's `convex` (1 - h) CE + h KD + i F.
        hint_reduction: F_m as a mean over batch and features, or the reference's sum, whose published i is 1e-6.
    """

    kd: Literal["ce+kl", "ce", "kl"] = "ce+kl"
    kd_temperature: Above = 1.0
    relation_reading: Literal["threshold", "multiplicative", "trade-off", "ctsl"] = "threshold"
    exit_form: Literal["additive", "convex"] = "additive"
    exit_temperature: Above = 3.0
    hint_reduction: Literal["mean", "sum"] = "mean"

    @model_validator(mode="after")
    def _temperature_is_used(self) -> Self:
        if self.kd_temperature != 1 and not self.compares_outputs:
            raise ValueError(
                f"kd_temperature={self.kd_temperature} with kd={self.kd!r} and relation_reading={self.relation_reading!r}, "
                "which have no KL; allowed: 1.0, kd='ce+kl' or 'kl', or relation_reading='ctsl'"
            )
        return self

    @property
    def compares_outputs(self) -> bool:
        """Whether a network learns from its teacher's outputs."""
        return "kl" in self.kd or self.relation_reading == "ctsl"

    def label_shares(self, weights: Weights) -> dict[str, float]:
        """Weight of the deepest classifier's cross-entropy with the labels in each of the three losses."""
        exits = weights.c * (1 - weights.h if self.exit_form == "convex" else 1)
        return {"kd": weights.a if "ce" in self.kd else 0.0, "rkd": 0.0, "skd": exits}

    def require_learnable(self, weights: Weights) -> None:
        """Refuse weights that this reading cannot be trained with.

        Raises:
            ValueError: where the loss leads away from the labels, a threshold is zero, or no label reaches the deepest classifier.
        """
        w = weights
        if self.exit_form == "convex" and w.h > 1:
            raise ValueError(f"h={w.h} with exit_form='convex' trains away from the labels; allowed: at most 1, or exit_form='additive'")
        if self.relation_reading == "threshold" and w.b and not w.f * w.g:
            raise ValueError(f"f={w.f}, g={w.g} are smooth-L1 thresholds; allowed: above 0, or another relation_reading")
        if not any(self.label_shares(w).values()):
            by_exits = {"additive": "c above 0", "convex": "c above 0 with h below 1"}[self.exit_form]
            allowed = by_exits if self.kd == "kl" else f"a above 0, or {by_exits}"
            raise ValueError(f"a={w.a}, c={w.c}, h={w.h} with kd={self.kd!r}: no label reaches the deepest classifier; allowed: {allowed}")


class Objective(Reading):
    """The total loss of nine weights, so read.

    Args:
        scale: of the total.
    """

    weights: Weights
    scale: Above = 1.0

    @model_validator(mode="after")
    def _learnable(self) -> Self:
        self.require_learnable(self.weights)
        return self

    @property
    def label_weight(self) -> float:
        """Weight of the deepest classifier's cross-entropy with the labels."""
        return self.scale * sum(self.label_shares(self.weights).values())

    @property
    def label_weights(self) -> dict[str, float]:
        """The part of each of the three losses in `label_weight`."""
        return {loss: self.scale * share for loss, share in self.label_shares(self.weights).items()}

    def weighted(self, weights: Weights) -> Objective:
        return self.changed(weights=weights)
