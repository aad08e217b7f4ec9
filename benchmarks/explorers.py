"""From a control to another picture on the page: 20 moves of every explorer, in JupyterLab in a headless browser, at the stored results.

Writes explorers.json: median and 95th percentile in milliseconds. A move is one press of an arrow key on a slider, which goes up and down
by turns; the sliders of an explorer take turns. Time goes from the press until the page holds another picture and the kernel's line.
"""

import json
import os
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.browser.explorers import all_of
from tests.browser.lab import missing, serving
from tests.browser.places import EXPLORERS, ROOT, checkout, filled_store

MOVES = 20


def main() -> None:
    if lacking := missing():
        print(f"not measured: {lacking}")
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder))
    about = {"moves of each": MOVES, "cores": os.cpu_count(), "explorers": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def measured(folder: Path) -> list[dict]:
    root, store = checkout(folder / "checkout"), filled_store(folder / "results")
    (folder / "home").mkdir()
    places = {"VITLIB_RESULTS": str(store), "VITLIB_FIGURES": str(folder / "figures")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    rows = []
    with serving(root, folder / "home", PYTHONPATH=path, **places) as lab:
        for name in EXPLORERS:
            with lab.opened(f"notebooks/{name}.ipynb") as page:
                lab.run_all(page)
                lab.wait_until_done(page, 300)
                for explorer in all_of(page):
                    explorer.box.scroll_into_view_if_needed()
                    turns = islice(cycle(explorer.sliders), MOVES)
                    took = [1000 * explorer.step(slider, back=move // len(explorer.sliders) % 2 == 1) for move, slider in enumerate(turns)]
                    rows.append({"notebook": name, "explorer": explorer.place + 1, **summary(took)})
                    print(json.dumps(rows[-1]), flush=True)
        assert not lab.errors, lab.errors
    return rows


def summary(took: list[float]) -> dict[str, float]:
    return {"median ms": round(float(np.median(took))), "95th percentile ms": round(float(np.quantile(took, 0.95))), "n": len(took)}


if __name__ == "__main__":
    main()
