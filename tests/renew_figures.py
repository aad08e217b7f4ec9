"""Renew figures/: every notebook executed on the committed results, and only what came out otherwise put in place. Run by `make renew`."""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from vitlib.report.pictures import alt_texts

ROOT = Path(__file__).parents[1]
PROFILES = ("quick", "desk")
RECEIPT = "receipt.json"
OF_ITS_RUN = ("seconds", "commit", "ended", "sha256")  # in a receipt, what another run of the same notebook says otherwise
OF_THE_KERNEL = re.compile(r"(?<= at )0x[0-9a-f]+")
STATE = r"\d+ (?:stored|archived|stale|missing|failed|damaged)"
OF_THE_STORE = re.compile(rf"\({STATE}(?:, {STATE})*\)")


@dataclass(frozen=True)
class Outcome:
    """What becomes of a committed file: new, changed, removed or unchanged; size in bytes, of the old one where it is removed."""

    file: Path
    kind: str
    size: int


def outcomes(fresh: Path, committed: Path, profile: str) -> list[Outcome]:
    """Every file of a profile in either folder (DOCUMENT/PROFILE/*), in the order of their names.

    A receipt and its notebook go together: what it says of its run is renewed where the notebook is, and the copy that it has the checksum
    of where the receipt is.
    """
    names = sorted({*_files(fresh, profile), *_files(committed, profile)})
    found = {name: _outcome(fresh / name, committed / name, name) for name in names}
    rerun = {name.parent for name, outcome in found.items() if name.suffix == ".ipynb" and outcome.kind == "changed"}
    for name in [name for name in names if name.name == RECEIPT and name.parent in rerun and found[name].kind == "unchanged"]:
        found[name] = Outcome(name, "changed", found[name].size)
    said = {name.parent for name, outcome in found.items() if name.name == RECEIPT and outcome.kind == "changed"}
    for name in [name for name in names if name.suffix == ".ipynb" and name.parent in said and found[name].kind == "unchanged"]:
        if (fresh / name).read_bytes() != (committed / name).read_bytes():
            found[name] = Outcome(name, "changed", found[name].size)
    return list(found.values())


def put_in_place(found: list[Outcome], fresh: Path, committed: Path) -> None:
    """Copy what is new or changed and remove what did not come out again; an unchanged file is not touched."""
    for outcome in found:
        target = committed / outcome.file
        if outcome.kind == "removed":
            target.unlink()
        elif outcome.kind != "unchanged":
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / outcome.file, target)


def content(path: Path) -> Any:
    """What a file says, without what another run of the same notebook on the same results says otherwise."""
    if path.suffix == ".ipynb":
        return [_shown(cell) for cell in nbformat.read(path, as_version=4).cells]
    if path.name == RECEIPT:
        said = {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key not in OF_ITS_RUN}
        return said | {"files": {name: digest for name, digest in said.get("files", {}).items() if not name.endswith(".ipynb")}}
    return path.read_bytes()


def report(found: list[Outcome]) -> str:
    """A line a file that is not what it was, and the sums."""
    touched = [f"{each.kind:9} {each.size / 1e3:9,.1f} kB  figures/{each.file}" for each in found if each.kind != "unchanged"]
    kinds = {kind: [each.size for each in found if each.kind == kind] for kind in ("new", "changed", "removed", "unchanged")}
    sums = ", ".join(f"{len(sizes)} {kind} ({sum(sizes) / 1e6:.1f} MB)" for kind, sizes in kinds.items() if sizes)
    return "\n".join([*touched, sums])


def executed(profile: str, folder: Path, figures: Path) -> int:
    """Run every notebook into `figures` from the committed results, in a store of its own below `folder`; 0 if all went well."""
    from vitlib.__main__ import main

    os.environ |= {"VITLIB_RESULTS": str(folder / profile), "VITLIB_FIGURES": str(figures)}
    archives = sorted((ROOT / "figures").glob(f"*/{profile}/results.tar.xz"))
    commands = [*(["import", str(archive)] for archive in archives), ["notebooks", "--profile", profile, "--mode", "cached"]]
    return next((status for status in map(main, commands) if status), 0)


def renew(profiles: list[str], check: bool) -> int:
    """Nothing is put in place unless every notebook of every profile is done; with `check` nothing is at all, and changes are a failure."""
    committed, found = ROOT / "figures", []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(prefix=".figures-", dir=ROOT) as beside:
        fresh = Path(beside)  # as deep in the checkout as figures/: links of executed notebooks are relative
        if any(executed(profile, Path(folder), fresh) for profile in profiles):
            print("nothing is renewed: see above")
            return 1
        for profile in profiles:
            found += outcomes(fresh, committed, profile)
        print(report(found))
        if check:
            return int(any(each.kind != "unchanged" for each in found))
        put_in_place(found, fresh, committed)
    from tests.renew_readme import renew as renew_pages

    print(f"pages with tables renewed: {', '.join(renew_pages()) or 'none'}")
    return 0


def _files(figures: Path, profile: str) -> Iterator[Path]:
    """Relative paths, without hidden files."""
    for path in figures.glob(f"*/{profile}/**/*"):
        name = path.relative_to(figures)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name


def _outcome(fresh: Path, committed: Path, name: Path) -> Outcome:
    if not fresh.exists():
        return Outcome(name, "removed", committed.stat().st_size)
    if not committed.exists():
        return Outcome(name, "new", fresh.stat().st_size)
    return Outcome(name, "unchanged" if content(fresh) == content(committed) else "changed", fresh.stat().st_size)


def _shown(cell: nbformat.NotebookNode) -> tuple[str, str, str, list[str]]:
    """Kind, source and outputs of a cell, alt texts too; its id, times and counts, and addresses of the kernel are those of a run."""
    outputs = [{name: each[name] for name in each.keys() - {"metadata", "execution_count"}} for each in cell.get("outputs", [])]
    text = OF_THE_KERNEL.sub("", json.dumps(outputs, sort_keys=True))
    return cell.cell_type, cell.source, OF_THE_STORE.sub("", text), alt_texts(cell.get("outputs", []))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.renew_figures", description=__doc__)
    parser.add_argument("profiles", nargs="*", default=PROFILES, help=f"default: {' '.join(PROFILES)}")
    parser.add_argument("--check", action="store_true", help="list what would change, and change nothing")
    options = parser.parse_args()
    sys.exit(renew(options.profiles, options.check))
