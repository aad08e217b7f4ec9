"""The sixty faults by area, declared from the code alone, before it was looked at which tests there are."""

from tests.faults.mutants import executors, statistics, store
from tests.faults.mutants.fault import Fault

AREAS: dict[str, list[Fault]] = {
    "store, manifests, archives, reading": store.FAULTS,
    "claims, executors, workers, clock": executors.FAULTS,
    "statistics, verdicts, splits, evaluation": statistics.FAULTS,
}
FAULTS = [fault for faults in AREAS.values() for fault in faults]
