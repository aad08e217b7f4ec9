"""The front door: your model, your photos, a smaller model. Thin over the documents' own runs; nothing is computed twice.

pruned = vitlib.prune("vit_small_patch16_224", "photos", sparsity=0.9)
pruned.summary(), pruned.figure(), pruned.save("pruned.safetensors")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from vitlib.compress.back.distances import Distances
from vitlib.compress.back.result import Compressed
from vitlib.compress.call import Call, in_words
from vitlib.compress.given import recipes
from vitlib.compress.students import METHODS, OWN, method_for
from vitlib.inputs.foreign.architecture import architecture
from vitlib.messages import brief
from vitlib.papers.afr_pruning.specs import CRITERIA, Criterion, Pruned, Pruning
from vitlib.papers.teachers.measure import AttentionDistances
from vitlib.papers.wecolora.specs import Distilled, Downstream, Start
from vitlib.spec import SpecError, require

ADAPTED = frozenset({"rank", "staged_epochs", "stage_targets", "final_targets", "cached", "finetune"})
HELD = 2**30  # bytes of a teacher's features that are kept


def prune(model: Any, photos: Any, criterion: Criterion = "afr", sparsity: float = 0.9, **keywords: Any) -> Compressed:
    """Prune a transformer once and fine-tune it, its pruned weights staying zero; beside it the same fine-tuning without pruning.

    Args:
        model: a timm name with or without tag, a checkpoint file, or a timm module.
        photos: a folder `train|test/<class>/*` or `<class>/*`, or a set by its name ('torchvision/dtd').
        criterion: afr, snip, refer, magnitude or random.
        sparsity: share of the blocks' weights that become zero, from 0 to below 1.
        keywords: `Options`, fields of `Recipe` (epochs, lr, ...) and of `Pruning` (threshold='2:4', ...); docs/your_model.md.

    Raises:
        SpecError: one line that names what is refused and what is allowed, before anything is computed.
    """
    call = Call.of("prune", photos, keywords, frozenset(Pruning.model_fields))
    require("criterion", criterion, CRITERIA)
    if not isinstance(sparsity, int | float) or not 0 <= sparsity < 1:
        raise SpecError(f"sparsity: got {brief(sparsity)}; allowed: from 0 to below 1, the share that becomes zero")
    teacher = call.teacher(model)
    data, where = call.data(teacher.image_size)
    data = teacher.normalised(data)
    images, found = call.images(data), architecture(teacher.model, data.image_size, teacher.channels)
    recipe = recipes.for_weights(teacher, data, images, call.knobs)
    rows = {} if found.class_token else {"rows": "patch_mean"}
    common = {"teacher": teacher, "data": data, "recipe": recipe, "seed": call.options.seed, "keep_weights": True}
    common |= {"pruning": Pruning.made(**rows | call.own)}
    runs = {
        "before": Pruned.made(criterion="magnitude", sparsity=0.0, **common),
        f"{criterion} {100 * sparsity:g} %": Pruned.made(criterion=criterion, sparsity=float(sparsity), **common),
    }
    told = "ReFer's features are means of patches, since this model has no class token" if rows else ""
    notes = [where, recipes.said("fine-tuning of both", recipe, images, call.knobs), told]
    return call.compressed(runs, [note for note in notes if note])


def weight_copy(
    model: Any, photos: Any, reduction: int = 2, start: Start = "svd", schedule: Literal["plain", "staged"] = "staged", **keywords: Any
) -> Compressed:
    """Keep every `reduction`-th block, teach it the features of those dropped by adapters (WeCoLoRA), merge them and fine-tune.

    Args:
        model, photos: as for `prune`.
        start: of the adapters: svd (of the dropped blocks), svd_shift, zero_b (WeCoLoRA's own) or random.
        schedule: staged (block after block) or plain.
        keywords: `Options`; fields of `Recipe`, for the adapters; rank, staged_epochs, stage_targets, final_targets, cached; and
            finetune={...}, fields of `Recipe` for the fine-tuning of teacher and student.

    Raises:
        SpecError: as for `prune`.
    """
    call = Call.of("weight_copy", photos, keywords, ADAPTED)
    require("schedule", schedule, ["plain", "staged"])
    require("start", start, ["zero_b", "random", "svd", "svd_shift"])
    if not isinstance(reduction, int) or reduction < 2:
        raise SpecError(f"reduction: got {brief(reduction)}; allowed: whole numbers from 2 on, of which one block stays")
    teacher = call.teacher(model)
    data, where = call.data(teacher.image_size)
    data = teacher.normalised(data)
    images, found = call.images(data), architecture(teacher.model, data.image_size, teacher.channels)
    staged = call.own.get("staged_epochs", 1) if schedule == "staged" else 0
    recipe = recipes.adapters(images, staged * max(0, -(-found.depth // reduction) - 1), call.knobs)
    width = _width(teacher.model, data.image_size, teacher.channels)
    held = 4 * images * max(1, found.tokens) * width * -(-max(1, found.depth) // reduction)
    plain = data.resident and recipe.augment == type(recipe.augment)()
    adapted = {"rank": max(4, width // 6), "cached": plain and held < HELD} | {k: v for k, v in call.own.items() if k != "finetune"}
    common = {"teacher": teacher, "data": data, "seed": call.options.seed}
    student = Distilled.made(
        recipe=recipe, reduction=reduction, lora_init=start, **adapted | {"staged_epochs": staged}, **common
    )  # fmt: skip
    named = call.own.get("finetune", {})
    tuned = recipes.for_weights(teacher, data, images, named)
    tuning = {"recipe": tuned, "protocol": "finetune", "keep_weights": True, **common}
    runs = {
        "before": Downstream.made(student=None, **tuning),
        f"1 of {reduction} blocks": Downstream.made(student=student, **tuning),
    }
    told = f"start {start}, {schedule}, rank {student.rank}"
    notes = [
        where,
        f"{recipes.said('adapters', recipe, images, call.knobs)}; {told}",
        recipes.said("fine-tuning of both", tuned, images, named),
    ]
    return call.compressed(runs, notes)


def distill(student: str, photos: Any, teachers: Any = (), method: str = "", **keywords: Any) -> Compressed:
    """Train a small model from the beginning on labels and on what larger ones say; beside it the same training on labels alone.

    Args:
        student: a timm name; its weights are drawn.
        photos: as for `prune`.
        teachers: none, one, or two (contrastive first, masked-image second), each as `prune` takes models.
        method: 'deit' (hard labels of one teacher; by the distillation token, if the student has one), 'one-teacher', 'two-teachers',
            'multi' (two students that teach each other and, by exits, themselves); by default what the number of teachers says.
        keywords: `Options`; fields of `Recipe`, for the student; finetune={...}, for the teachers; what the method's runs have beside them.

    Raises:
        SpecError: as for `prune`.
    """
    listed = [teachers] if not isinstance(teachers, Sequence) or isinstance(teachers, str) else list(teachers)
    chosen = method or method_for(student, len(listed))
    require("method", chosen, list(METHODS))
    call = Call.of(f"distill (method '{chosen}')", photos, keywords, OWN[chosen])
    return METHODS[chosen](call, student, listed)


def attention_distance(models: Mapping[str, Any], photos: Any, images: int = 100, **keywords: Any) -> Distances:
    """How far each block and head of the models looks, in pixels, over some test photos, each model normalised in its own way.

    Args:
        models: by the name that the figure has for each; as `prune` takes them.
        images: evenly spaced test photos, at most as many as there are.
        keywords: `Options`.

    Raises:
        SpecError: as for `prune`.
    """
    call = Call.of("attention_distance", photos, keywords, frozenset())
    if call.knobs:
        raise SpecError(f"attention_distance: unknown keyword {next(iter(call.knobs))!r}; nothing is trained here")
    if not isinstance(models, Mapping) or not models:
        raise SpecError(f"models: got {brief(models)}; allowed: a table of models by name, as {{'mine': 'vit_small_patch16_224'}}")
    teachers = {name: call.teacher(model) for name, model in models.items()}
    runs, where = {}, ""
    for name, teacher in teachers.items():
        data, where = call.data(teacher.image_size)
        runs[name] = AttentionDistances.made(teacher=teacher, data=teacher.normalised(data), images=images)
    return Distances(runs, call.stored(list(runs.values()), in_words(runs)), where)


def _width(model: Any, image_size: int, channels: int) -> int:
    from vitlib.inputs.models import sketch

    return getattr(model, "embed_dim", 0) or sketch(model.changed(pretrained=False), image_size=image_size, channels=channels).num_features
