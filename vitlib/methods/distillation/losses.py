"""Distillation losses and the readouts of a student with a distillation token.

Sources: H. Touvron et al., Training data-efficient image transformers & distillation through attention (DeiT,
arXiv 2012.12877), equations 2 and 3; the document of dual_ssl_kd, equations 1 and 3. Start from `soft_distillation_loss`,
`hard_distillation_loss`, `readouts`, `two_teacher_loss`, `attention_divergence`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def soft_distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, reduction: Literal["batchmean", "numel"] = "batchmean"
) -> Tensor:
    """tau^2 KL(softmax(Z_t / tau) || softmax(Z_s / tau)): the second term of DeiT's equation 2, without its weight.

    The equation prints the arguments as (student, teacher); its code computes KL(teacher || student), followed here.

    Args:
        student_logits, teacher_logits: (B, C).
        reduction: 'batchmean' is the equation; 'numel' divides by B C as the reference code does (C times smaller).
    """
    divergence = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=-1),
        F.log_softmax(teacher_logits / temperature, dim=-1),
        reduction="sum",
        log_target=True,
    )
    count = len(student_logits) if reduction == "batchmean" else student_logits.numel()
    return temperature**2 * divergence / count


def hard_distillation_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """CE(Z_s, y_t) with y_t = argmax Z_t: the second term of DeiT's equation 3, without its weight; logits (B, C)."""
    return F.cross_entropy(student_logits, teacher_logits.argmax(dim=-1))


def two_teacher_loss(student_logits: Tensor, cl_logits: Tensor, mim_logits: Tensor, lambda_1: float) -> Tensor:
    """l1 KL(p_CL || p_S) + (1 - l1) KL(p_MIM || p_S), both teachers without gradient (dual_ssl_kd, equation 1); logits (B, C)."""
    cl, mim = (soft_distillation_loss(student_logits, logits.detach(), 1.0) for logits in (cl_logits, mim_logits))
    return lambda_1 * cl + (1 - lambda_1) * mim


def attention_divergence(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(A_T || A_S) of attention maps (B, tokens, tokens) given as logarithms, mean over images and queries; no gradient to A_T."""
    rows = F.kl_div(log_student, log_teacher.detach(), reduction="none", log_target=True).sum(dim=-1)
    return rows.mean()


def weighted(base_loss: Tensor, distillation_loss: Tensor, kd_weight: float) -> Tensor:
    """(1 - lambda) base + lambda distillation, as in equations 2 and 3 (there lambda = 1/2)."""
    return (1 - kd_weight) * base_loss + kd_weight * distillation_loss


def train_logits(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Class-head and distillation-head logits, each (B, C), in train mode; a model of one head gives its logits twice.

    A distilled timm model must be in `set_distilled_training(True)`, otherwise it averages its heads.
    """
    output = model(images)
    class_logits, dist_logits = output if isinstance(output, tuple) else (output, output)
    return class_logits.float(), dist_logits.float()


def token_logits(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Each head on its own token, in eval mode: (class,) or (class, distillation), each (B, C)."""
    if not hasattr(model, "dist_token"):  # others with two heads, as LeViT and PiT, mean them themselves
        return (model(images),)
    features = model.forward_features(images)
    return model.head(features[:, 0]), model.head_dist(features[:, 1])


def softmax_sum(class_logits: Tensor, dist_logits: Tensor) -> Tensor:
    """Late fusion of the paper: the sum of the two softmax outputs; (B, C)."""
    return class_logits.softmax(dim=-1) + dist_logits.softmax(dim=-1)


def logit_mean(class_logits: Tensor, dist_logits: Tensor) -> Tensor:
    """Fusion of the reference code and timm: the mean of the two logits; (B, C)."""
    return (class_logits + dist_logits) / 2


def readouts(logits: list[Tensor] | tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Scores (N, C) by readout: 'class' alone, or 'class', 'distillation' and both fusions."""
    if len(logits) == 1:
        return {"class": logits[0]}
    return {
        "class": logits[0],
        "distillation": logits[1],
        "class+distillation": softmax_sum(*logits),
        "logit mean": logit_mean(*logits),
    }


def token_cosines(model: nn.Module, images: Tensor) -> Tensor:
    """Cosine of the two prefix tokens at the input and after each block; (B, depth + 1).

    Source: DeiT, section 4 ('distillation token'): 0.06 at the input, 0.93 at the last layer.
    """
    at_input = torch.stack([model.cls_token[:, 0], model.dist_token[:, 0]], dim=1) + model.pos_embed[:, :2]
    _, blocks = zip(*model.forward_intermediates(images, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True), strict=True)
    prefixes = [at_input.expand(len(images), -1, -1), *blocks]
    return torch.stack([F.cosine_similarity(tokens[:, 0], tokens[:, 1], dim=-1) for tokens in prefixes], dim=1)
