"""DeiT: what the entry, a profile or a notebook's overrides may set, and which run fills which point of a table's grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vitlib.inputs.foreign.classes import Columns
from vitlib.inputs.foreign.demands import SameClasses, Tells
from vitlib.inputs.models import ResNet, Timm, Vit
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Anatomy, Reduction, Released, Student, Throughput, Tokens, Weight
from vitlib.recipe import Recipe, Seeds
from vitlib.spec import Demand, Part, remembered
from vitlib.teachers.teacher import Teacher


class Settings(Part):
    """What the entry, a profile and a notebook's overrides may set.

    Args:
        classifier: of a released teacher on other data than ImageNet-1k: the columns that are their classes, or 'trained': the teacher
            gets a classifier for them and is trained by `teacher_recipe` like a teacher of one's own.
        teacher_seeds: one training of each teacher (seed 0) for all students, or a training of its own `each` seed.
        soft_weight, hard_weight, token_weight: lambda of Table 3's rows "soft" and "hard", without a token, and "token". The first two
            carry no mark for labels there: 1 trains them on the teacher alone.
    """

    data: Data
    second_test: Data | None = None
    num_classes: Annotated[int, Field(ge=2)]
    seeds: Seeds
    teacher_seeds: Literal["one", "each"] = "one"
    students: Annotated[dict[Literal["tiny", "small", "base"], Vit], Field(min_length=1)]
    teachers: Annotated[dict[str, ResNet | Timm], Field(min_length=1)]
    teacher: str
    recipe: Recipe
    teacher_recipe: Recipe
    finetune: Recipe
    finetune_size: Annotated[int, Field(ge=4, le=1024)]
    long_factor: Annotated[float, Field(ge=1, le=1000)]
    real_labels: bool = False
    temperature: Annotated[float, Field(gt=0)]
    soft_weight: Weight
    hard_weight: Weight
    token_weight: Weight
    soft_reduction: Reduction = "batchmean"
    throughput_batch: Annotated[int, Field(ge=1)]
    released: tuple[str, ...] = ()
    classifier: Columns | Literal["trained"] = "all"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.teacher not in self.teachers:
            raise ValueError(f"teacher={self.teacher!r} is not among the teachers; allowed: {', '.join(self.teachers)}")
        for size, model in self.students.items():
            for pixels in (self.data.image_size, self.finetune_size):
                if pixels % model.patch_size:
                    raise ValueError(f"students.{size}.patch_size={model.patch_size} does not tile {pixels} px; choose a divisor")
        if self.second and self.second.normalisation != self.data.normalisation:
            theirs, ours = self.second.normalisation, self.data.normalisation
            raise ValueError(f"second_test: mean and std {theirs}, those of data are {ours}; allowed: the same, or second_test = null")
        if self.classifier != "all" and not self.released and not any(map(_is_released, self.teachers.values())):
            raise ValueError(f"classifier={self.classifier!r} without a released model; allowed: 'all', or a pretrained teacher")
        return self

    def demands(self) -> Iterator[Demand]:
        yield Tells("num_classes", self.num_classes, self.data)
        if self.second:
            yield SameClasses(self.data, self.second)

    @property
    def second(self) -> Data | None:
        """The second test set, normalised as the first."""
        unsaid = self.second_test is not None and self.second_test.mean is None
        return self.second_test.changed(mean=self.data.mean, std=self.data.std) if unsaid else self.second_test

    @property
    def columns(self) -> Columns:
        """Of the released models that are evaluated as they are: a trained classifier is a teacher's alone."""
        return "all" if self.classifier == "trained" else self.classifier

    @property
    def sizes(self) -> list[str]:
        return list(self.students)

    @property
    def long_epochs(self) -> int:
        return round(self.recipe.epochs * self.long_factor)

    @property
    def largest(self) -> list[str]:
        return self.sizes[-1:]

    @property
    def teacher_names(self) -> list[str]:
        return [f"DeiT-{_SHORT[self.sizes[-1]]}", *self.teachers]


_SHORT = {"tiny": "Ti", "small": "S", "base": "B"}


def run_student(settings: Settings, *, method: str, size: str, resolution: str, seed: int) -> Student:
    """Tables 3 and 5, Figure 3. Methods: none, soft, hard (no token), token (hard, with token), two-class (no teacher).

    none-long and token-long train for `long_factor` times the epochs.
    """
    return _student(settings, method, size, resolution, seed, settings.teacher)


def run_taught(settings: Settings, *, teacher: str, column: str, seed: int) -> Student:
    """Table 2: the teacher itself, or the largest student it taught, at either resolution."""
    if column == "teacher":
        return _teacher(settings, teacher, "native", seed)
    return _student(settings, "token", settings.sizes[-1], column, seed, teacher)


