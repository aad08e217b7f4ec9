"""GPUs, the cores that decode for them, and the storage that they all read from."""

from __future__ import annotations

from dataclasses import dataclass

from vitlib.spec import SpecError
from vitlib.studies.costs.amounts import amounts_of
from vitlib.studies.costs.fleet.reading import Reading, reading_of
from vitlib.studies.costs.speed.rates import Rates
from vitlib.training.work.registry import Sets

NOTHING = Reading()
DECODED = 350.0  # images/s a core: JPEG of 500 x 375 pixels to an image of 224 px by RandAugment; benchmarks/decoding.json


@dataclass(frozen=True)
class Fleet:
    """What a plan may use.

    Args:
        gpus: each of which computes as `Rates` say.
        cores: of a CPU for each GPU.
        storage: bytes/s that all of them together get.
    """

    gpus: int
    cores: int = 12
    storage: float = 10e9

    def __post_init__(self) -> None:
        for name, value, limit in (("gpus", self.gpus, 100_000), ("cores-per-gpu", self.cores, 1024), ("storage", self.storage, 1e15)):
            if not 0 < value <= limit:
                raise SpecError(f"{name}: got {value:g}; allowed: above 0, at most {limit:g}")


@dataclass(frozen=True)
class Load:
    """Of one run, or of several one after the other on one GPU.

    Args:
        computing: seconds of the GPU.
        feeding: seconds of the GPU's cores; both at once take `seconds`, the longer of the two.
    """

    computing: float = 0.0
    feeding: float = 0.0
    seconds: float = 0.0
    longest: float = 0.0
    reading: Reading = NOTHING
    runs: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.computing + other.computing,
            self.feeding + other.feeding,
            self.seconds + other.seconds,
            max(self.longest, other.longest),
            self.reading + other.reading,
            self.runs + other.runs,
        )

    def wall(self, fleet: Fleet) -> float:
        """Seconds of the whole fleet, if its GPUs share the work evenly."""
        return max(self.seconds / fleet.gpus, self.reading.bytes / fleet.storage)

    @property
    def wanted(self) -> float:
        """Images/s that a GPU takes while it computes."""
        return self.reading.images / self.computing if self.computing else 0.0

    def bottleneck(self, fleet: Fleet) -> str:
        """'storage', 'decoding' or 'GPUs': what would have to be more, or faster, for the work to end sooner."""
        if self.reading.bytes / fleet.storage > self.seconds / fleet.gpus:
            return "storage"
        return "decoding" if self.feeding > self.computing else "GPUs"


def load_of(spec, rates: Rates, fleet: Fleet, sets: Sets) -> Load:
    """Of one run on one GPU."""
    computing, reading = rates.seconds(amounts_of(spec, sets)), reading_of(spec, sets)
    feeding = reading.images / (fleet.cores * DECODED)
    longer = max(computing, feeding)
    return Load(computing, feeding, longer, longer, reading, 1)
