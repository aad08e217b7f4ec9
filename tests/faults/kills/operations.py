"""The operations that are killed and cut short: what each does, starts from, and promises."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.faults.kills.acts import of_studies as studies
from tests.faults.kills.acts import of_the_store as acts
from tests.faults.kills.acts.places import TWO, Seen, files, runs, stored


def nothing(folder: Path) -> None:
    pass


@dataclass(frozen=True)
class Operation:
    """`prepare(folder)`, then `act(folder)`, which gives what it computed; what they share is the folder alone.

    Attributes:
        seen: what a reader finds, by name: each is as before or as after it, at any moment.
        absent: until when a reader may find nothing in the place of what there was: the next driver's beginning, or the operation's end.
        lasting: whether what it did is on the disk when it returns.
        counted: whether it computes what is not stored, and only that.
        share: of its points that are tried in `make test`.
        most: of them that are tried at length.
    """

    act: Callable[[Path], Any]
    prepare: Callable[[Path], None] = nothing
    seen: Callable[[Path], Seen] = runs
    absent: Literal["never", "until swept", "until done again"] = "never"
    lasting: bool = True
    counted: bool = False
    share: float = 0.1
    most: int = 10**6


OPERATIONS = {
    "a run put into the store": Operation(acts.put, stored(TWO), share=1.0),
    "a run forced again": Operation(acts.put_again, acts.other_result, absent="until swept", share=0.2),
    "four runs computed": Operation(acts.compute, counted=True, share=0.04),
    "a damaged run computed again": Operation(acts.read_two, acts.one_damaged, absent="until done again", counted=True),
    "a failure recorded": Operation(acts.record_failure, stored(TWO)),
    "a failure forgotten": Operation(acts.forget_failure, acts.failed, lasting=False, share=0.5),
    "a store swept": Operation(acts.sweep, acts.left_behind, lasting=False),
    "runs removed by gc": Operation(acts.collect, acts.to_collect, lasting=False),
    "an archive imported": Operation(acts.import_, acts.of_two_runs, absent="until swept"),
    "an archive written": Operation(acts.export, acts.an_earlier_archive, seen=files),
    "a store repaired": Operation(acts.repair, acts.to_repair, absent="until swept"),
    "a claim by a lock": Operation(acts.claim, stored(TWO), share=0.5),
    "a claim by a lease": Operation(acts.claim, acts.by_lease),
    "tables and figures drawn": Operation(studies.render, studies.drawn_before, seen=files, share=0.02),
    "a notebook executed": Operation(studies.execute_notebook, studies.executed_before, seen=studies.receipts, absent="until done again"),
    "verdicts decided": Operation(studies.decide, studies.declared, share=0.002, most=20),
    "a model compressed": Operation(studies.compress, studies.photos, share=0.002, most=20),
    "a training with its checkpoints": Operation(studies.train, seen=lambda folder: {}),
}
