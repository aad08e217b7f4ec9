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
from tests.browser.lab import missing, serving, until
from tests.browser.places import ROOT, checkout

CLAIM = "A convnet teaches better than a transformer"
PATIENCE = 1200.0  # seconds


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
        with lab.opened("start.ipynb") as page:
            yield "the start notebook is on screen"
            lab.run_all(page)
            lab.wait_until_done(page, PATIENCE)
            yield "it shows what is stored: nothing"
        with lab.opened("notebooks/deit.ipynb") as page:
            yield "DeiT's notebook is on screen"
            lab.run_all(page)
            artefacts = folder / "figures/deit/quick"
            until(lambda: any(artefacts.glob("*.png")), PATIENCE)
            yield "its runs are computed and its first figure is drawn"
            until((artefacts / "claims.md").exists, PATIENCE)
            assert CLAIM in (artefacts / "claims.md").read_text(encoding="utf-8")
            yield f"its claims are judged, among them: {CLAIM}"


if __name__ == "__main__":
    main()
