"""`make renew`: what says the same stays as it is on disk, what says something else is replaced, what is gone is removed."""

import json
import os
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.renew_figures import content, outcomes, put_in_place, report

LONG_AGO = 1_000_000_000
OUTPUT = {"text/plain": "<Styler at 0x7f01>", "text/html": "<td>95 (90 stored, 5 missing)</td>", "image/png": "aGVsbG8="}


def notebook(path, *, run=1, prose="A table.", source="table(1)", **data):
    """An executed copy; `run` sets what differs from one execution to the next."""
    output = new_output("execute_result", OUTPUT | data, execution_count=run, metadata={"seen": run})
    cell = new_code_cell(source, execution_count=run, outputs=[output], metadata={"papermill": {"duration": run}}, id=f"cell-{run}")
    metadata = {"papermill": {"end_time": f"2026-01-0{run}"}}
    nbformat.write(new_notebook(cells=[new_markdown_cell(prose, id="prose"), cell], metadata=metadata), path)


def receipt(path, *, seconds=1.0, commit="abc", **said):
    path.write_text(json.dumps({"notebook": "deit.ipynb", "status": "done", "seconds": seconds, "commit": commit} | said))


@pytest.fixture
def folders(tmp_path):
    """Fresh and committed figures of one document that say the same, the committed ones long ago."""
    fresh, committed = tmp_path / "fresh", tmp_path / "committed"
    folder = fresh / "deit" / "quick"
    folder.mkdir(parents=True)
    notebook(folder / "deit.ipynb")
    receipt(folder / "receipt.json")
    (folder / "table_1.csv").write_text("a,b\n1,2\n")
    (folder / "figure_1.png").write_bytes(b"\x89PNG")
    shutil.copytree(fresh, committed)
    for path in (committed / "deit" / "quick").iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    return folder, committed / "deit" / "quick"


def renewed(folder, committed):
    """Kind by name, after everything was put in place."""
    roots = folder.parents[1], committed.parents[1]
    found = outcomes(*roots, "quick")
    put_in_place(found, *roots)
    return {outcome.file.name: outcome.kind for outcome in found}


def times(folder):
    return {path.name: path.stat().st_mtime for path in folder.iterdir()}


def test_what_only_ran_again_is_not_touched(folders):
    fresh, committed = folders
    notebook(fresh / "deit.ipynb", run=2, **{"text/plain": "<Styler at 0x7f02>", "text/html": "<td>95 (95 stale)</td>"})
    receipt(fresh / "receipt.json", seconds=9.9, commit="def")
    before = {path.name: path.read_bytes() for path in committed.iterdir()}
    assert set(renewed(fresh, committed).values()) == {"unchanged"}
    assert set(times(committed).values()) == {LONG_AGO}
    assert {path.name: path.read_bytes() for path in committed.iterdir()} == before


@pytest.mark.parametrize(
    "said",
    [
        {"prose": "Another table."},
        {"source": "table(2)"},
        {"text/html": "<td>96 (90 stored, 5 missing)</td>"},
        {"text/html": "<td>95 (90 stored, 5 missing) 1</td>"},
        {"image/png": "aGVsbG9v"},
        {"text/markdown": "more"},
    ],
    ids=str,
)
def test_a_changed_cell_is_copied_and_its_receipt_with_it(folders, said):
    fresh, committed = folders
    notebook(fresh / "deit.ipynb", run=2, **said)
    receipt(fresh / "receipt.json", seconds=9.9)
    kinds = {"deit.ipynb": "changed", "receipt.json": "changed", "table_1.csv": "unchanged", "figure_1.png": "unchanged"}
    assert renewed(fresh, committed) == kinds
    assert {name: time == LONG_AGO for name, time in times(committed).items()} == {
        name: kind == "unchanged" for name, kind in kinds.items()
    }
    for name in ("deit.ipynb", "receipt.json"):
        assert (committed / name).read_bytes() == (fresh / name).read_bytes()


