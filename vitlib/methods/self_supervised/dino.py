"""DINO: self-distillation with no labels.

Source: M. Caron et al., Emerging properties in self-supervised vision transformers (arXiv 2104.14294), sections 3.1-3.2.
Start from `SelfDistillation`, which holds student, teacher and centre; the functions are its equations.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dino_loss(student_logits: Tensor, teacher_logits: Tensor, center: Tensor, student_temp: float, teacher_temp: float | Tensor) -> Tensor:
    """H(P_t(x), P_s(x')) over all pairs of a teacher's view and another view of the student, mean over pairs and images (equation 3).

    P_s = softmax(Z_s / tau_s); P_t = softmax((Z_t - c) / tau_t), without gradient.

    Args:
        student_logits: (V B, K), view after view, the teacher's views first.
        teacher_logits: (2 B, K), the two global views.
        center: (1, K).
    """
    batch = len(teacher_logits) // 2
    log_student = F.log_softmax(_single(student_logits) / student_temp, dim=-1).split(batch)
    teacher = F.softmax((_single(teacher_logits.detach()) - center) / teacher_temp, dim=-1).split(batch)
    terms = [-(p * log_q).sum(dim=-1).mean() for i, p in enumerate(teacher) for j, log_q in enumerate(log_student) if i != j]
    return torch.stack(terms).mean()


def moved_center(center: Tensor, teacher_logits: Tensor, momentum: float) -> Tensor:
    """c <- m c + (1 - m) mean of the teacher's logits over views and images (equation 4)."""
    return momentum * center + (1 - momentum) * _single(teacher_logits).mean(dim=0, keepdim=True)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """theta_t <- l theta_t + (1 - l) theta_s, for every parameter."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)


def cosine(start: float, end: float, progress: float) -> float:
    """From start at progress 0 to end at 1, along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def warmed_up(start: float, end: float, progress: float, warmup: float) -> float:
    """Linear from start to end over the first share `warmup` of training, then end."""
    return end if progress >= warmup else start + (end - start) * progress / warmup


class ProjectionHead(nn.Module):
    """Three-layer perceptron, l2 normalisation, and a last layer whose rows have norm 1 (its weight norm's g fixed at 1)."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )  # fmt: skip
        self.last = nn.Linear(bottleneck, prototypes, bias=False)
        for layer in self.mlp[::2]:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) to logits (B, prototypes), each a cosine."""
        return F.linear(F.normalize(self.mlp(features), dim=-1), F.normalize(self.last.weight, dim=-1))


class SelfDistillation(nn.Module):
    """Student, teacher and centre; calling it with views gives the loss and moves the centre.

    Args:
        backbone: timm model without classifier that takes images of several sizes; its copy is the teacher.
        head: from the backbone's features to prototypes.
    """

    def __init__(self, backbone: nn.Module, head: ProjectionHead, *, student_temp: float, center_momentum: float):
        super().__init__()
        self.student = nn.Sequential(backbone, head)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("center", torch.zeros(1, head.last.out_features))
        self.student_temp, self.center_momentum = student_temp, center_momentum

    def train(self, mode: bool = True) -> SelfDistillation:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, global_views: Tensor, local_views: Tensor, teacher_temp: float | Tensor) -> Tensor:
        """Loss of global views (2 B, C, H, W) and local views (L B, C, h, w), view after view."""
        with torch.no_grad():
            teacher_logits = self.teacher(global_views)
        student_logits = torch.cat([self.student(global_views), self.student(local_views)])
        loss = dino_loss(student_logits, teacher_logits, self.center, self.student_temp, teacher_temp)
        self.center.copy_(moved_center(self.center, teacher_logits, self.center_momentum))
        return loss


def _single(logits: Tensor) -> Tensor:
    """In float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
