"""Names of classes, folders, files and models are others' words: shown as text, and never as HTML, a script or an order to a terminal."""

import json
import re
from html.parser import HTMLParser

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbconvert import HTMLExporter
from nbformat.sign import NotebookNotary

from docs.site import notebooks as pages
from tests.support import make_images, smoke_study
from vitlib.__main__ import main
from vitlib.messages import printable
from vitlib.report import tables
from vitlib.report.pictures import Picture, described
from vitlib.report.widgets import Explorer, choice
from vitlib.studies.headless import copies

NAMES = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'; alert(1); '",
    "</td></table><iframe src=//192.0.2.1>",
    "<!-- <a href='javascript:alert(1)'>x</a>",
    "![x](http://192.0.2.1/x.png)",
    "<details open ontoggle=alert(1)>",
    "{{7*7}} ${7*7} <%= 7*7 %>",
    "a|b\n| c |",
    "<style>*{display:none}</style>",
    "\x1b[2J\x1b]0;owned\x07",
]
OURS = {"style", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "code", "p", "b", "div"}


class Seen(HTMLParser):
    """Tags and attributes of a page, as a browser meets them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.events, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.events += [
            name for name, value in attributes if name.startswith("on") or (name in ("href", "src") and "script:" in (value or ""))
        ]

    def handle_data(self, data):
        self.text += data


def table(name):
    frame = pd.DataFrame({"class": [name, name], name: [name, "x"], "top-1": [90.0, 80.0], "published": [None, 81.0]})
    return tables.published_only(frame, pd.Series([False, True]))


@pytest.mark.parametrize("name", NAMES)
def test_a_table_shows_a_name_as_text_in_a_notebook(name):
    seen = Seen(tables.shown(table(name), f"Accuracy of {name}.", "table_1").to_html())
    assert seen.tags <= OURS and not seen.events
    assert " ".join(name.split()) in " ".join(seen.text.split())


@pytest.mark.parametrize("name", NAMES)
def test_a_table_in_markdown_holds_no_tag_and_no_picture(name, tmp_path):
    tables.save(table(name), tmp_path / "t", f"Accuracy of {' '.join(name.split())}.")
    text = (tmp_path / "t.md").read_text()
    assert not re.search(r"<[A-Za-z/!?]", text) and not re.search(r"(?<!\\)!\[(?!\\)", text)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows[:3]}) == 1  # neither a bar nor a line ends a cell early


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_says_a_name_in_its_alternative_text_and_no_page_takes_it_for_html(name):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label=name.replace("$", ""))
    axes.set_title(name.replace("$", ""))
    alt = described(figure, f"What {name} does.")
    output = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata={"image/png": {"alt": alt}})
    cell = nbformat.v4.new_code_cell("show()", outputs=[output], execution_count=1)
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    seen = Seen(page)
    assert not seen.events and not seen.tags & {"script", "svg", "iframe", "a"}
    assert Picture(b"", alt=alt).alt == alt


@pytest.mark.parametrize("name", NAMES)
def test_a_widget_shows_a_name_as_text_and_an_error_too(name):
    def draw(which):
        if which == "b":
            raise ValueError(name)
        return Figure()

    explorer = Explorer(draw, {"which": choice(name, {name: "a", "other": "b"})})
    assert Seen(explorer.status.value).tags == set()
    with pytest.raises(ValueError):
        explorer.controls["which"].value = "b"
    assert Seen(explorer.status.value).tags <= {"b"}


@pytest.mark.parametrize("name", NAMES)
def test_a_terminal_gets_no_orders(name, tmp_path, capsys):
    assert main(["status", name]) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown and "\x07" not in shown
    assert printable("a\tb\nc\x1bé日") == "a\tb\nc?é日"


def test_a_warning_about_a_file_gets_no_orders_through_either(tmp_path, capsys, monkeypatch):
    import logging

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    main(["list"])
    logging.getLogger("vitlib").warning("%s: left out", "\x1b]0;owned\x07.png")
    assert "?]0;owned?.png: left out" in capsys.readouterr().err


def test_a_site_page_takes_text_of_a_name_for_text():
    page = pages.boxed(tables.shown(table(NAMES[0]), "Shown.", "t").to_html(), "Heading", "table-1-0")
    assert "script" not in Seen(page).tags


@pytest.mark.parametrize("name", [each for each in NAMES if "/" not in each and "\x1b" not in each])
def test_a_class_folder_of_such_a_name_is_a_class_like_others(name, tmp_path):
    from vitlib.inputs.sources import Data, class_names

    make_images(tmp_path / "pets", classes=(name, "dog"))
    assert name in class_names(Data(source="folder/pets", image_size=8, mean=(0.5,), std=(0.5,)), tmp_path)


def test_a_study_shows_such_settings_as_text(tmp_path):
    from vitlib import load_study

    make_images(tmp_path / "data" / "<b onclick=x>")
    small = {name: {"batch_size": 6} for name in ("recipe", "teacher_recipe", "finetune")} | {"num_classes": 2, "second_test": None}
    study = load_study(
        "deit", "smoke", overrides={"data": {"source": "folder/<b onclick=x>", "per_class": None}, **small},
        results_dir=str(tmp_path / "r"), data_dir=str(tmp_path / "data"), figures_dir=str(tmp_path / "f"), device="cpu",
    )  # fmt: skip
    seen = Seen(study._repr_html_())
    assert "b" not in seen.tags and not seen.events and "<b onclick=x>" in seen.text


# ------------------------------------------------------------------------------------------------ notebooks


@pytest.fixture
def notary(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    return NotebookNotary


def notebook(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


SCRIPT = nbformat.v4.new_output("display_data", {"text/html": "<script>alert(1)</script>"})


def test_outputs_that_came_with_a_notebook_are_never_signed(tmp_path, notary):
    """A cell without source is passed over when the notebook is executed: what lies below it is whoever's sent it."""
    path = notebook(
        tmp_path / "n.ipynb", nbformat.v4.new_code_cell("1", execution_count=1), nbformat.v4.new_code_cell(" ", outputs=[SCRIPT])
    )
    copies.finish(path, path)
    kept = nbformat.read(path, as_version=4)
    assert "script" not in json.dumps(kept) and notary().check_signature(kept)
    path = notebook(tmp_path / "m.ipynb", nbformat.v4.new_code_cell("1", outputs=[SCRIPT]))
    with pytest.raises(RuntimeError, match="cell 0 was not executed"):
        copies.finish(path, path)
    assert not notary().check_signature(nbformat.read(path, as_version=4))


def test_a_notebook_that_lies_among_the_figures_is_not_signed_by_what_reads_it(tmp_path, notary, smoke):
    folder = tmp_path / "figures" / "deit" / "smoke"
    folder.mkdir(parents=True)
    path = notebook(folder / "deit.ipynb", nbformat.v4.new_code_cell("1", outputs=[SCRIPT], execution_count=1))
    study = smoke_study(smoke.place.results_dir)
    assert study.status()["state"].notna().all()
    assert main(["status", "deit", "--profile", "smoke", "--figures-dir", str(tmp_path / "figures"), "--results-dir", str(tmp_path)]) == 0
    assert not notary().check_signature(nbformat.read(path, as_version=4))
