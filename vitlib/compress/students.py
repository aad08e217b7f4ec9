"""The kinds of distillation behind `distill`: each describes the runs of its document, and the same student without a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitlib.compress.back.result import Compressed
from vitlib.compress.call import Call
from vitlib.compress.given import recipes
from vitlib.compress.given.models import architecture_of
from vitlib.inputs.foreign.architecture import known_vit
from vitlib.inputs.models import Timm, Vit, released
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Student
from vitlib.papers.dual_ssl_kd.specs import AttentionTerm, Joint, Readouts, Taught, Tuned
from vitlib.papers.multi_distillation.search.space import LETTERS, Weights
from vitlib.papers.multi_distillation.specs import Alone, Combined
from vitlib.papers.multi_distillation.training.reading import Objective, Reading
from vitlib.spec import SpecError
from vitlib.teachers.teacher import Teacher

PRIOR = {"a": 0.1, "b": 0.05, "c": 0.09, "d": 25.0, "e": 50.0, "f": 1.0, "g": 1.0, "h": 0.1, "i": 0.066}  # the document's Table 1
JOINT = frozenset(Joint.model_fields) - {"student", "cl", "mim", "data", "recipe", "seed", "keep_weights"}
PARTS = {"attention": AttentionTerm, "readout": Readouts}
OWN = {
    "deit": frozenset({"objective", "kd_weight", "temperature", "finetune"}),
    "one-teacher": frozenset({"finetune"}),
    "two-teachers": JOINT | {"finetune"},
    "multi": frozenset({*LETTERS, *Reading.model_fields, "order", "peers", "held_out"}),
}


def method_for(student: Any, teachers: int) -> str:
    """By the number of teachers; DeiT where a student has a distillation token.

    Raises:
        SpecError: for three teachers or more.
    """
    if teachers > 2:
        raise SpecError(f"teachers: got {teachers}; allowed: none (two students teach each other), one, or two")
    if teachers == 1 and isinstance(student, str) and "distilled" in student:
        return "deit"
    return ["multi", "one-teacher", "two-teachers"][teachers]


def by_token(call: Call, student: str, teachers: list[Any]) -> Compressed:
    """DeiT (equation 3): the labels and a fine-tuned teacher's hardened ones, the latter by the distillation token where there is one."""
    (teacher,) = _counted("deit", teachers, 1)
    model, own = architecture_of(student), call.teacher(teacher)
    photos, where = call.data(released(model.name)["image_size"])
    data, images = _as_released(model, photos), call.images(photos)
    tuned, told = _tuned(call, own, photos)
    recipe = recipes.from_scratch(images, call.knobs)
    common = {"model": model, "data": data, "recipe": recipe, "seed": call.options.seed}
    settings = {"objective": "hard", **{name: value for name, value in call.own.items() if name != "finetune"}}
    runs = {
        "teacher": tuned,
        "student alone": Student.made(**common),
        "student distilled": Student.made(teacher=tuned, **settings, **common),
    }
    return call.compressed(runs, [where, told, recipes.said("student", recipe, images, call.knobs)])


def by_one_teacher(call: Call, student: str, teachers: list[Any]) -> Compressed:
    """Cross-entropy and KL(teacher || student) of one fine-tuned teacher."""
    (teacher,) = _counted("one-teacher", teachers, 1)
    own = call.teacher(teacher)
    model, photos, where = _plain(call, student)
    data, images = own.normalised(photos), call.images(photos)
    tuned, told = _tuned(call, own, photos)
    recipe = recipes.from_scratch(images, call.knobs)
    common = {"student": model, "data": data, "recipe": recipe, "seed": call.options.seed, "keep_weights": True}
    runs = {"teacher": tuned, "student alone": Taught.made(**common), "student distilled": Taught.made(teachers=(tuned,), **common)}
    return call.compressed(runs, [where, told, recipes.said("student", recipe, images, call.knobs)])


