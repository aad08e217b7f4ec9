"""Which weights matter: SNIP, ReFer and AFR scores, magnitude and chance, for any weights of any model.

Scores are float32 on the CPU, by parameter name. Gradients are summed over batches with their sign, and made absolute at the end.
Sources: SNIP (N. Lee et al., ICLR 2019) and, for ReFer and AFR, the document's equations 1-4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlib.inputs.models import in_eval_mode
from vitlib.methods.adapters.weight_copy import features as streams_after
from vitlib.methods.adapters.weight_copy import prefix_tokens
from vitlib.methods.pruning.masks import prunable
from vitlib.spec import SpecError

Scores = dict[str, Tensor]
Weights = dict[str, nn.Parameter]
Features = Callable[[nn.Module, Tensor], list[Tensor]]
Rows = Literal["class", "patch_mean", "tokens", "images"]
Scale = Literal["z", "rank", "log"]
Scope = Literal["global", "layer"]


def snip(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], weights: Weights) -> Scores:
    """|dL/dw w|, L the mean cross-entropy over all samples (equation 1).

    Args:
        batches: images (B, C, H, W) and labels (B,), walked through once.

    Raises:
        SpecError: if every gradient is zero, as with a classifier that starts at zero.
    """
    samples = 0
    with _gradients(model, weights):
        for images, labels in batches:
            F.cross_entropy(model(images), labels, reduction="sum").backward()
            samples += len(images)
        _require_samples(samples)
        scores = _scores(weights, samples)
    if not any(bool(score.any()) for score in scores.values()):
        raise SpecError("model: every gradient of the loss is zero, so SNIP ranks nothing; draw the classifier's weights at random")
    return scores


def refer(
    model: nn.Module, batches: Callable[[], Iterable[Tensor]], weights: Weights, features: Features, *, center: bool = False
) -> Scores:
    """|d(sum_l F_l)/dw w| with F_l = (1/N) sum_i sigma_i(F^l) (equation 2), exact over any number of batches.

    The nuclear norm is no sum over batches, so they are walked through twice: features are collected without gradients and
    G^l = U V^T / N formed; then sum_l <F^l, G^l> is sent back batch by batch, G constant.

    Args:
        batches: gives the images, the same each time.
        features: matrices (B, D) of a batch whose rows all belong together, or (B, T, D), each image a matrix of its own.
        center: take the mean over rows from each F^l first.
    """
    with _gradients(model, weights):
        with torch.no_grad():
            collected = [features(model, images) for images in batches()]
        _require_samples(len(collected))
        wholes = [torch.cat(layer) for layer in zip(*collected, strict=True)]
        directions = [spread_gradient(whole, center) for whole in wholes]
        first = 0
        for images, done in zip(batches(), collected, strict=True):
            rows = len(done[0])
            parts = [direction[first : first + rows] for direction in directions]
            torch.stack([(f * g).sum() for f, g in zip(features(model, images), parts, strict=True)]).sum().backward()
            first += rows
        return _scores(weights, 1)


def afr(refer_scores: Scores, snip_scores: Scores, *, scope: Scope = "global", scale: Scale = "z") -> Scores:
    """Standardised ReFer plus standardised SNIP (equations 3 and 4)."""
    one, other = (standardised(scores, scope=scope, scale=scale) for scores in (refer_scores, snip_scores))
    return {name: one[name] + other[name] for name in one}


def magnitude(weights: Weights) -> Scores:
    return {name: weight.detach().abs().float().cpu() for name, weight in weights.items()}


def chance(weights: Weights, seed: int) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()}


def standardised(scores: Scores, *, scope: Scope = "global", scale: Scale = "z") -> Scores:
    """Mean 0 and standard deviation 1 over all scores together, or ('layer') over each matrix.

    `scale` says of what: of the scores ('z', the document's), of their ranks (in float64), or of their logarithms.
    """
    if scope == "layer":
        return {name: standardised({name: score}, scale=scale)[name] for name, score in scores.items()}
    flat = _rescaled(torch.cat([score.flatten() for score in scores.values()]), scale)
    flat = flat / flat.abs().max().clamp(min=torch.finfo(flat.dtype).tiny)  # its squares stay within the range of float32
    flat = flat - float(flat.mean(dtype=torch.float64))
    deviation = float(flat.square().mean(dtype=torch.float64).sqrt())
    if deviation < 1e-12:
        raise SpecError(f"scores: all {len(flat)} of {', '.join(scores)[:80]} are equal; nothing to standardise")
    parts = (flat / deviation).split([score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}


def mean_singular_value(features: Tensor) -> float:
    """(1/N) sum_i sigma_i of features (N, D), or its mean over images (N, T, D), the N there being T."""
    return float(torch.linalg.svdvals(features.double()).sum(dim=-1).mean() / features.shape[-2])


def spread_gradient(features: Tensor, center: bool = False) -> Tensor:
    """Gradient of the mean singular value: U V^T / N for (N, D); for (B, T, D) that of each image's, over B."""
    polar = polar_factor if features.ndim == 2 else lambda images: torch.stack([polar_factor(image) for image in images])
    if center:
        whole = features.double()
        direction = polar(whole - whole.mean(dim=-2, keepdim=True))
        direction = direction - direction.mean(dim=-2, keepdim=True)  # of a zero singular value, whose left vector is constant
    else:
        direction = polar(features)
    return (direction / features.shape[:-1].numel()).to(features.dtype)


def polar_factor(matrix: Tensor, trusted: float = 1e-9) -> Tensor:
    """U V^T of the thin SVD of a matrix (N, D), singular values that are zero left out; computed in float64.

    By the eigenvectors of the smaller Gram matrix, whose eigenvalues are the squared singular values; where their range is wider
    than `trusted`, that loses too many digits, and the SVD itself is taken.
    """
    wide = matrix.double() if matrix.shape[0] <= matrix.shape[1] else matrix.double().mT
    squares, vectors = torch.linalg.eigh(wide @ wide.mT)
    if squares[0] > trusted * squares[-1]:
        factor = (vectors * squares.rsqrt()) @ (vectors.mT @ wide)
    else:
        u, sigma, vt = torch.linalg.svd(wide, full_matrices=False)
        kept = sigma > sigma[0] * max(wide.shape) ** 0.5 * torch.finfo(matrix.dtype).eps
        factor = u[:, kept] @ vt[kept]
    return (factor if matrix.shape[0] <= matrix.shape[1] else factor.mT).to(matrix.dtype)


def block_features(rows: Rows) -> Features:
    """F^l of a timm transformer: the output of each block, before the final norm.

    'class': the class token's row, (B, D); 'patch_mean': the mean of the patches, (B, D); 'tokens': every token of every image a row,
    (B tokens, D); 'images': a matrix for each image, (B, tokens, D).
    """

    def features(model: nn.Module, images: Tensor) -> list[Tensor]:
        streams = streams_after(model, images, list(range(len(model.blocks))))
        return [_rows(stream, rows, prefix_tokens(model)) for stream in streams]

    return features


def linear_features(rows: Rows) -> Features:
    """F^l of a timm transformer: the output of each Linear of `prunable`, so qkv, proj, fc1 and fc2 of each block, in this order.

    Rows as those of `block_features`, of the Linear's own width. They are taken as soon as it has computed, so that with 'class' and
    'patch_mean' a pass without gradients holds nothing else of its output.
    """

    def features(model: nn.Module, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = []

        def take(layer: nn.Module, inputs: tuple[Tensor, ...], tokens: Tensor) -> None:
            found.append(_rows(tokens, rows, prefix_tokens(model)))

        with ExitStack() as hooks:
            for name in prunable(model):
                layer = model.get_submodule(name.removesuffix(".weight"))
                hooks.enter_context(layer.register_forward_hook(take))
            model.forward_features(images)
        return found

    return features


def _rows(tokens: Tensor, rows: Rows, prefix_tokens: int) -> Tensor:
    """A layer's matrix of rows, from its output (B, tokens, D)."""
    return {
        "class": lambda: tokens[:, 0].clone(),  # a view would hold on to every token
        "patch_mean": lambda: tokens[:, prefix_tokens:].mean(dim=1),
        "tokens": lambda: tokens.flatten(0, 1),
        "images": lambda: tokens,
    }[rows]()


@contextmanager
def _gradients(model: nn.Module, weights: Weights) -> Iterator[None]:
    """Eval mode, gradients for these weights alone and none stored; afterwards all is as it was."""
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    for weight in weights.values():
        weight.requires_grad_(True).grad = None
    try:
        with in_eval_mode(model):
            yield
    finally:
        for parameter, wanted, gradient in before:
            parameter.requires_grad_(wanted).grad = gradient


def _require_samples(count: int) -> None:
    if not count:
        raise SpecError("batches: got none; allowed: at least one image")


@torch.no_grad()
def _scores(weights: Weights, samples: int) -> Scores:
    """|gradient x weight| / samples; a weight that nothing depends on scores zero."""
    gradients = {name: torch.zeros_like(weight) if weight.grad is None else weight.grad for name, weight in weights.items()}
    return {name: (gradients[name] * weight).abs_().div_(samples).cpu() for name, weight in weights.items()}


def _rescaled(flat: Tensor, scale: Scale) -> Tensor:
    if scale == "rank":
        from scipy.stats import rankdata  # slow to import

        return torch.from_numpy(rankdata(flat.numpy()))  # float64: float32 merges neighbours above 2^24 scores
    if scale == "log" and bool(flat.any()):
        return flat.clamp(min=float(flat[flat > 0].min())).log()
    return flat
