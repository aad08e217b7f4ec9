"""Batch norm over all processes that share a run: the statistics of one process that has the whole batch.

On GPUs it is torch's SyncBatchNorm, as timm puts it into a model. That refuses CPUs, where `Synchronised` takes its place: mean and
variance as sums over the processes, by their definition, and gradients through these sums. Start from `synchronise`.
"""

from __future__ import annotations

import torch
from timm.layers import convert_sync_batchnorm
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vitlib import distributed
from vitlib.spec import SpecError


def synchronise(model: nn.Module, device: str) -> None:
    """Replace a model's batch norms, in place; where one process has the run, they stay as they are.

    Raises:
        SpecError: for a model that has none.
    """
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise SpecError("recipe.sync_batchnorm: got True, and the model has no batch norm; allowed: False")
    if distributed.processes() > 1:
        convert = convert_sync_batchnorm if device.startswith("cuda") else _synchronised
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, _BatchNorm):
                    setattr(parent, name, convert(child))


class Synchronised(_BatchNorm):
    """Batch norm of (B, C, ...) whose training statistics are those of every process's images, whatever their numbers."""

    def forward(self, images: Tensor) -> Tensor:
        return self._normalised(images) if self.training else super().forward(images)

    def _normalised(self, images: Tensor) -> Tensor:
        values = images.float()
        others = [axis for axis in range(values.dim()) if axis != 1]
        per_channel = [1, -1] + [1] * (values.dim() - 2)
        count = values.numel() // values.shape[1]
        sums = _Sum.apply(torch.cat([values.sum(others), values.new_tensor([count])]))
        mean, number = sums[:-1] / sums[-1], sums[-1].detach()
        centred = values - mean.view(per_channel)
        variance = _Sum.apply(centred.square().sum(others)) / number
        self._follow(mean.detach(), variance.detach() * number / (number - 1))
        normalised = centred * (variance + self.eps).rsqrt().view(per_channel)
        if self.affine:
            normalised = normalised * self.weight.view(per_channel) + self.bias.view(per_channel)
        return normalised.to(images.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    def _check_input_dim(self, images: Tensor) -> None:
        """Any that has channels."""


class SynchronisedAct(Synchronised):
    """With timm's activation after it."""

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(images)))


class _Sum(torch.autograd.Function):
    """Sum over the processes; the gradient of each process's share is the sum of theirs."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        return _added_up(values)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _added_up(gradient)


def _added_up(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.add_up(total)
    return total


def _synchronised(module: _BatchNorm) -> Synchronised:
    """The same parameters and buffers in another layer."""
    kind = SynchronisedAct if isinstance(module, BatchNormAct2d) else Synchronised
    found = kind(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
    found.weight, found.bias, found.training = module.weight, module.bias, module.training
    for name, buffer in module.named_buffers(recurse=False):
        setattr(found, name, buffer)
    if isinstance(module, BatchNormAct2d):
        found.drop, found.act = module.drop, module.act
    return found
