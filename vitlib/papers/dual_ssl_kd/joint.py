"""The joint objective: a student and the trainable ends of two teachers in one backward pass (equation 4)."""

from __future__ import annotations

from dataclasses import dataclass

from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from vitlib.methods.attention import AttentionTap, attention_confidence
from vitlib.methods.distillation.losses import attention_divergence, two_teacher_loss
from vitlib.papers.dual_ssl_kd.ends import entering_last_block, from_last_block
from vitlib.papers.dual_ssl_kd.specs import Joint

CL_HEAD, MIM_HEAD = 0, 1  # the student's heads 1 and 2


@dataclass(frozen=True)
class Outputs:
    """Logits (B, C) of the three networks, and their last blocks' attention maps in logarithms (B, heads, tokens, tokens)."""

    student: Tensor
    cl: Tensor
    mim: Tensor
    student_map: Tensor
    cl_map: Tensor
    mim_map: Tensor

    @property
    def logits(self) -> dict[str, Tensor]:
        return {"cl": self.cl, "mim": self.mim, "student": self.student}


class TwoTeachers(nn.Module):
    """Student, contrastive and masked-image teacher on one batch; the teachers stay in eval mode, whatever of them trains.

    Frozen blocks come first in a teacher, so nothing of them is kept for the backward pass, and what they give may be handed in.
    """

    def __init__(self, student: nn.Module, cl: nn.Module, mim: nn.Module):
        super().__init__()
        self.student, self.cl, self.mim = student, cl, mim
        self._taps = {name: AttentionTap(network.blocks[-1].attn) for name, network in self.named_children()}

    def forward(self, images: Tensor, entering: tuple[Tensor, ...] | None = None) -> Outputs:
        """`entering`: what `frozen` gives for these images, where it is known."""
        cl, mim = entering or self.frozen(images)
        logits = {"student": self.student(images), "cl": from_last_block(self.cl, cl), "mim": from_last_block(self.mim, mim)}
        logits = {name: values.float() for name, values in logits.items()}
        heads = {"student": [CL_HEAD, MIM_HEAD], "cl": None, "mim": None}
        return Outputs(**logits, **{f"{name}_map": tap.log_map(heads[name]) for name, tap in self._taps.items()})

    def frozen(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens that enter the last block of the contrastive and of the masked-image teacher."""
        return entering_last_block(self.cl, images), entering_last_block(self.mim, images)

    def no_weight_decay(self) -> set[str]:
        """timm asks the model which parameters to spare: those that the student alone would name."""
        return {f"student.{name}" for name in self.student.no_weight_decay()}

    def train(self, mode: bool = True) -> TwoTeachers:
        super().train(mode)
        self.cl.eval()
        self.mim.eval()
        return self


@dataclass(frozen=True)
class Terms:
    """The five terms of equation 4, their weighted sum, and the heads chosen of the teachers."""

    ce_student: Tensor
    ce_cl: Tensor
    ce_mim: Tensor
    output: Tensor
    attention: Tensor
    total: Tensor
    cl_head: Tensor
    mim_head: Tensor

    @property
    def history(self) -> dict[str, float]:
        names = ("ce_student", "ce_cl", "ce_mim", "output", "attention")
        return {name: float(getattr(self, name)) for name in names} | {"cl_head": int(self.cl_head), "mim_head": int(self.mim_head)}


def loss_terms(outputs: Outputs, targets: Tensor, spec: Joint) -> Terms:
    """Equation 4; of each teacher the head of the highest confidence in this batch teaches (equation 2)."""
    base = SoftTargetCrossEntropy()
    student, cl, mim = (base(logits, targets) for logits in (outputs.student, outputs.cl, outputs.mim))
    output = two_teacher_loss(outputs.student, outputs.cl, outputs.mim, spec.lambda_1)
    cl_head, mim_head = (surest_head(maps) for maps in (outputs.cl_map, outputs.mim_map))
    cl_map, mim_map = _head(outputs.cl_map, cl_head), _head(outputs.mim_map, mim_head)
    attention = spec.lambda_2 * attention_divergence(outputs.student_map[:, CL_HEAD], cl_map)
    attention = attention + (1 - spec.lambda_2) * attention_divergence(outputs.student_map[:, MIM_HEAD], mim_map)
    total = student + cl + mim + spec.output_weight * output + spec.attention_weight * attention
    return Terms(student, cl, mim, output, attention, total, cl_head, mim_head)


def surest_head(log_maps: Tensor) -> Tensor:
    """argmax over heads of the attention confidence (equation 2); it stays on the device, which need not be waited for."""
    return attention_confidence(log_maps.detach().exp()).argmax()


def _head(maps: Tensor, head: Tensor) -> Tensor:
    return maps.index_select(1, head.view(1)).squeeze(1)