def run_teacher(settings: Settings, *, seed: int) -> Student | Released:
    return _teacher(settings, settings.teacher, "native", seed)


def run_tokens(settings: Settings, *, method: str, seed: int) -> Tokens:
    return Tokens(student=_student(settings, method, settings.sizes[-1], "native", seed, settings.teacher))


def run_anatomy(settings: Settings, *, size: str) -> Anatomy:
    data = settings.data
    model = settings.students[size].changed(distilled=True)
    return Anatomy(model=model, image_size=data.image_size, channels=data.channels, num_classes=settings.num_classes)


def run_throughput(settings: Settings, *, method: str, size: str, resolution: str) -> Throughput:
    return _throughput(settings, settings.students[size].changed(distilled=method != "none"), resolution)


def run_teacher_throughput(settings: Settings) -> Throughput:
    return _throughput(settings, settings.teachers[settings.teacher], "native")


def run_released(settings: Settings, *, released: str) -> Released:
    size = 384 if "384" in released else settings.data.image_size
    shown = {"image_size": size, "crop_share": 1.0 if size == 384 else settings.data.crop_share}
    second = settings.second and settings.second.changed(**shown)
    return _released(settings, Timm(name=released, pretrained=True), settings.data.changed(**shown), second)


def _is_released(model: ResNet | Timm) -> bool:
    return isinstance(model, Timm) and model.pretrained


def _released(settings: Settings, model: Timm, data: Data, second: Data | None) -> Released:
    """A released model on images that are normalised as its own were."""
    own = Teacher(origin=model)
    return Released(
        model=model,
        data=own.normalised(data),
        second_test=second and own.normalised(second),
        real_labels=settings.real_labels,
        columns=settings.columns,
    )


@remembered
def _student(settings: Settings, method: str, size: str, resolution: str, seed: int, teacher: str) -> Student:
    objective = {"none": "none", "none-long": "none", "two-class": "none", "soft": "soft"}.get(method, "hard")
    taught = objective != "none"
    soft = {"soft_reduction": settings.soft_reduction} if method == "soft" else {}
    recipe = settings.recipe
    if method.endswith("-long"):
        recipe = recipe.changed(epochs=settings.long_epochs, eval_every=round(recipe.eval_every * settings.long_factor))
    native = Student(
        data=settings.data,
        model=settings.students[size].changed(distilled=method.startswith(("token", "two-class"))),
        recipe=recipe,
        seed=seed,
        objective=objective,
        teacher=_teacher(settings, teacher, "native", seed) if taught else None,
        kd_weight={"soft": settings.soft_weight, "hard": settings.hard_weight}.get(method, settings.token_weight),
        temperature=settings.temperature,
        **soft,
        second_test=settings.second,
        real_labels=settings.real_labels,
    )
    if resolution == "native":
        return native
    return _finetuned(settings, native, _teacher(settings, teacher, "up", seed) if taught else None, settings.finetune)


def _finetuned(settings: Settings, native: Student, teacher: Student | Released | None, recipe: Recipe) -> Student:
    """`native` trained on at the larger resolution, with a teacher of that resolution."""
    larger = {"image_size": settings.finetune_size}
    second = native.second_test and native.second_test.changed(**larger)
    return native.changed(data=native.data.changed(**larger), recipe=recipe, start=native, teacher=teacher, second_test=second)


@remembered
def _teacher(settings: Settings, name: str, resolution: str, seed: int) -> Student | Released:
    """A convnet trained by its own recipe, a released one, or the plain transformer, for a student of that seed."""
    seed = seed if settings.teacher_seeds == "each" else 0
    if name not in settings.teachers:
        return _student(settings, "none", settings.sizes[-1], resolution, seed, settings.teacher)
    model = settings.teachers[name]
    data, second = settings.data, settings.second
    if _is_released(model):
        if settings.classifier != "trained":
            return _released(settings, model, data, second)
        own = Teacher(origin=model)
        data, second = own.normalised(data), second and own.normalised(second)
    native = Student(data=data, model=model, recipe=settings.teacher_recipe, seed=seed, second_test=second)
    return native if resolution == "native" else _finetuned(settings, native, None, settings.finetune)


def _throughput(settings: Settings, model: Vit | ResNet | Timm, resolution: str) -> Throughput:
    size = settings.data.image_size if resolution == "native" else settings.finetune_size
    return Throughput(
        model=model, image_size=size, channels=settings.data.channels,
        num_classes=settings.num_classes, batch_size=settings.throughput_batch,
    )  # fmt: skip
