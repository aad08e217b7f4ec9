"""From `make lab` to one understood claim, as a newcomer clicks: JupyterLab in a headless browser, nothing stored, the environment ready.

Writes first_claim.json: seconds from the command to each step. The claim is DeiT's on teachers, of docs/first_steps.md, at profile quick.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.browser.lab import missing, serving
from tests.browser.places import ROOT, checkout

CLAIM = "A convnet teaches better than a transformer"
OPENED, DONE = "{} on screen", "Run All of {} done"


def main() -> None:
    if lacking := missing():
        print(f"not measured: {lacking}")
        return
    began, steps = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        for step in _steps(Path(folder)):
            steps[step] = round(time.monotonic() - began, 1)
            print(f"{steps[step]:6.1f} s  {step}", flush=True)
    about = {"cores": os.cpu_count(), "seconds until": steps}
    Path(__file__).with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _steps(folder: Path) -> Iterator[str]:
    root = checkout(folder / "checkout")
    (folder / "home").mkdir()
    places = {"VITLIB_RESULTS": str(folder / "results"), "VITLIB_FIGURES": str(folder / "figures")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with serving(root, folder / "home", PYTHONPATH=path, **places) as lab:
        for notebook in ("start.ipynb", "notebooks/deit.ipynb"):
            with lab.opened(notebook) as page:
                yield OPENED.format(notebook)
                lab.run_all(page)
                lab.wait_until_done(page, 1200)
                yield DONE.format(notebook)
        claims = (folder / "figures/deit/quick/claims.md").read_text(encoding="utf-8")
        yield next(line for line in claims.splitlines() if CLAIM in line).strip("| ")


if __name__ == "__main__":
    main()