def test_a_changed_table_does_not_renew_the_notebook(folders):
    fresh, committed = folders
    notebook(fresh / "deit.ipynb", run=2)
    (fresh / "table_1.csv").write_text("a,b\n1,3\n")
    assert [name for name, kind in renewed(fresh, committed).items() if kind != "unchanged"] == ["table_1.csv"]
    assert (committed / "table_1.csv").read_text() == "a,b\n1,3\n"
    assert times(committed)["deit.ipynb"] == LONG_AGO


def test_a_receipt_that_says_more_than_another_time_is_renewed_alone(folders):
    fresh, committed = folders
    receipt(fresh / "receipt.json", parameters={"profile": "quick"})
    assert [name for name, kind in renewed(fresh, committed).items() if kind != "unchanged"] == ["receipt.json"]


def test_what_no_longer_comes_out_is_removed_and_what_is_new_is_added(folders):
    fresh, committed = folders
    (fresh / "figure_1.png").rename(fresh / "figure_2.png")
    found = renewed(fresh, committed)
    assert (found["figure_1.png"], found["figure_2.png"]) == ("removed", "new")
    assert sorted(times(committed)) == ["deit.ipynb", "figure_2.png", "receipt.json", "table_1.csv"]


def test_a_document_that_is_gone_is_removed_and_a_new_one_added(folders):
    fresh, committed = folders
    other = committed.parents[1] / "other" / "quick"
    fresh.parent.rename(fresh.parents[1] / "vit")
    other.mkdir(parents=True)
    (other / "table.md").write_text("old")
    renewed(fresh.parents[1] / "vit" / "quick", committed)
    left = sorted(path.relative_to(committed.parents[1]).as_posix() for path in committed.parents[1].rglob("*") if path.is_file())
    assert left == [f"vit/quick/{name}" for name in ("deit.ipynb", "figure_1.png", "receipt.json", "table_1.csv")]


def test_other_profiles_and_hidden_files_are_left_alone(folders):
    fresh, committed = folders
    kept = [committed.parent / "desk" / "table_1.csv", committed / ".ipynb_checkpoints" / "deit.ipynb", committed.parent / "note.md"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("kept")
    assert set(renewed(fresh, committed).values()) == {"unchanged"}
    assert [path.read_text() for path in kept] == ["kept"] * 3


def test_without_being_put_in_place_nothing_changes(folders):
    fresh, committed = folders
    (fresh / "table_1.csv").unlink()
    notebook(fresh / "deit.ipynb", prose="Another.")
    outcomes(fresh.parents[1], committed.parents[1], "quick")
    assert set(times(committed).values()) == {LONG_AGO} and len(times(committed)) == 4


def test_the_list_names_what_changed_with_its_size_and_sums_up_the_rest(folders):
    fresh, committed = folders
    (fresh / "table_1.csv").write_bytes(b"x" * 1500)
    (fresh / "figure_1.png").unlink()
    (committed / "figure_1.png").write_bytes(b"x" * 2_000_000)
    lines = report(outcomes(fresh.parents[1], committed.parents[1], "quick")).splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["removed", "2,000.0", "kB", "figures/deit/quick/figure_1.png"],
        ["changed", "1.5", "kB", "figures/deit/quick/table_1.csv"],
    ]
    assert lines[2] == "1 changed (0.0 MB), 1 removed (2.0 MB), 2 unchanged (0.0 MB)"


def test_an_alt_text_is_content(tmp_path):
    for name, alt in (("one", "A curve."), ("same", "A curve."), ("other", "Two curves.")):
        output = new_output("display_data", {"image/png": "aGVsbG8="}, metadata={"image/png": {"alt": alt}, "seen": name})
        nbformat.write(new_notebook(cells=[new_code_cell("", outputs=[output])]), tmp_path / f"{name}.ipynb")
    one, same, other = (content(tmp_path / f"{name}.ipynb") for name in ("one", "same", "other"))
    assert one == same != other


def test_an_error_in_a_cell_is_content(tmp_path):
    notebook(tmp_path / "good.ipynb")
    failed = nbformat.read(tmp_path / "good.ipynb", as_version=4)
    failed.cells[1].outputs.append(new_output("error", ename="ValueError", evalue="no", traceback=[]))
    nbformat.write(failed, tmp_path / "bad.ipynb")
    assert content(tmp_path / "good.ipynb") != content(tmp_path / "bad.ipynb")
