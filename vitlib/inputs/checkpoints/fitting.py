"""A checkpoint's content fitted to an architecture by the names of its parameters.

Start from `fitted`. Every reading of the file (containers and prefixes undone) is held against the module; one that has all its parameters,
in their shapes and nothing unknown, is taken. Where several do that: as a file's own authors evaluate it, DINO's teacher before its student
and a network before its moving average or momentum encoder; `key` asks for another, and must where this rule leaves two.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitlib.inputs.checkpoints.reading import ALLOWED, refusal, said
from vitlib.inputs.checkpoints.resizing import converted, resized
from vitlib.inputs.checkpoints.unwrapping import WRAPPERS, Network, described, networks, tables
from vitlib.inputs.models import classifier_names

if TYPE_CHECKING:
    from torch import Tensor, nn

SECOND = {  # of two networks in a file, the one that its authors do not evaluate
    "student", "ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "momentum_encoder", "encoder_k", "target_encoder",
}  # fmt: skip
NO_PART = re.compile(  # decoders and projection heads of pretraining, and counters, of no architecture of timm
    r"decoder|mask_token$|(projector|projection_head|predictor|prototypes|queue)\b|queue_ptr$|(.*\.)?total_(ops|params)$"
)
STRANGERS = {
    r"lora_[AB]\b|lora_embedding": "an adapter of PEFT: merge it into its model (merge_and_unload) and save that one's state_dict()",
    r"vision_model\.encoder\.layers|transformer\.resblocks|^text_model\.": "CLIP's names",
    r"encoder\.layer\.\d+\.attention\.": "names of Hugging Face transformers",
    r"encoder_layer_\d+\.": "torchvision's names",
    r"layers\.\d+\.(ln1|attn\.qkv|ffn\.layers)": "OpenMMLab's names",
}
REPEATED = 2**26  # bytes that a parameter may take beyond what the file stores of it
READ = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True)
class Fitted:
    """Weights as the architecture names them, float32 where they are real numbers, in the sizes of the file; a classifier if it has one.

    `note` says in one line what was undone, and is empty for a state dict that was taken as it is.
    """

    weights: dict[str, np.ndarray]
    note: str


def fitted(content: Any, module: nn.Module, path: Path, key: str = "") -> Fitted:
    """The weights of `module`, which only gives names and shapes (`inputs.models.sketch`), among what `reading.read` found.

    Args:
        key: where a file holds several networks, a container or prefix of the one to take; empty: by the rule above.

    Raises:
        WeightsError: one line that says what the file holds instead, what is missing, unknown, of other shapes or not finite.
    """
    if swollen := [name for _, table in tables(content) for name, tensor in table.items() if _is_swollen(tensor)]:
        raise refusal(path, f"{len(swollen)} parameters ({_first(swollen)}) are larger than the file that they are in; {ALLOWED}")
    wanted = _Wanted(module, module.state_dict(), classifier_names(module))
    readings = [_reading(network, wanted) for network in networks(content, wanted.target)]
    if not readings:
        raise refusal(path, f"holds {described(content)}; save the model's state_dict(); {ALLOWED}")
    fitting = [reading for reading in readings if reading.distance == 0]
    if not fitting:
        raise refusal(path, _misfit(min(readings, key=lambda reading: reading.distance), wanted))
    best = _chosen(fitting, path, key)
    return Fitted(_arrays(best, path), _note(best, fitting, wanted, path))


@dataclass(frozen=True)
class _Wanted:
    """The architecture: its module, parameters and buffers by name, and the names of its classifier's."""

    module: nn.Module
    target: dict[str, Tensor]
    classifier: frozenset[str]


@dataclass(frozen=True)
class _Reading:
    """A network of the file held against the architecture.

    Args:
        state: tensors by the architecture's names.
        renamed: whether timm's conversion of the family's own names was needed.
        missing, unknown, misshapen: what forbids it.
        left_out: names in the file that are known to be no part of the architecture.
    """

    network: Network
    state: dict[str, Tensor]
    renamed: bool
    missing: list[str]
    unknown: list[str]
    misshapen: list[str]
    left_out: list[str]

    @property
    def distance(self) -> int:
        return len(self.missing) + len(self.unknown) + len(self.misshapen)


def _reading(network: Network, wanted: _Wanted) -> _Reading:
    as_it_is = _held(network, network.tensors, wanted)
    if as_it_is.distance == 0:
        return as_it_is
    return min(as_it_is, _held(network, converted(network.tensors, wanted.module), wanted, True), key=lambda reading: reading.distance)


def _held(network: Network, tensors: dict[str, Tensor], wanted: _Wanted, renamed: bool = False) -> _Reading:
    state = {name: tensor for name, tensor in tensors.items() if name in wanted.target}
    missing = _missing(state, wanted)
    heads = tuple(_heads(wanted))
    left_out = {name: None for name in tensors if name not in state and (NO_PART.match(name) or name.startswith(heads))}
    unknown = [name for name in tensors if name not in state and name not in left_out]
    misshapen = [] if missing else _misshapen(state, wanted)
    return _Reading(network, state, renamed, missing, unknown, misshapen, [*left_out, *network.beside])


def _chosen(fitting: list[_Reading], path: Path, key: str) -> _Reading:
    labels = ", ".join(repr(reading.network.label) for reading in fitting)[:200]
    asked = [reading for reading in fitting if not key or key in (reading.network.label, *reading.network.steps)]
    if not asked:
        raise refusal(path, f"key {key!r} names no network that fits; allowed: {labels}")
    first = [reading for reading in asked if not SECOND.intersection(reading.network.steps)] or asked
    if not all(_equal(first[0].state, other.state) for other in first[1:]):
        raise refusal(path, f"holds several networks that fit; say which by origin.key; allowed: {labels}")
    return first[0]


