"""What notebooks leave, tables and figures and the executed copy, by the checksums in their receipt; and the receipt itself."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.faults.counted import count
from tests.faults.damage.harms import HARMS
from vitlib.__main__ import main
from vitlib.runs.manifest import StoreError
from vitlib.studies.crate import contents
from vitlib.studies.fsck.findings import artefacts
from vitlib.studies.headless import batch, receipts

ROW = "an artefact or a receipt damaged"
NAMES = ("deit.ipynb", "table_1.csv", "table_1.md", "figure_1.png", "figure_1.csv", "results.tar.xz", receipts.RECEIPT)
CASES = [(name, kind) for name in NAMES for kind in HARMS]


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Folders as two notebooks leave them."""
    figures = tmp_path_factory.mktemp("figures")
    for document, seconds in (("deit", 12.5), ("wecolora", 99.0)):
        folder = figures / document / "smoke"
        folder.mkdir(parents=True)
        for name in NAMES[:-1]:
            (folder / name).write_text(f"{document}, {name}\n" * 40)
        files = receipts.digests(folder.iterdir())
        receipts.write(
            folder, receipts.Receipt("deit.ipynb", "done", seconds, "abc", "0" * 64, {"profile": "smoke"}, ended="then", files=files)
        )
    return figures


def current(folder: Path, tmp_path: Path) -> bool:
    """Whether the notebook would be passed over, for it was executed and nothing changed since."""
    study = SimpleNamespace(folder=folder, specs={}, place=SimpleNamespace(results_dir=tmp_path / "results"))
    source = tmp_path / "deit.ipynb"
    source.touch()
    return batch.is_current(study, source, {"profile": "smoke"})


def tried(left, tmp_path, name, kind, seed, monkeypatch) -> None:
    figures = Path(shutil.copytree(left, tmp_path / "figures"))
    folder = figures / "deit" / "smoke"
    monkeypatch.setattr(batch, "max", lambda times: 0.0, raising=False)  # the library and the notebook are old
    assert current(folder, tmp_path) and not [*artefacts(figures)]
    HARMS[kind](folder / name, figures / "wecolora" / "smoke" / name, np.random.default_rng(seed))
    found = sorted(finding.name for finding in artefacts(figures))
    if name == receipts.RECEIPT:
        receipt_harmed(left, figures, tmp_path, kind, found)
    else:
        assert found == [f"deit/smoke/{name}"] and not current(folder, tmp_path)
    count(ROW)


def receipt_harmed(left, figures, tmp_path, kind, found) -> None:
    folder = figures / "deit" / "smoke"
    receipt = receipts.read(folder)
    if receipt is not None and "another's" not in kind:  # as where a line is added at its end: what it says is what it said
        assert receipt == receipts.read(left / "deit" / "smoke") and found == []
        return
    assert not current(folder, tmp_path)
    if "another's" in kind:
        assert found == sorted(f"deit/smoke/{each}" for each in NAMES[:-1])
    elif (folder / receipts.RECEIPT).exists():
        assert found == [f"deit/smoke/{receipts.RECEIPT}"]
        with pytest.raises(StoreError, match="cannot be read"):
            contents._receipt(folder)


@pytest.mark.parametrize(("name", "kind"), CASES[::4])
def test_a_damaged_artefact_is_found_and_made_again(left, tmp_path, name, kind, monkeypatch):
    tried(left, tmp_path, name, kind, 0, monkeypatch)


@pytest.mark.faults
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_any_damaged_artefact_is_found_and_made_again(left, tmp_path, name, kind, monkeypatch):
    tried(left, tmp_path, name, kind, 1, monkeypatch)


def test_fsck_names_what_changed_and_no_run_is_called_damaged_for_it(left, tmp_path, capsys):
    figures = Path(shutil.copytree(left, tmp_path / "figures"))
    (figures / "deit/smoke/table_1.csv").write_text("a,b\n1,2\n")
    assert main(["fsck", "--results-dir", str(tmp_path / "results"), "--figures-dir", str(figures)]) == 0
    said = capsys.readouterr().out
    assert "1 changed" in said and "deit/smoke/table_1.csv" in said and "edited" in said


def test_every_flipped_bit_of_a_receipt_that_says_something_is_seen(left, tmp_path):
    folder = Path(shutil.copytree(left / "deit/smoke", tmp_path / "deit"))
    whole, content = receipts.read(folder), (folder / receipts.RECEIPT).read_bytes()
    for bit in range(0, 8 * len(content), 29):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / receipts.RECEIPT).write_bytes(flipped)
        found = receipts.read(folder)
        said = None if found is None else {name: value for name, value in found.items() if name in whole}
        assert said is None or said == whole  # a blank that became a tab, or the name of the checksum
        count(ROW)


def test_a_receipt_from_before_there_were_checksums_is_read_and_its_notebook_executed_again(left, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "max", lambda times: 0.0, raising=False)
    folder = Path(shutil.copytree(left / "deit/smoke", tmp_path / "deit"))
    old = {name: value for name, value in receipts.read(folder).items() if name != "files"}
    (folder / receipts.RECEIPT).write_text(json.dumps(old))
    assert receipts.read(folder) == old and not receipts.changed(folder, old) and not current(folder, tmp_path)


@pytest.mark.parametrize(("written", "is_current"), [(0, False), (4102444800, False), (None, True)], ids=["1970", "2100", "now"])
def test_a_receipt_written_under_a_wrong_clock_is_not_current(left, tmp_path, monkeypatch, written, is_current):
    monkeypatch.setattr(batch, "max", lambda times: 1.0, raising=False)
    folder = Path(shutil.copytree(left / "deit/smoke", tmp_path / "deit"))
    if written is not None:
        os.utime(folder / receipts.RECEIPT, (written, written))
    assert current(folder, tmp_path) is is_current
    count("clocks of 1970 and 2100")
