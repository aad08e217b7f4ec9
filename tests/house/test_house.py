"""The house in CONTRIBUTING.md and docs/architecture.md: drawn and listed as the imports are; links lead somewhere."""

import re

import pytest

from tests.renew_house import PAGE, ROOT, drawing, reached, reduced, renewed, rooms

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_drawing_is_that_of_the_imports():
    assert TEXT.count("<!-- house -->") == TEXT.count("<!-- /house -->") == 1
    assert renewed(TEXT) == TEXT, "run `make readme`"


def test_the_rooms_are_listed_from_the_lowest_up():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    imports, listed = rooms(), page.split("```\n")[1]
    lines = [set(re.findall(r"\w+", line[:35])) & imports.keys() for line in listed.splitlines()]
    height = {room: number for number, found in enumerate(lines) for room in found}
    assert height.keys() == imports.keys()
    assert [(room, name) for room, names in imports.items() for name in names if height[name] > height[room]] == []


def test_every_room_stands_in_the_drawing_and_none_reaches_itself():
    imports = rooms()
    assert imports.keys() == {path.stem for path in (ROOT / "vitlib").iterdir() if path.suffix in ("", ".py") and "__" not in path.name}
    assert all(re.search(rf"\b{room}\b", drawing(imports)) for room in imports)
    assert not [room for room in imports if room in reached(imports, room)]


def test_an_import_anywhere_in_a_file_is_an_arrow(tmp_path):
    package = tmp_path / "house"
    files = {
        "__init__.py": "from house.roof import TILE",
        "cellar.py": "",
        "ground/__init__.py": "import house.cellar",
        "ground/kitchen.py": "def cook():\n    from house import garden",
        "garden.py": "",
        "roof.py": "if TYPE_CHECKING:\n    from house.ground.kitchen import cook\nimport houseboat.deck",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert rooms(package) == {"cellar": set(), "garden": set(), "ground": {"cellar", "garden"}, "roof": {"ground"}}


@pytest.mark.parametrize(
    ("imports", "kept"),
    [
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, {"a": {"b"}, "b": {"c"}, "c": set()}),
        ({"a": {"b", "c", "d"}, "b": {"d"}, "c": {"d"}, "d": set()}, {"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}),
        ({"a": {"b", "e"}, "b": {"c"}, "c": {"e"}, "e": set()}, {"a": {"b"}, "b": {"c"}, "c": {"e"}, "e": set()}),
    ],
)
def test_arrows_that_follow_from_others_are_left_out_and_no_way_is_lost(imports, kept):
    assert reduced(imports) == kept
    assert all(reached(kept, room) == reached(imports, room) for room in imports)


def test_relative_links_lead_to_files_that_exist():
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in link]
    assert links and [link for link in links if link and not (ROOT / link).exists()] == []
