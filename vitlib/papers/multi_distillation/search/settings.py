"""What the entry, a profile or a notebook's overrides may set, and which run fills which point of a table's grid."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vitlib.inputs.sources import Data
from vitlib.papers.multi_distillation.search.space import LETTERS, Letter, Space, Weights
from vitlib.papers.multi_distillation.specs import Alone, Best, Combined, Guided, Network, NetworkCost, Proposals, Seed, Share
from vitlib.papers.multi_distillation.training.reading import Objective, Reading
from vitlib.recipe import Recipe, Seeds
from vitlib.spec import Part

FROZEN = 1000  # added to a run's seed for its frozen teacher's
ANEW = 10_000  # added to a seed of the comparison: no trial had its networks or batches, so that a winner is trained anew


class Method(Part):
    """A row of the comparison: an objective, with online peers or a frozen teacher."""

    objective: Objective
    teacher: Literal["peer", "frozen"] = "peer"


class Settings(Part):
    """What the entry, a profile and a notebook's overrides may set.

    Args:
        prior: the prior-work row of Table 1; its i is that of a mean over features, the published one that of a sum.
        reading: of the document's open places: in both searches and their best settings, the prior-work row, its variations, experiment 2.
        prior_form: exit form of the prior-work row in the comparison, in place of `reading.exit_form`, which is additive because h goes
            above 1 in the search.
        methods: further rows of the comparison, by name; each objective has a reading of its own.
        space: the ranges of Table 1.
        seeds: of the comparison on the test images, whose trainings are none that a trial had (`ANEW`).
        numbers: random trials; `trial_seeds`: trainings of each, as many as `seeds`, whose numbers they have where none are given. The
            k-th seed of the comparison trains what the searches on the k-th trial seed choose, so that its rows vary by the selection too.
        rounds, positions: of the adaptive search, which starts from the first trials of the random one so that both have as many.
        warm: peers start from networks trained alone.
        held_out: share of the training images that trials are selected on.
    """

    model: Network
    data: Data
    recipe: Recipe
    seeds: Seeds
    prior: Weights
    reading: Reading = Reading()
    prior_form: Literal["additive", "convex"] = "convex"
    methods: dict[str, Method]
    space: Space
    search_seed: Seed
    numbers: Annotated[int, Field(ge=4, le=1000)]
    trial_seeds: Seeds | None = None
    rounds: Annotated[int, Field(ge=1, le=20)]  # each is described with those before it
    positions: Annotated[int, Field(ge=1, le=200)]
    held_out: Share
    warm: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rounds * self.positions >= self.numbers:
            raise ValueError(
                f"rounds={self.rounds} of positions={self.positions} are no fewer than numbers={self.numbers}; "
                "allowed: fewer, since the adaptive search begins with random trials and has as many in all"
            )
        if taken := {"ce", "prior"} & set(self.methods):
            raise ValueError(f"methods: {', '.join(sorted(taken))}; allowed: other names, these rows are always there")
        self.recipe.require_unset("ema_decay", "drop_path", "layer_decay", why="two networks train as one")
        self.recipe.require_unset("mixup", "cutmix", why="experiment 2 takes several steps on one and the same batch")
        return self

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.seeds) != len(self.seeds_of_trials):
            raise ValueError(
                f"seeds={list(self.seeds)} and trial_seeds={list(self.seeds_of_trials)}; allowed: as many of one as of the other, "
                "since each seed of the comparison trains the setting that a search on a trial seed of its own chose"
            )
        return self

    @model_validator(mode="after")
    def _trained_anew(self) -> Self:
        compared = {drawn for seed in self.seeds for drawn in drawn_from(seed + ANEW)}
        if both := compared & {drawn for seed in self.seeds_of_trials for drawn in drawn_from(seed)}:
            raise ValueError(
                f"seeds={list(self.seeds)}, which train from {ANEW} on, share {', '.join(map(str, sorted(both)))} with the networks "
                f"or batches of trial_seeds={list(self.seeds_of_trials)}, so that the winner would not be trained anew; "
                "allowed: other trial_seeds"
            )
        return self

    @model_validator(mode="after")
    def _learnable(self) -> Self:
        for where, reading, weights in self._to_learn():
            try:
                reading.require_learnable(weights)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        return self

    @property
    def prior_objective(self) -> Objective:
        """Of the prior-work row in the comparison."""
        return self.objective(self.prior, exit_form=self.prior_form)

    @property
    def unweighted(self) -> Weights:
        """The prior-work row with a, b and c removed."""
        return self.prior.changed(a=1.0, b=1.0, c=1.0)

    @property
    def equal_step(self) -> float:
        """Label weight of experiment 2's sum: rows at an equal step are scaled to cross-entropy's first gradient at it."""
        return self.objective(self.unweighted).label_weight

    def objective(self, weights: Weights, **changed: Any) -> Objective:
        """Of weights, as the settings read them."""
        return Objective(weights=weights, **dict(self.reading) | changed)

    def varied(self, letter: Letter, end: Literal["low", "high"]) -> Weights:
        """The prior-work row with one weight at an end of its range."""
        return self.prior.changed(**{letter: getattr(getattr(self.space, letter), end)})

    @property
    def seeds_of_trials(self) -> tuple[int, ...]:
        return self.seeds if self.trial_seeds is None else self.trial_seeds

    @property
    def selecting(self) -> dict[int, int]:
        """Of each seed of the comparison the trial seed whose searches choose its setting."""
        return dict(zip(self.seeds, self.seeds_of_trials, strict=True))

    @property
    def method_names(self) -> list[str]:
        return ["ce", *self.methods, "prior"]

    @property
    def trial_numbers(self) -> list[int]:
        return list(range(self.numbers))

    @property
    def started(self) -> int:
        """Random trials that the adaptive search begins with."""
        return self.numbers - self.rounds * self.positions

    @property
    def round_numbers(self) -> list[int]:
        return list(range(self.rounds))

    @property
    def position_numbers(self) -> list[int]:
        return list(range(self.positions))

    @property
    def letters(self) -> tuple[Letter, ...]:
        return LETTERS

    @property
    def first_trial_seed(self) -> list[int]:
        return list(self.seeds_of_trials)[:1]

    def _to_learn(self) -> Iterator[tuple[str, Reading, Weights]]:
        """Where weights come from, how they are read there, and the weights that are the hardest to learn."""
        yield "space", self.reading, self.space.hardest
        yield "prior", self.reading, self.prior
        yield "prior in prior_form", self.reading.changed(exit_form=self.prior_form), self.prior
        yield "prior with a = b = c = 1", self.reading, self.unweighted
        for letter, end in product(LETTERS, ("low", "high")):
            yield f"prior with space.{letter}.{end}", self.reading, self.varied(letter, end)


def drawn_from(seed: int) -> set[int]:
    """What a run's seed seeds: its batches, a network alone and its peers, and those that a peer or a student may start or learn from."""
    drawn = {seed, *peers_of(seed)}
    return drawn | {each + FROZEN for each in drawn}


