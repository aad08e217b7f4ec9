"""Kinds of runs: one of each kind computes all that a study computes."""

from vitlib.papers.comparison.left.measured import Exported, Measured
from vitlib.spec import RunSpec


def kind(spec: RunSpec) -> tuple:
    """What tells runs of a class apart that compute different things; models that other runs leave are measured alike."""
    if isinstance(spec, Measured | Exported):
        return (type(spec).__name__,)
    weights = getattr(getattr(spec, "objective", None), "weights", None)
    fields = [getattr(spec, name, None) for name in ("order", "protocol", "staged_epochs", "lora_init", "criterion", "part")]
    objective = (bool(weights.b), bool(weights.c)) if weights else getattr(spec, "objective", None)
    teachers = len(getattr(spec, "teachers", ())), getattr(spec, "teacher", None) is None
    return type(spec).__name__, type(getattr(spec, "model", None)).__name__, *fields, objective, *teachers


def one_of_each_kind(study) -> list[RunSpec]:
    """The first run of every kind in a study; what they start from is not among them."""
    return list({kind(spec): spec for spec in reversed(study.specs.values())}.values())
