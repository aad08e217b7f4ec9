"""The total loss a kd + b rkd + c skd of a network and its teacher (multi_distillation, sections 2.1 to 2.4), term by term."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from timm.loss import SoftTargetCrossEntropy
from torch import Tensor

from vitlib.methods.distillation.exits import Outputs
from vitlib.methods.distillation.losses import soft_distillation_loss
from vitlib.methods.distillation.relations import angle_relation_loss, distance_relation_loss
from vitlib.methods.distillation.self_distillation import hint_loss, soft_target_loss
from vitlib.papers.multi_distillation.training.reading import Objective

Terms = dict[str, Tensor]
label_loss = SoftTargetCrossEntropy()  # with dense targets (B, C), mean over the batch


class Knowledge(NamedTuple):
    """What a network's deepest end says of a batch: logits (B, C) and features (B, D)."""

    logits: Tensor
    features: Tensor


def deepest(outputs: Outputs) -> Knowledge:
    return Knowledge(outputs.logits[-1], outputs.features[-1])


def kd_terms(own: Outputs, taught: Knowledge, targets: Tensor, objective: Objective) -> Terms:
    """Section 2.2: cross-entropy with the labels and T^2 KL(peer || self), the peer without gradient; times a."""
    terms = {}
    if "ce" in objective.kd:
        terms["CE"] = label_loss(own.logits[-1].float(), targets)
    if "kl" in objective.kd:
        terms["KL"] = peer_divergence(own, taught, objective)
    return weighted(terms, objective.weights.a)


def rkd_terms(own: Outputs, taught: Knowledge, targets: Tensor, objective: Objective) -> Terms:
    """Section 2.3: d L_D + e L_A between the deepest features; times b. What f and g do is `relation_reading`'s."""
    w, reading = objective.weights, objective.relation_reading
    of_distance, of_angle = (w.f, w.g) if reading == "threshold" else (1.0, 1.0)
    distance = w.d * distance_relation_loss(own.features[-1], taught.features, of_distance)
    angle = w.e * angle_relation_loss(own.features[-1], taught.features, of_angle)
    factors = {"threshold": (1.0, 1.0), "multiplicative": (w.f, w.g), "trade-off": (w.f, w.f), "ctsl": (1.0, w.f)}[reading]
    terms = {"distance": factors[0] * distance, "angle": factors[1] * angle}
    if reading == "ctsl":
        terms["relation KL"] = w.g * peer_divergence(own, taught, objective)
    return weighted(terms, w.b)


def skd_terms(own: Outputs, taught: Knowledge, targets: Tensor, objective: Objective) -> Terms:
    """Section 2.4: cross-entropy of all four classifiers, h times the exits' soft targets, i times their feature hints; times c."""
    w, exits = objective.weights, list(zip(own.logits[:-1], own.features[:-1], strict=True))
    labels = sum(label_loss(logits.float(), targets) for logits in own.logits)
    soft = sum(soft_target_loss(logits.float(), own.logits[-1].float(), objective.exit_temperature) for logits, _ in exits)
    hints = sum(hint_loss(features, own.features[-1], objective.hint_reduction) for _, features in exits)
    share = 1 - w.h if objective.exit_form == "convex" else 1.0
    return weighted({"exits CE": share * labels, "exits soft": w.h * soft, "exits hint": w.i * hints}, w.c)


GROUPS: dict[str, Callable[[Outputs, Knowledge, Tensor, Objective], Terms]] = {"kd": kd_terms, "rkd": rkd_terms, "skd": skd_terms}


def loss_terms(own: Outputs, taught: Knowledge, targets: Tensor, objective: Objective, groups: tuple[str, ...] = tuple(GROUPS)) -> Terms:
    """The weighted terms of some of the three losses, whose sum is trained on; a loss of weight 0 is left out."""
    weights = {"kd": objective.weights.a, "rkd": objective.weights.b, "skd": objective.weights.c}
    terms = [GROUPS[group](own, taught, targets, objective) for group in groups if weights[group]]
    return weighted({name: term for group in terms for name, term in group.items()}, objective.scale)


def peer_divergence(own: Outputs, taught: Knowledge, objective: Objective) -> Tensor:
    return soft_distillation_loss(own.logits[-1].float(), taught.logits.detach().float(), objective.kd_temperature)


def weighted(terms: Terms, weight: float) -> Terms:
    return {name: weight * term for name, term in terms.items()}