def peers_of(seed: int) -> tuple[int, int]:
    """Seeds of the two networks of a run, so that no two runs share a network."""
    return 2 * seed, 2 * seed + 1


def run_trial(settings: Settings, *, number: int, seed: int) -> Combined:
    """Experiment 1: trial `number` of the random search."""
    return _trial(settings, settings.space.drawn(settings.search_seed, number), seed)


def run_trial_equal(settings: Settings, *, number: int, seed: int) -> Combined:
    """The same trial at an equal effective step."""
    return run_trial(settings, number=number, seed=seed).changed(equal_step=settings.equal_step)


def run_guided(settings: Settings, *, round: int, position: int, seed: int) -> Guided:
    """The adaptive search: a trial of a round."""
    return Guided(proposals=_proposals(settings, round, seed), position=position)


def run_variation(settings: Settings, *, letter: Letter, end: Literal["low", "high"], seed: int) -> Combined:
    """The prior-work row with one weight at an end of its range."""
    return _trial(settings, settings.varied(letter, end), seed)


def run_prior_trial(settings: Settings, *, seed: int) -> Combined:
    """The prior-work row, measured as trials are."""
    return _trial(settings, settings.prior, seed)


def run_method(settings: Settings, *, method: str, seed: int) -> Alone | Combined:
    """The comparison on the test images: cross-entropy alone, the entry's methods, the prior-work row."""
    if method == "ce":
        return _alone(settings, seed + ANEW)
    row = Method(objective=settings.prior_objective) if method == "prior" else settings.methods[method]
    taught = {"teacher": _alone(settings, seed + ANEW + FROZEN)} if row.teacher == "frozen" else {}
    return _compared(settings, row.objective, seed, **taught)


