"""What each method needs of a model, checked by `vitlib.inputs.foreign.demands` when a study is loaded. Imports no torch.

Every timm model can be trained, distilled from and probed: what a classifier reads is the model's own `forward_head(pre_logits=True)`.
What reads more is said here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitlib.inputs.foreign.architecture import Architecture, architecture
from vitlib.inputs.foreign.demands import Need, Needs
from vitlib.inputs.models import Model
from vitlib.spec import SpecError

BLOCKS = Need("chain of equal transformer blocks", lambda found: found.depth > 0)
MATRICES = Need("linear qkv, proj, fc1 and fc2 in its blocks", lambda found: found.matrices)
CLASS_TOKEN = Need("class token in its blocks", lambda found: found.class_token)
MAPS = Need("attention between all of its tokens that could be read", lambda found: found.maps)
PLAIN_ATTENTION = Need("attention that follows from its qkv layers alone", lambda found: found.plain_attention)
OPEN_END = Need("forward pass of timm's VisionTransformer", lambda found: found.open_end)
ONE_CLASSIFIER = Need("single classifier", lambda found: found.classifiers == 1)
FOUR_BLOCKS = Need("blocks for exits after a quarter, half and three quarters of them", lambda found: found.depth == 0 or found.depth >= 4)
TWO_TOKENS = Need("class and distillation token", lambda found: found.classifiers == 2 and found.prefix_tokens == 2)
POOLED_TOKENS = Need("pooling of tokens that could be replaced", lambda found: found.open_end and not found.attention_pooling)

PRUNING = Needs("AFR pruning", (BLOCKS, MATRICES))
CLASS_ROWS = Needs("pruning.rows = 'class'", (CLASS_TOKEN,), "pruning.rows = 'patch_mean', 'tokens' or 'images', or another model")
LINEAR_ROWS = Needs("pruning.layers = 'linears'", (PLAIN_ATTENTION,), "pruning.layers = 'blocks', or another model")
WEIGHT_COPY = Needs("weight copy", (BLOCKS,))
ADAPTERS = Needs("WeCoLoRA", (BLOCKS, MATRICES))
ATTENTION_MAPS = Needs("an attention map", (BLOCKS, MAPS))
ATTENTION_TERM = Needs("the attention term", (BLOCKS, PLAIN_ATTENTION))
LAST_BLOCKS = Needs("training the last blocks on what the frozen ones give", (BLOCKS, OPEN_END, ONE_CLASSIFIER))
DEEPEST_END = Needs("multi-distillation", (ONE_CLASSIFIER,))
EXITS = Needs("skd_loss", (FOUR_BLOCKS,), "at least 4 blocks, a ResNet, or c = 0")
LINEAR = Needs("linear evaluation", (ONE_CLASSIFIER,))
CLASS_READOUT = Needs("readout = 'class'", (CLASS_TOKEN, POOLED_TOKENS), "readout = 'own', or another model")
MEAN_READOUT = Needs("readout = 'mean'", (POOLED_TOKENS,), "readout = 'own', or another model")
READOUTS = {"own": (), "class": (CLASS_READOUT,), "mean": (MEAN_READOUT,)}
TWO_HEADS = Needs(
    "the attention term", (Need("two heads, one for each teacher", lambda found: found.heads >= 2),), "num_heads of at least 2"
)
TOKENS = Needs("looking at both tokens", (BLOCKS, MAPS, TWO_TOKENS))


def maps_like(student: Architecture, of_patches: bool, deepest: int) -> Needs:
    """Attention maps of the student's size, in as many last blocks as are taught."""
    counted = "patches" if of_patches else "tokens"
    size = getattr(student, counted)
    same = Need(f"maps of {size} {counted}, as the student has", lambda found: getattr(found, counted) == size)
    deep = Need(f"{deepest} blocks", lambda found: found.depth >= deepest)
    return Needs("the attention term", (same, deep), "attention.tokens = 'patches' for teachers with registers, or fewer attention.blocks")


@dataclass(frozen=True)
class StagesFit:
    """A demand: the stages, as many as a student of this teacher has, leave an epoch for the whole student."""

    teacher: Model
    image_size: int
    channels: int
    reduction: int
    staged_epochs: int
    epochs: int

    def check(self, data_dir: Path) -> None:
        """Refuse stages that leave none.

        Raises:
            SpecError: saying how many epochs they need.
        """
        depth = architecture(self.teacher, self.image_size, self.channels).depth
        staged = self.staged_epochs * (-(-depth // self.reduction) - 1)
        if staged >= self.epochs:
            raise SpecError(
                f"staged_epochs={self.staged_epochs} leave none of {self.epochs} epochs for the whole student; "
                f"allowed: recipe.epochs above {staged}, or fewer staged_epochs"
            )
