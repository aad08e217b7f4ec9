"""The joint objective: a student and the trainable ends of two teachers in one backward pass (equation 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from vitlib.methods.attention import AttentionTap, attention_confidence
from vitlib.methods.distillation.losses import attention_divergence, two_teacher_loss
from vitlib.papers.dual_ssl_kd.ends import entering_last_blocks, from_last_blocks
from vitlib.papers.dual_ssl_kd.specs import AttentionTerm, Joint

TAUGHT_HEADS = {"cl": 0, "mim": 1}  # the student's heads 1 and 2, by their teacher
Maps = dict[int, Tensor]  # attention in logarithms (B, heads, tokens, tokens), by block counted from the end
Heads = dict[str, dict[int, Tensor]]  # index of the head that teaches, by teacher and block


@dataclass(frozen=True)
class Outputs:
    """Logits (B, C) of the three networks, and the maps of their blocks: the teachers' without gradient, the student's of heads 1 and 2."""

    student: Tensor
    cl: Tensor
    mim: Tensor
    student_maps: Maps
    cl_maps: Maps
    mim_maps: Maps

    @property
    def teacher_maps(self) -> dict[str, Maps]:
        return {"cl": self.cl_maps, "mim": self.mim_maps}


class TwoTeachers(nn.Module):
    """Student, contrastive and masked-image teacher on one batch; the teachers stay in eval mode, whatever of them trains.

    Frozen blocks come first in a teacher, so nothing of them is kept for the backward pass, and what those give whose attention is not
    asked for may be handed in.
    """

    def __init__(
        self,
        student: nn.Module,
        cl: nn.Module,
        mim: nn.Module,
        attention: AttentionTerm = AttentionTerm(),  # noqa: B008  (frozen)
        teacher_lr_scale: float = 1.0,
    ):
        super().__init__()
        self.student, self.cl, self.mim = student, cl.eval(), mim.eval()
        self._depth, self._teacher_lr_scale = attention.blocks[-1], teacher_lr_scale
        self._left_out = {name: left_out(network, attention.tokens) for name, network in self.named_children()}
        self._taps = {name: tapped(network, attention.blocks) for name, network in self.named_children()}

    def forward(self, images: Tensor, entering: tuple[Tensor, ...] | None = None) -> Outputs:
        """`entering`: what `frozen` gives for these images, where it is known."""
        logits = self.logits(images, entering or self.frozen(images))
        student_maps = self._maps("student", list(TAUGHT_HEADS.values()))
        with torch.no_grad():  # teachers teach, they do not follow
            cl_maps, mim_maps = self._maps("cl"), self._maps("mim")
        return Outputs(**logits, student_maps=student_maps, cl_maps=cl_maps, mim_maps=mim_maps)

    def logits(self, images: Tensor, entering: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Logits (B, C) of the three networks, float32."""
        student, entering = self.student(images), dict(zip(("cl", "mim"), entering, strict=True))
        ends = {name: from_last_blocks(getattr(self, name), tokens, self._depth) for name, tokens in entering.items()}
        return {name: logits.float() for name, logits in {"student": student, **ends}.items()}

    def frozen(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the contrastive and of the masked-image teacher that enter the first block whose attention is asked for."""
        return entering_last_blocks(self.cl, images, self._depth), entering_last_blocks(self.mim, images, self._depth)

    def no_weight_decay(self) -> set[str]:
        """timm asks the model which parameters to spare: those that the student alone would name."""
        return {f"student.{name}" for name in self.student.no_weight_decay()}

    def lr_scales(self) -> dict[str, float]:
        """`make_optimizer` asks the model which parameters have a rate of their own: the teachers' at another scale than 1."""
        return {} if self._teacher_lr_scale == 1 else {"cl.": self._teacher_lr_scale, "mim.": self._teacher_lr_scale}

    def train(self, mode: bool = True) -> TwoTeachers:
        self.training = mode
        self.student.train(mode)
        return self

    def _maps(self, name: str, heads: list[int] | None = None) -> Maps:
        return {block: tap.log_map(heads, self._left_out[name]) for block, tap in self._taps[name].items()}


def tapped(network: nn.Module, blocks: tuple[int, ...]) -> dict[int, AttentionTap]:
    """By block, counted from the end."""
    return {block: AttentionTap(network.blocks[-block].attn) for block in blocks}


def left_out(network: nn.Module, tokens: str) -> int:
    """How many first tokens the attention term leaves out of the network's maps."""
    return {"all": 0, "patches": network.num_prefix_tokens}[tokens]


@dataclass(frozen=True)
class Terms:
    """The five terms of equation 4, their weighted sum, and the heads chosen of the teachers."""

    ce_student: Tensor
    ce_cl: Tensor
    ce_mim: Tensor
    output: Tensor
    attention: Tensor
    total: Tensor
    heads: Heads

    @property
    def history(self) -> dict[str, float]:
        """The terms and the chosen heads: cl_head and mim_head in the last block, 'cl_head 2' in the one before it, and so on."""
        names = ("ce_student", "ce_cl", "ce_mim", "output", "attention")
        heads = {f"{name}_head {block}": int(head) for name, chosen in self.heads.items() for block, head in chosen.items()}
        return {name: float(getattr(self, name)) for name in names} | {name.removesuffix(" 1"): head for name, head in heads.items()}


def loss_terms(outputs: Outputs, targets: Tensor, spec: Joint, heads: Heads | None = None, output_share: float = 1.0) -> Terms:
    """Equation 4.

    Args:
        heads: those of the teachers that teach; None takes the surest in this batch (equation 2).
        output_share: of the output term's weight.
    """
    base = SoftTargetCrossEntropy()
    student, cl, mim = (base(logits, targets) for logits in (outputs.student, outputs.cl, outputs.mim))
    output = two_teacher_loss(outputs.student, outputs.cl, outputs.mim, spec.lambda_1)
    heads = heads or surest_heads(outputs)
    attention = attention_term(outputs, heads, spec.lambda_2)
    total = student + cl + mim + output_share * spec.output_weight * output + spec.attention_weight * attention
    return Terms(student, cl, mim, output, attention, total, heads)


def attention_term(outputs: Outputs, heads: Heads, lambda_2: float) -> Tensor:
    """Equation 3, mean over the blocks; a teacher of share zero is left out."""
    maps, shares = outputs.teacher_maps, {"cl": lambda_2, "mim": 1 - lambda_2}
    pulls = [
        share * attention_divergence(student[:, TAUGHT_HEADS[name]], _head(maps[name][block], heads[name][block]))
        for block, student in outputs.student_maps.items()
        for name, share in shares.items()
        if share
    ]
    return sum(pulls) / len(outputs.student_maps)


def surest_heads(outputs: Outputs) -> Heads:
    """Of each teacher and block, the head of the highest confidence in this batch (equation 2)."""
    return {name: {block: surest_head(log_maps) for block, log_maps in maps.items()} for name, maps in outputs.teacher_maps.items()}


def surest_head(log_maps: Tensor) -> Tensor:
    """argmax over heads of the attention confidence (equation 2); it stays on the device, which need not be waited for."""
    return attention_confidence(log_maps.detach().exp()).argmax()


class Ramp:
    """The share of the output term's weight: from 0 linearly to 1 over the first `epochs` of the training's, then 1."""

    def __init__(self, epochs: float, training_epochs: int):
        self._length, self.share = epochs / training_epochs, 1.0

    @contextmanager
    def around_step(self, progress: float) -> Iterator[float]:
        """For `train`, which says the share of training that is done."""
        self.share = 1.0 if progress >= self._length else progress / self._length
        yield self.share


def _head(maps: Tensor, head: Tensor) -> Tensor:
    return maps.index_select(1, head.view(1)).squeeze(1)
