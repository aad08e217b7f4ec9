"""The stop button in the middle of a study, and Run All afterwards."""

import re
import shutil
import subprocess
import time

import pytest

from tests.browser.lab import press, until
from tests.browser.places import with_parameters

pytestmark = pytest.mark.browser
ERRORS = '[data-mime-type="application/vnd.jupyter.stderr"], [data-mime-type="application/vnd.jupyter.error"]'
LINE = r"stopped: (\d+) runs? stored, (\d+) left; run this cell again, or all cells, and it goes on from there"


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_stopped_study_says_one_line_leaves_no_worker_and_goes_on(executor, lab, root, tmp_path, no_errors, shots):
    store = tmp_path / "results"
    shutil.copy(root / "notebooks/deit.ipynb", root / f"notebooks/stop_{executor}.ipynb")
    with_parameters(root / f"notebooks/stop_{executor}.ipynb", profile="smoke", executor=executor, results_dir=str(store))
    with lab.opened(f"notebooks/stop_{executor}.ipynb") as page:
        lab.run_all(page)
        until(lambda: stored(store) >= 2, 120)
        press(page, "interrupt")
        lab.wait_until_done(page, 60)
        said = page.locator(ERRORS).all_text_contents()
        one_line = re.fullmatch(LINE, "\n".join(said).strip())
        assert one_line, said
        done, left = map(int, one_line.groups())
        assert done == stored(store) and left > 0
        until(lambda: not processes_with(str(store)), 5)
        page.evaluate("where => document.querySelector(where).scrollIntoView({block: 'center'})", ERRORS)
        time.sleep(1)  # cells are drawn where one looks
        page.screenshot(path=shots / f"stopped-{executor}.png")

        lab.run_all(page)
        until(lambda: stored(store) == done + left, 240)
        lab.wait_until_done(page, 240)
        assert not page.locator(ERRORS).count()
        assert "[31]" in page.locator(".jp-InputPrompt").last.inner_text() or page.locator(".vitlib-explorer").count() == 2


def stored(store):
    return len(list(store.glob("[!.]*/manifest.json")))


def processes_with(text):
    ran = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in ran.stdout.splitlines() if text in line]
