"""A GPU that is not there: its tensors are computed on the CPU, and refuse to meet the CPU's own as those of a GPU would.

For processes of their own: `install` changes torch for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
MOVES = {"aten::_to_copy", "aten::copy_", "aten::to", "aten::_has_compatible_shallow_copy_type"}
watching: list[Callable[[Any, tuple, dict], None]] = []  # told of every operation before it is computed
ROUNDED = ("linear", "conv2d", "matmul", "mm", "bmm", "addmm", "scaled_dot_product_attention")  # by autocast, as on a GPU
EXACT = ("layer_norm", "softmax.int", "log_softmax.int", "cross_entropy_loss", "cdist", "norm.ScalarOpt_dim")  # float32, as there
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}  # a GPU takes indices from the CPU


_KEPT: list[torch.library.Library] = []  # what is registered is forgotten with its library


class Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class There(Tensor):
    """A tensor that says it is on the device; `held` is what it computes with."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        about = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype, "layout": held.layout}
        tensor = Tensor._make_wrapper_subclass(cls, held.size(), device=torch.device(NAME, 0), **about)
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None) -> Any:
        return run(operation, args, kwargs or {})


class Everywhere(TorchDispatchMode):
    """Also for operations that make tensors from nothing but a device."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None) -> Any:
        return run(operation, args, kwargs or {})


def install() -> Everywhere:
    """The device's registration; tensors can be made there while the returned context is entered."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) is made on the CPU and moved
    _teach_autocast()
    torch.__future__.set_swap_module_params_on_conversion(True)
    return Everywhere()


def _teach_autocast() -> None:
    """What autocast does there: some operations in the lower precision, some in float32, the rest as their arguments come."""
    for library in (others := torch.library.Library("_", "IMPL"), products := torch.library.Library("aten", "IMPL")):
        _KEPT.append(library)
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for names, dtype in ((ROUNDED, torch.bfloat16), (EXACT, torch.float32)):
        for name in names:
            products.impl(name, _cast(name, dtype), "AutocastPrivateUse1")


def _cast(name: str, dtype: torch.dtype) -> Callable:
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    def computed(*args, **kwargs) -> Any:
        with torch.autocast(NAME, enabled=False):
            return operation(*tree_map(cast, args), **tree_map(cast, kwargs))

    return computed


def run(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Compute an operation on what its tensors hold; what it gives is there if it was asked to be, or its arguments are."""
    for watch in watching:
        watch(operation, args, kwargs)
    leaves = tree_leaves((args, kwargs))
    there = {id(leaf.held): leaf for leaf in leaves if isinstance(leaf, There)}
    if there:
        refuse_mixture(operation.name().partition(".")[0], args, leaves)
    result = operation(*tree_map(_held, args), **{name: tree_map(_held, value) for name, value in kwargs.items() if name != "pin_memory"})
    if operation is torch.ops.aten.copy_.default:
        return args[0]
    devices = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    if devices[-1].type != NAME if devices else not there:
        return tree_map(lambda value: value.clone() if id(value) in there else value, result)
    with torch.inference_mode(False):
        return tree_map(lambda value: _placed(value, there), result)


def refuse_mixture(name: str, args: tuple, leaves: list[Any]) -> None:
    """A GPU's rule: numbers (0-dimensional tensors) and indices may come from the CPU, nothing else."""
    strangers = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim and not isinstance(leaf, There)]
    if strangers and name not in MOVES and not (name in INDEXING and isinstance(args[0], There)):
        raise RuntimeError(f"{name}: tensors on {NAME} and on the CPU")


def _held(value: Any) -> Any:
    if isinstance(value, There):
        return value.held
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value


def _placed(value: Any, there: dict[int, There]) -> Any:
    """An operation in place gives its argument."""
    if id(value) in there:
        return there[id(value)]
    return There(value) if isinstance(value, Tensor) else value