def _missing(state: dict[str, Tensor], wanted: _Wanted) -> list[str]:
    """A classifier is whole or not there; batches are counted from 0 where nobody counted."""
    body = [name for name in wanted.target if name not in wanted.classifier and not name.endswith("num_batches_tracked")]
    head = sorted(wanted.classifier) if wanted.classifier & state.keys() else []
    return [name for name in [*body, *head] if name not in state]


def _heads(wanted: _Wanted) -> set[str]:
    """Beginnings of names in the classifier's place, where pretraining has its projection heads (`head.mlp.0.weight`)."""
    return {f"{name.rpartition('.')[0]}." for name in wanted.classifier}


def _misshapen(state: dict[str, Tensor], wanted: _Wanted) -> list[str]:
    """What does not fit once it is resampled, 'name: found, not needed'; of a classifier the number of classes is free."""
    if unread := [f"{name}: {_kind(tensor)}, not {', '.join(READ)}" for name, tensor in state.items() if _kind(tensor) not in READ]:
        return unread
    found, heads = resized(state, wanted.module), wanted.classifier & state.keys()
    classes = {state[name].shape[:1].numel() for name in heads}
    if len(classes) > 1 or 0 in classes:
        return [f"classifiers of {' and '.join(map(str, sorted(classes)))} classes"]
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.target.items()}
    shapes |= {name: (*classes, *shapes[name][1:]) for name in heads}
    needed = {name: _form(shapes[name], wanted.target[name]) for name in state}
    wrong = [name for name, tensor in found.items() if _form(tuple(tensor.shape), tensor) != needed[name]]
    return [f"{name}: {_form(tuple(state[name].shape), state[name])}, not {needed[name]}" for name in wrong]


def _form(shape: tuple[int, ...], tensor: Tensor) -> str:
    return f"{shape}{'' if tensor.is_floating_point() else ' of whole numbers'}"


def _is_swollen(tensor: Tensor) -> bool:
    """One number that is repeated without end takes no room in a file, and all there is once it is computed with."""
    if _kind(tensor) not in READ:
        return False
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes() + REPEATED


def _kind(tensor: Tensor) -> str:
    dense = f"{tensor.layout}" == "torch.strided"
    return str(tensor.device if tensor.is_meta else tensor.dtype if dense else tensor.layout).removeprefix("torch.")


def _misfit(nearest: _Reading, wanted: _Wanted) -> str:
    names = [*(nearest.network.prefix + name for name in nearest.network.tensors), *nearest.network.beside]
    strangers = ((what, name) for pattern, what in STRANGERS.items() for name in names if re.search(pattern, name))
    for what, name in strangers:
        return f"holds {what} ({name[:80]!r}); allowed: names as timm's model.state_dict() has them"
    parts = []
    if nearest.missing:
        parts.append(f"{len(nearest.missing)} of {len(wanted.target)} parameters are missing ({_first(nearest.missing)})")
    if nearest.unknown:
        parts.append(f"{len(nearest.unknown)} are unknown ({_first(nearest.unknown)})")
    if nearest.misshapen:
        parts.append(f"{len(nearest.misshapen)} are of another shape or type ({nearest.misshapen[0]})")
    return f"does not fit the model: {'; '.join(parts)}"


def _note(best: _Reading, fitting: list[_Reading], wanted: _Wanted, path: Path) -> str:
    """What was undone, in one line; empty if nothing was."""
    dtypes = {_kind(tensor) for tensor in best.state.values() if tensor.is_floating_point()} - {"float32"}
    sizes = resized(best.state, wanted.module)
    changed = [name for name in best.state if name not in wanted.classifier and sizes[name].shape != best.state[name].shape]
    others = [repr(other.network.label) for other in fitting if other is not best and not _equal(best.state, other.state)]
    parts = [
        f"took {best.network.container!r}" * bool(best.network.container),
        f"without prefix {best.network.prefix!r}" * bool(best.network.prefix),
        "renamed by timm" * best.renamed,
        f"{_first(sorted(dtypes))} read as float32" * bool(dtypes),
        f"{_first(changed)} resampled to the size of the model" * bool(changed),
        f"left out {_grouped(best.left_out)}" * bool(best.left_out),
        f"also fits: {', '.join(others)} (origin.key chooses)" * bool(others),
    ]
    undone = "; ".join(part for part in parts if part)
    return said(path.name, undone) if undone else ""


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def _arrays(best: _Reading, path: Path) -> dict[str, np.ndarray]:
    plain = {name: tensor.detach() for name, tensor in best.state.items()}
    arrays = {name: (tensor.float() if tensor.is_floating_point() else tensor).numpy() for name, tensor in plain.items()}
    if broken := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise refusal(path, f"{len(broken)} parameters hold NaN or infinity ({_first(broken)}), as after a training that diverged")
    return arrays


def _first(names: list[str]) -> str:
    return ", ".join(name[:60] for name in names[:3]) + ", ..." * (len(names) > 3)


def _grouped(names: list[str]) -> str:
    """Names by how they begin, 'decoder_blocks.* (24), mask_token'."""
    counts = Counter(_beginning(name) for name in names)
    shown = [f"{name[:40]} ({count})" if count > 1 else name[:40] for name, count in counts.items()]
    return ", ".join(shown[:4]) + f" and {len(shown) - 4} more" * (len(shown) > 4)


def _beginning(name: str) -> str:
    steps = name.split(".")
    kept = 1 + (steps[0] in WRAPPERS)
    return ".".join(steps[:kept]) + ".*" * (len(steps) > kept)
