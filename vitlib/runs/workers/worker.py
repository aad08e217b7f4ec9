"""A local worker: reads runs as JSON lines, computes and stores each, answers; started by local.py."""

from __future__ import annotations

import json
import os
import sys
import threading
from queue import SimpleQueue
from typing import Any

from vitlib.dumped import rebuild
from vitlib.runs.clock import notice
from vitlib.runs.clock.progress import seldom
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.runs.workers.one import compute_one


def main(about: str) -> None:
    place = Place.from_json(about)
    store = Store(place.results_dir)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    notice.by_word()
    os.dup2(2, 1)  # prints inside a run must not be taken for answers
    for order in _orders():
        _say(answers, _obey(order, store, place, answers))


def _obey(order: dict[str, Any], store: Store, place: Place, answers: Any) -> dict[str, Any]:
    tick = seldom(lambda *how_far: _say(answers, {"tick": how_far}))
    try:
        outcome = compute_one(rebuild(order["spec"]), store, place, tick, again=order["again"])
        return {"outcome": outcome.what, "seconds": outcome.seconds}
    except Exception as error:
        return {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"}


def _orders():
    """Orders as they come; when the driver is gone the process ends at once, in the middle of a run too."""
    orders: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            if line == notice.WORD:
                notice.give()
            else:
                orders.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(orders.get())


def _say(answers: Any, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
