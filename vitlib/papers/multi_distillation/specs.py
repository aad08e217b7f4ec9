"""Multi-distillation: its runs. search/settings.py holds what fills the tables' grids with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vitlib.inputs.foreign.demands import TrainsOn, Uses
from vitlib.inputs.models import Positive, ResNet, Vit
from vitlib.inputs.sources import Data
from vitlib.methods import needs
from vitlib.papers.multi_distillation.search.space import Space, Weights
from vitlib.papers.multi_distillation.training.reading import Above, Objective
from vitlib.recipe import Recipe, WholeBatches
from vitlib.spec import Demand, RunSpec

Network = Vit | ResNet
Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Alone(RunSpec):
    """One network by cross-entropy alone: the baseline, a frozen teacher, or where a peer starts from; it keeps its weights.

    Args:
        held_out: share of the training images left out of training, by class, for selection.
        measured_on: `held-out` or `test`.
        label_weight: factor of the loss, which sets the effective step.
    """

    version: ClassVar[int] = 2

    model: Network
    data: Data
    recipe: Recipe
    seed: Seed
    held_out: Share
    measured_on: Literal["held-out", "test"]
    label_weight: Above = 1.0

    def demands(self) -> Iterator[Demand]:
        yield Uses("model", self.model, self.data.image_size, self.data.channels, (needs.DEEPEST_END,))
        yield TrainsOn(self.data, self.recipe.batch_size, self.held_out)


class Combined(RunSpec):
    """Two peers that teach each other and, by exits where c is above 0, themselves; or one such student of a frozen teacher.

    Args:
        seed: of the batches.
        peers: seeds of the two networks, which must differ: equal ones would have nothing to teach.
        order: the three losses in one step on their sum (`together`), in three `successive` steps on each batch, or in three
            `phases` of training, kd first.
        teacher: frozen, in the second peer's place.
        warm_start: networks that the peers start from.
        held_out, measured_on: as in `Alone`; whatever the result is measured on, the history is of held-out images.
        equal_step: scales the total so that its first gradient is as long as that of cross-entropy alone at this label weight.
        keep_weights: store the first network without its exits, to be taken away.
    """

    version: ClassVar[int] = 2

    model: Network
    data: Data
    recipe: WholeBatches  # relations hold between the images of a batch
    seed: Seed
    objective: Objective
    held_out: Share
    measured_on: Literal["held-out", "test"]
    peers: tuple[Seed, Seed] = (0, 1)
    order: Literal["together", "successive", "phases"] = "together"
    teacher: Alone | None = None
    warm_start: tuple[Alone, Alone] | None = None
    equal_step: Above | None = None
    keep_weights: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.peers[0] == self.peers[1]:
            raise ValueError(f"peers={self.peers} are copies of one network, which can teach each other nothing; allowed: two seeds")
        if self.teacher and self.warm_start:
            raise ValueError("teacher and warm_start exclude each other; give one")
        w = self.objective.weights
        if self.order == "successive":
            self.recipe.require_unset("mixup", "cutmix", why="successive steps see one and the same batch")
        if self.order != "together" and self.equal_step:
            raise ValueError(
                f"order={self.order!r} with equal_step={self.equal_step}; allowed: order='together', whose first step is on all terms"
            )
        if self.order != "together" and not w.a * w.b * w.c:
            raise ValueError(f"order={self.order!r} with a={w.a}, b={w.b}, c={w.c}; allowed: all three above 0")
        return self

    def demands(self) -> Iterator[Demand]:
        exits = (needs.EXITS,) if self.objective.weights.c else ()
        yield Uses("model", self.model, self.data.image_size, self.data.channels, (needs.DEEPEST_END, *exits))
        yield TrainsOn(self.data, self.recipe.batch_size, self.held_out)


class Proposals(RunSpec):
    """Weights that an adaptive sampler (TPE) proposes for a round, from the trials of the random search and of the rounds before.

    Args:
        base: a trial; its weights are replaced.
        search_seed: of the random draws and of the sampler.
        first: random trials that the search begins with.
        size: proposals of a round.
    """

    base: Combined
    space: Space
    search_seed: Seed
    first: Positive
    size: Positive
    previous: Proposals | None = None

    @model_validator(mode="after")
    def _learnable(self) -> Self:
        self.base.objective.require_learnable(self.space.hardest)
        return self

    def trials(self) -> list[Combined | Guided]:
        """What the proposals are drawn from, in order."""
        if self.previous:
            return [*self.previous.trials(), *self.previous.guided()]
        return [self.base.changed(objective=self.base.objective.weighted(self.drawn(number))) for number in range(self.first)]

    def guided(self) -> list[Guided]:
        """The trials of these proposals."""
        return [Guided(proposals=self, position=position) for position in range(self.size)]

    def drawn(self, number: int) -> Weights:
        return self.space.drawn(self.search_seed, number)

    def parents(self) -> list[RunSpec]:
        return [*([self.previous] if self.previous else []), *self.trials()]


class Guided(RunSpec):
    """A trial with weights that a sampler proposed."""

    version: ClassVar[int] = 2

    proposals: Proposals
    position: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _proposed(self) -> Self:
        if self.position >= self.proposals.size:
            raise ValueError(f"position={self.position} of a round of size={self.proposals.size}; allowed: below the size")
        return self

    def parents(self) -> list[RunSpec]:
        return [self.proposals, *self.proposals.base.parents()]


class Best(RunSpec):
    """The trial with the highest held-out accuracy, trained anew and measured on the test images, which no trial has seen.

    Args:
        trials: of a search; several training seeds of one setting count by their mean.
        base: the run to make of it; its weights are replaced.
    """

    version: ClassVar[int] = 2

    trials: Annotated[tuple[Combined | Guided, ...], Field(min_length=1)]
    base: Combined

    def parents(self) -> list[RunSpec]:
        return [*self.trials, *self.base.parents()]


class NetworkCost(RunSpec):
    """Parameters and multiply-accumulates of what a training computes forward for one image, by formula and by count.

    Args:
        part: a network `alone`, one `with exits`, or the `angle relation` between two networks' features in a batch.
    """

    model: Network
    data: Data
    batch_size: Positive
    part: Literal["alone", "with exits", "angle relation"]

    def demands(self) -> Iterator[Demand]:
        exits = (needs.EXITS,) if self.part == "with exits" else ()
        yield Uses("model", self.model, self.data.image_size, self.data.channels, (needs.DEEPEST_END, *exits))
