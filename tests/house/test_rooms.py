"""Tests lie where the code lies: a folder for each room and each document, short files, and what files share beside them."""

import ast

import pytest

import vitlib
from tests.golden.renew import pinned
from tests.support import ROOT
from vitlib import documents

TESTS, VITLIB = ROOT / "tests", ROOT / "vitlib"
LONGEST = 400
WHOLE = ("house", "browser", "faults")  # what concerns the whole: the library, what a person sees in JupyterLab, and what goes wrong
FILES = sorted(TESTS.rglob("*.py"))
TEST_FILES = [path for path in FILES if path.stem.startswith("test_")]
NEW = {f"papers/{paper}" for paper in documents() if paper not in pinned()["runs"]}  # held to this when their identities are pinned
FOLDERS = [path.parent.relative_to(VITLIB).as_posix() for path in [*VITLIB.glob("*/__init__.py"), *VITLIB.glob("papers/*/__init__.py")]]
ROOMS = sorted({*FOLDERS} - NEW)


def place(path):
    return path.relative_to(TESTS).as_posix()


def test_the_rooms_are_those_of_the_installed_library():
    assert list(vitlib.__path__) == [str(VITLIB)] and {"runs", "papers/deit"} <= set(ROOMS)


def test_no_file_of_tests_is_longer_than_an_idea():
    assert [place(path) for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST] == []


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_and_each_document_has_its_folder_of_tests(room):
    assert any(path.is_relative_to(TESTS / room) for path in TEST_FILES), f"write tests/{room}/test_*.py"


@pytest.mark.parametrize("folder", sorted({place(path.parent) for path in TEST_FILES}))
def test_each_folder_of_tests_is_named_as_what_it_tests(folder):
    module = VITLIB / f"{folder}.py"
    assert module.is_file() or any((root / folder).is_dir() for root in (VITLIB, ROOT)) or folder.split("/")[0] in WHOLE


def test_what_files_share_stands_in_a_file_without_tests():
    imported = {
        (place(path), node.module)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2].startswith("test_")
    }
    assert not imported