def by_two_teachers(call: Call, student: str, teachers: list[Any]) -> Compressed:
    """A contrastive and a masked-image teacher whose last blocks train along (equation 4)."""
    cl, mim = (call.teacher(teacher) for teacher in _counted("two-teachers", teachers, 2))
    model, photos, where = _plain(call, student)
    data, images = cl.normalised(photos), call.images(photos)
    if mim.normalised(photos).normalisation != data.normalisation:
        raise SpecError("teachers: normalised in two ways, and one batch serves both; allowed: equal ones, or mean=(...) and std=(...)")
    recipe = recipes.from_scratch(images, call.knobs)
    settings = {
        name: PARTS[name].made(**value) if isinstance(value, dict) else value for name, value in call.own.items() if name != "finetune"
    }
    common = {"student": model, "data": data, "recipe": recipe, "seed": call.options.seed, "keep_weights": True}
    tuned = {name: _tuned(call, teacher, photos) for name, teacher in {"contrastive teacher": cl, "masked-image teacher": mim}.items()}
    joint = Joint.made(cl=cl, mim=mim, **{"lambda_1": 0.5, "lambda_2": 0.0} | settings, **common)
    runs = {**{name: run for name, (run, _) in tuned.items()}, "student alone": Taught.made(**common), "student distilled": joint}
    notes = [where, *dict.fromkeys(told for _, told in tuned.values()), recipes.said("student", recipe, images, call.knobs)]
    return call.compressed(runs, notes)


def by_each_other(call: Call, student: str, teachers: list[Any]) -> Compressed:
    """Multi-distillation: two students that teach each other outputs and relations, and by exits themselves; the first is taken away."""
    _counted("multi", teachers, 0)
    model, photos, where = _plain(call, student)
    data, images = _as_released(architecture_of(student), photos), call.images(photos)
    recipe = recipes.peers(images, call.knobs)
    weights = Weights.made(**PRIOR | {name: float(value) for name, value in call.own.items() if name in LETTERS})
    reading = {name: value for name, value in call.own.items() if name in Reading.model_fields}
    objective = Objective.made(weights=weights, **reading)
    objective = objective.changed(scale=1 / objective.label_weight)
    more = {name: value for name, value in call.own.items() if name in ("order", "peers")}
    common = {"model": model, "data": data, "recipe": recipe, "seed": call.options.seed}
    common |= {"held_out": call.own.get("held_out", 0.1), "measured_on": "test"}
    runs = {"alone": Alone.made(**common), "multi-distilled": Combined.made(objective=objective, keep_weights=True, **more, **common)}
    told = f"losses {weights.model_dump()}, their sum scaled by {objective.scale:.3g}, which gives the labels weight 1"
    return call.compressed(runs, [where, recipes.said("both students", recipe, images, call.knobs), told])


METHODS: dict[str, Callable[[Call, str, list[Any]], Compressed]] = {
    "deit": by_token,
    "one-teacher": by_one_teacher,
    "two-teachers": by_two_teachers,
    "multi": by_each_other,
}


def _counted(method: str, teachers: list[Any], count: int) -> list[Any]:
    if len(teachers) != count:
        raise SpecError(f"teachers: got {len(teachers)} with method={method!r}; allowed: {count}")
    return teachers


def _plain(call: Call, student: str) -> tuple[Vit, Data, str]:
    """A student that is a plain Vision Transformer, the photos at its size, and where the test photos come from."""
    model = architecture_of(student)
    photos, where = call.data(released(model.name)["image_size"])
    found = known_vit(model, photos.image_size, photos.channels)
    if found is None:
        raise SpecError(f"student: got {student!r}; allowed: a plain Vision Transformer, such as vit_tiny_patch16_224")
    return found, photos, where


def _as_released(model: Timm, photos: Data) -> Data:
    """Normalised as timm's weights of that name are, unless something else was asked for."""
    facts = released(model.name)
    return photos if photos.mean else photos.changed(mean=facts["mean"], std=facts["std"])


def _tuned(call: Call, teacher: Teacher, photos: Data) -> tuple[Tuned, str]:
    """The teacher fine-tuned on the photos, and how."""
    data, named, images = teacher.normalised(photos), call.own.get("finetune", {}), call.images(photos)
    recipe = recipes.for_weights(teacher, data, images, named)
    tuned = Tuned.made(teacher=teacher, data=data, recipe=recipe, seed=call.options.seed, protocol="finetune")
    return tuned, recipes.said("fine-tuning of the teachers", recipe, images, named)
