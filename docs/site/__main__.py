"""`python -m docs.site`: build the site into site/ and follow every link of it. `make site` installs what this needs and runs it."""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from docs.site.layout import ROOT

OF_SPHINX = ".buildinfo"  # lies in every folder that Sphinx built
UNNAMED, NAMED = "<summary><span", '<summary aria-label="Pages of this section"><span'  # the theme leaves a button of the side bar without


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 built and sound, 1 a link leads nowhere or a picture has no alt text, 2 something is not installed or in the way."""
    parser = argparse.ArgumentParser(prog="python -m docs.site", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder of the site (default: site/)")
    parser.add_argument("--install", action="store_true", help="install what building needs, the extra 'site', where it is missing")
    options = parser.parse_args(arguments)
    needed = missing("site")
    if needed and options.install:
        print(f"site: installing {', '.join(needed)}")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *needed], check=True)
    elif needed:
        print(f"site: not installed: {', '.join(needed)}; `make site` installs them, or pip install 'vitlib[site]'", file=sys.stderr)
        return 2
    if options.out.exists() and any(options.out.iterdir()) and not (options.out / OF_SPHINX).exists():
        print(f"site: {options.out} holds something else than a site; nothing is removed, choose another --out", file=sys.stderr)
        return 2
    return build(options.out)


def missing(extra: str) -> list[str]:
    """Requirements of an extra of pyproject.toml that are not installed."""
    extras = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return [requirement for requirement in extras[extra] if not _installed(requirement)]


def build(out: Path) -> int:
    """Sphinx into the folder, emptied before, then every link."""
    from sphinx.cmd.build import build_main

    from docs.site import check, sources

    start = time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        pages = sources.write(source)
        conf = str(Path(__file__).parent)
        if status := build_main(["-q", "-b", "html", "-c", conf, "-d", f"{folder}/doctrees", str(source), str(out)]):
            return status
    for path in check.pages(out):
        path.write_text(path.read_text(encoding="utf-8").replace(UNNAMED, NAMED), encoding="utf-8")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    print(f"site: {pages} pages, {size:.0f} MB, {time.monotonic() - start:.0f} s; open {out / 'index.html'}")
    return check.report(out)


def _installed(requirement: str) -> bool:
    from packaging.requirements import Requirement

    try:
        wanted = Requirement(requirement)
        return importlib.metadata.version(wanted.name) in wanted.specifier
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