def run_curriculum(settings: Settings, *, order: str, seed: int) -> Combined:
    """Experiment 2: a, b and c removed; in phases each loss has a third of the epochs and three times the weight."""
    objective = settings.objective(settings.unweighted, scale=3.0 if order == "phases" else 1.0)
    return _compared(settings, objective, seed, order="together" if order == "sum" else order)


def run_ce_equal(settings: Settings, *, seed: int) -> Alone:
    """Cross-entropy alone at the label weight of experiment 2, which the others' equal step is measured by."""
    return _alone(settings, seed + ANEW).changed(label_weight=settings.equal_step)


def run_prior_equal(settings: Settings, *, seed: int) -> Combined:
    """The prior-work row at an equal effective step."""
    return _compared(settings, settings.prior_objective, seed, equal_step=settings.equal_step)


def run_best(settings: Settings, *, search: Literal["random", "tpe"], step: Literal["as given", "equal"], seed: int) -> Best:
    """What a search on the seed's own trial seed chose, as given or at an equal effective step."""
    scaled = {"equal_step": settings.equal_step} if step == "equal" else {}
    base = _compared(settings, settings.objective(settings.prior), seed, **scaled)
    return Best(trials=tuple(searched(settings, search, settings.selecting[seed])), base=base)


def run_cost(settings: Settings, *, part: str) -> NetworkCost:
    """What a training costs; not measured in time."""
    return NetworkCost(model=settings.model, data=settings.data, batch_size=settings.recipe.batch_size, part=part)


def searched(settings: Settings, search: str, seed: int) -> list[Combined | Guided]:
    """The trials of a search on a trial seed in order; both searches have as many."""
    if search == "random":
        return [run_trial(settings, number=number, seed=seed) for number in settings.trial_numbers]
    last = _proposals(settings, settings.rounds - 1, seed)
    return [*last.trials(), *last.guided()]


def _proposals(settings: Settings, number: int, seed: int) -> Proposals:
    return Proposals(
        base=_trial(settings, settings.prior, seed),
        space=settings.space,
        search_seed=settings.search_seed,
        first=settings.started,
        size=settings.positions,
        previous=_proposals(settings, number - 1, seed) if number else None,
    )


def _trial(settings: Settings, weights: Weights, seed: int) -> Combined:
    return _combined(settings, settings.objective(weights), seed, measured_on="held-out")


def _compared(settings: Settings, objective: Objective, seed: int, **fields: Any) -> Combined:
    """A row of the comparison."""
    return _combined(settings, objective, seed + ANEW, measured_on="test", **fields)


def _combined(settings: Settings, objective: Objective, seed: int, **fields: Any) -> Combined:
    peers = peers_of(seed)
    warm = {"warm_start": tuple(_alone(settings, peer + FROZEN) for peer in peers)} if settings.warm and "teacher" not in fields else {}
    common = {"model": settings.model, "data": settings.data, "recipe": settings.recipe, "held_out": settings.held_out}
    return Combined(objective=objective, seed=seed, peers=peers, **common, **warm, **fields)


def _alone(settings: Settings, seed: int) -> Alone:
    common = {"model": settings.model, "data": settings.data, "recipe": settings.recipe, "held_out": settings.held_out}
    return Alone(seed=seed, measured_on="test", **common)
