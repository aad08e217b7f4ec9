"""Runs in words: what progress and failures say of them."""

import re

import pytest

from tests.support import Number, Total
from vitlib import load_study
from vitlib.grid.cells import Cell, in_words, titled
from vitlib.grid.entries import read_entry, studies


@pytest.mark.parametrize("name", studies())
def test_every_run_of_every_study_and_all_that_it_starts_from_has_a_title_of_its_own(name, tmp_path):
    profile = "quick" if "quick" in read_entry(name)["profile"] else "smoke"
    study = load_study(name, profile, results_dir=str(tmp_path))
    family = {member.id for spec in study.specs.values() for member in spec.family()}
    assert study.titles.keys() == family
    assert len(set(study.titles.values())) == len(family)
    said = "\n".join(study.titles.values())
    assert not re.search(r"[{}_]|\(2\)|\b[0-9a-f]{16}\b", said.replace("lambda_", ""))
    for cell in study.cells:
        assert ("seed" not in cell.point) or re.search(r"\bseed \d+\b", study.titles[cell.id])


@pytest.mark.parametrize(
    ("name", "table", "point", "title"),
    [
        ("deit", "strategies", {"method": "token", "size": "small", "resolution": "native", "seed": 1}, "DeiT-S, token, seed 1"),
        ("deit", "teachers", {"teacher": "ResNet-8", "column": "teacher", "seed": 0}, "teacher ResNet-8, seed 0"),
        ("afr_pruning", "fine", {"criterion": "afr", "teacher": "dino", "dataset": "few", "seed": 2}, "AFR, DINO teacher, few, seed 2"),
        ("multi_distillation", "trials", {"number": 3, "seed": 0}, "random search, trial 3, seed 0"),
        ("comparison", "models", {"model": "AFR 50 %", "seed": 0}, "AFR 50 %, seed 0"),
    ],
)
def test_titles_name_what_a_reader_of_the_document_knows(name, table, point, title, tmp_path):
    study = load_study(name, "quick", results_dir=str(tmp_path))
    (cell,) = [cell for cell in study.cells_of(table) if cell.point == point]
    assert study.titles[cell.id] == title


def test_words_replace_values_format_numbers_leave_out_what_is_empty_and_order_the_axes():
    words = {"size": {"s": "small"}, "share": "{:.0%} kept", "table": {"plain": ""}, "way": {"usual": ""}}
    point = {"seed": 1, "way": "usual", "share": 0.25, "size": "s", "epochs": 3}
    one, other = Number(value=1), Number(value=2)
    titles = in_words([Cell("plain", point, one), Cell("two_words", {"way": "odd"}, other)], words)
    assert titles == {one.id: "small, 25 % kept, epochs 3, seed 1", other.id: "two words, odd"}


def test_a_run_of_several_cells_has_the_shortest_title_and_what_it_starts_from_is_named_by_it():
    left, right = Number(value=1), Number(value=2)
    total = Total(left=left, right=right)
    titles = in_words([Cell("a_long_table", {}, total), Cell("sums", {}, total)], {"kind": {"Number": "a number"}})
    assert titles == {total.id: "sums", left.id: "sums: a number", right.id: "sums: a number (2)"}


def test_kinds_without_words_are_named_by_their_class():
    total = Total(left=Number(value=1), right=Number(value=1))
    assert list(titled([("sum", total)]).values()) == ["sum", "sum: number"]
