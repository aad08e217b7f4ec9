"""What happens where a stored run turns out to be damaged when it is read: it is shown as missing, or set aside and computed again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NoReturn

from vitlib.runs.manifest import DamagedError
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.spec import RunSpec

log = logging.getLogger("vitlib")


def otherwise(found: dict[str, Stored], stand_in: Callable[[str, DamagedError], Stored]) -> dict[str, Stored]:
    """The same runs; `stand_in` is called for one that is damaged when it is read, see `Stored.otherwise`."""
    for stored in found.values():
        stored.otherwise = stand_in
    return found


def shown_as_missing(_: str, error: DamagedError) -> NoReturn:
    """For a reader, who computes nothing: one line, and the error for whoever shows the run."""
    log.warning("damaged, shown as missing: %s", error)
    raise error


def computed_again(
    store: Store, specs: Mapping[str, RunSpec], compute: Callable[[RunSpec], Stored]
) -> Callable[[str, DamagedError], Stored]:
    """For whoever computes what is missing: the damaged run is set aside and `compute` called for it.

    Where another process has computed it again meanwhile, that one is taken.
    """

    def again(run_id: str, error: DamagedError) -> Stored:
        with suppress(FileNotFoundError, KeyError):
            try:
                return store.read(run_id, specs[run_id])
            except DamagedError:
                if aside := store.set_aside_damaged(run_id, specs[run_id]):
                    log.warning("damaged, computed again: %s (kept in %s)", error, aside)
        return compute(specs[run_id])

    return again


def opened(store: Store, run_id: str, again: Callable[[str, DamagedError], Stored]) -> Stored:
    """A run that was stored a moment ago, or what `again` gives where somebody damaged or removed it since."""
    try:
        return store.open(run_id)
    except KeyError:
        return again(run_id, DamagedError(f"{run_id}: not in {store.root} any more"))
    except DamagedError as error:
        return again(run_id, error)
