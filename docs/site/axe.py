"""`make site-check`: the built pages in a headless browser, opened from disk: axe's rules, requests elsewhere, formulas left unset.

Needs the extra 'site-check' and Chromium (Debian: chromium; or VITLIB_CHROMIUM names one).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from docs.site.check import pages
from docs.site.layout import ROOT

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
SERIOUS = ("serious", "critical")
VIEWS = {"desk, light": (1280, 900, "light"), "phone, dark": (400, 800, "dark")}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
UNSET = "[...document.querySelectorAll('.math')].filter(math => !math.querySelector('mjx-container')).length"
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"


def main() -> int:
    """Exit status: 0 none of it found, or nothing to look with, which is said; 1 something found."""
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    reason = why_not(site)
    if reason:
        print(f"site-check: skipped: {reason}")
        return 0
    views = list(looked_at(site))
    found = list(chain(*views))
    print("\n".join([*found, f"site-check: {len(views)} views of pages, {len(found)} faults"]))
    return int(bool(found))


def why_not(site: Path) -> str:
    """What is missing to look at the pages, or nothing."""
    if not (site / "index.html").exists():
        return f"no site in {site}: `make site` first"
    lacking = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}; pip install 'vitlib[site-check]'"
    return "" if browser() else "no Chromium found; Debian's package is chromium, VITLIB_CHROMIUM names another"


def browser() -> str:
    return os.environ.get("VITLIB_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), "")


def looked_at(site: Path) -> Iterator[list[str]]:
    """Faults of each page in each view and colour scheme."""
    from playwright.sync_api import sync_playwright

    axe = _axe()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height, scheme) in VIEWS.items():
            for path in pages(site):
                page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                yield [f"{path.relative_to(site)} ({name}): {fault}" for fault in _faults(page, path, axe)]
                page.close()
        chromium.close()


def _faults(page: Any, path: Path, axe: str) -> list[str]:
    asked, errors = [], []
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.resolve().as_uri())
    page.wait_for_function(f"{UNSET} === 0", timeout=30_000)
    page.evaluate("window.MathJax?.startup?.promise.then(() => null)")
    page.evaluate(axe)
    result = page.evaluate(f"axe.run({{runOnly: {RULES}}})")
    serious = [violation for violation in result["violations"] if violation["impact"] in SERIOUS]
    return [
        *(f"asks another machine for {url}" for url in asked),
        *(f"error of a script: {error}" for error in errors),
        *(["wider than the screen"] if page.evaluate(WIDER) else []),
        *(f"axe, {each['impact']}: {each['id']}, {len(each['nodes'])} times, first {each['nodes'][0]['html'][:150]}" for each in serious),
    ]


def _axe() -> str:
    import axe_playwright_python

    return Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
