"""The site: links as the site has them, notebooks as pages, and a check that sees what is broken. Sphinx itself is not needed here."""

import base64
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from docs.site import api, axe, check, layout, links, sources
from docs.site.__main__ import main, missing
from docs.site.notebooks import dressed, files, to_download
from tests.support import ROOT

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\(")


@pytest.fixture
def checkout(tmp_path):
    for name in (
        "README.md",
        "docs/claims.md",
        "figures/deit/desk/deit.ipynb",
        "figures/deit/desk/table.csv",
        "vitlib/spec.py",
        "CITATION.cff",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("README.md", "[a](docs/claims.md#how)", "[a](docs/claims.md#how)"),
        ("docs/gpu.md", "[a](../README.md), [b](claims.md)", "[a](../index.md), [b](claims.md)"),
        ("docs/gpu.md", "[`spec`](../vitlib/spec.py)", "[`spec`](../vitlib/spec.py.md)"),
        ("docs/gpu.md", "[one](../notebooks/deit.ipynb)", "[one](../figures/deit/desk/deit.ipynb)"),
        ("figures/deit/desk/deit.ipynb", "![curve](./table.csv)", "![curve](table.csv)"),
        ("docs/gpu.md", "[gone](../nowhere.md) and [a folder](../vitlib)", "gone and a folder"),
        ("docs/gpu.md", "[out](../../secret.md)", "out"),
        ("docs/gpu.md", "[web](https://example.org/../x.md) [here](#part) [mail](mailto:a@example.org)", None),
        ("docs/gpu.md", "```\n[a](claims.md.txt)\n```", None),
    ],
)
def test_links_of_the_checkout_become_those_of_the_site(checkout, page, text, expected):
    notebooks = {"notebooks/deit.ipynb": "figures/deit/desk/deit.ipynb"}
    assert links.rewritten(text, page, checkout, notebooks, lambda path: None) == (text if expected is None else expected)


def test_what_a_page_links_to_is_reported_by_its_place_in_the_checkout(checkout):
    wanted = []
    links.rewritten("[a](claims.md) [b](../CITATION.cff) [c](gone.md)", "docs/gpu.md", checkout, {}, wanted.append)
    assert wanted == ["docs/claims.md", "CITATION.cff"]


@pytest.fixture
def dress(tmp_path):
    """A notebook of some code cells as the site shows it."""

    def dressed_cells(*cells):
        notebook = new_notebook(cells=[new_markdown_cell("## Results"), *cells])
        return dressed(notebook, str.upper, lambda names: to_download(files(tmp_path, names))).cells

    return dressed_cells


def picture(*, alt="", caption=""):
    outputs = [new_output("display_data", {"image/png": PNG}, metadata={"image/png": {"alt": alt} if alt else {}})]
    outputs += [new_output("display_data", {"text/markdown": caption})] if caption else []
    return new_code_cell('study.save_figure(f(results), "figure_one")', outputs=outputs)


@pytest.mark.parametrize(
    ("said", "alt"),
    [
        ({"alt": "A curve.", "caption": "*Other.*"}, "A curve."),
        ({"caption": "*Top-1 by `method`.*"}, "Top-1 by method."),
        ({}, "Figure of the section 'RESULTS'"),
    ],
)
def test_a_picture_has_its_own_alt_text_else_its_caption_else_its_section(dress, said, alt):
    cell = dress(picture(**said))[1]
    assert cell.metadata["mystnb"]["image"]["alt"] == alt and "hide-input" in cell.metadata["tags"]


def test_files_that_a_cell_saved_can_be_downloaded_below_it(dress, tmp_path):
    (tmp_path / "figure_one.pdf").touch()
    assert "<figure_one.pdf>" in dress(picture())[2].source
    (tmp_path / "figure_one.pdf").unlink()
    assert len(dress(picture())) == 2


def test_a_table_scrolls_in_a_box_that_the_keyboard_reaches_below_its_caption(dress):
    row = "<tr><td>1</td></tr>"
    html = f'<style>#T{{}}</style><table border="1"><caption>All of <b>it</b>.</caption>{row}</table><table>{row}</table>'
    shown = dress(new_code_cell("table", outputs=[new_output("execute_result", {"text/html": html})]))[1].outputs[0].data["text/html"]
    caption, box = shown.index('<div class="table-caption"'), shown.index('<div aria-labelledby="')
    assert caption < box and "<caption" not in shown and "border=" not in shown
    assert shown.count('role="region"') == shown.count('tabindex="0"') == 2 and "Table of the section RESULTS" in shown


def page(folder, name, body):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"<html><body>{body}</body></html>")


def test_the_check_passes_sound_pages_and_names_each_planted_fault(tmp_path, capsys):
    page(tmp_path, "index.html", '<a href="a/b.html#part">x</a><a href="#top" id="top">y</a><a href="https://example.org">z</a>')
    page(tmp_path, "a/b.html", '<h1 id="part">t</h1><img src="../p.png" alt="A curve"><a href="../index.html">up</a>')
    (tmp_path / "p.png").touch()
    assert check.report(tmp_path) == 0
    page(
        tmp_path,
        "bad.html",
        '<a href="gone.html"></a><a href="a/b.html#none"></a><img src="p.png"><script src="https://example.org/x.js"></script>',
    )
    page(tmp_path, "out.html", '<a href="../outside.html"></a>')
    (tmp_path.parent / "outside.html").touch()
    assert check.report(tmp_path) == 1
    said = {
        "bad.html: leads nowhere: gone.html",
        "bad.html: leads nowhere: a/b.html#none",
        "bad.html: no alt text: p.png",
        "bad.html: asks another machine for https://example.org/x.js",
        "out.html: leads nowhere: ../outside.html",
    }
    assert said == set(check.faults(tmp_path))


def test_every_notebook_is_shown_once_at_desk_if_it_has_that():
    copies = layout.executed()
    assert {copy.notebook for copy in copies} == {path.stem for path in (ROOT / "figures").glob("*/*/*.ipynb")}
    profiles = {copy.notebook: copy.profile for copy in copies if copy.profile != "tiny"}
    assert profiles["deit"] == "desk" and profiles["your_model"] == "quick" and copies[0].notebook == "overview"


def test_pages_of_the_side_bar_exist():
    listed = [page for pages in layout.sections(layout.executed(), []).values() for page in pages]
    assert [page for page in listed if not (ROOT / page).exists()] == []


def test_every_guide_stands_in_the_side_bar():
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} == {*layout.GUIDES, *layout.BACKGROUND}


def test_pages_that_are_linked_follow_and_a_copy_at_tiny_stands_beside(tmp_path):
    root, folder = tmp_path / "checkout", tmp_path / "source"
    texts = {
        "README.md": "# vitlib\n[gpu](docs/gpu.md)",
        "docs/gpu.md": "# GPU\n[spec](../vitlib/spec.py), [table](../figures/deit/desk/table_1.md)",
        "vitlib/spec.py": "def spec(): ...",
        "figures/deit/desk/table_1.md": "A table.",
        "figures/deit/desk/table_1.csv": "a,b",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for profile in ("desk", "tiny"):
        (root / "figures/deit" / profile).mkdir(exist_ok=True)
        nbformat.write(new_notebook(cells=[new_markdown_cell("# DeiT")]), root / "figures/deit" / profile / "deit.ipynb")
    sources.write(folder, root)
    front = (folder / "index.md").read_text()
    assert "[gpu](docs/gpu.md)" in front and "\nfigures/deit/desk/deit.ipynb\nDeiT, tiny <figures/deit/tiny/deit.ipynb>\n" in front
    assert "def spec(): ..." in (folder / "vitlib/spec.py.md").read_text()
    table = (folder / "figures/deit/desk/table_1.md").read_text()
    assert "orphan: true" in table and "# Table 1 (deit, desk)" in table and "<table_1.csv>" in table
    assert (folder / "figures/deit/desk/table_1.csv").read_text() == "a,b"


def test_the_reference_has_every_module_with_something_public(tmp_path):
    pages = api.write(tmp_path, ROOT)
    text = "".join((tmp_path / name).read_text() for name in pages)
    assert pages[0] == api.INDEX and len(pages) > 30
    for name in ("vitlib.spec", "vitlib.report.figures", "vitlib.papers.deit.tables", "vitlib.compress.doors"):
        assert f".. automodule:: {name}\n" in text
    assert "vitlib.__main__" not in text


def test_letters_that_would_be_marks_are_escaped_outside_code():
    assert api.escaped(["|Δlogit| of `a*b|c` and *args, weights_"]) == ["\\|Δlogit\\| of `a*b|c` and \\*args, weights\\_"]


def markdown_with_pictures():
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
        yield path.name, path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        yield path.name, "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_pictures_of_pages_and_notebooks_say_what_they_show():
    found = [(name, alt) for name, text in markdown_with_pictures() for alt in MARKDOWN_IMAGE.findall(text)]
    assert found and [name for name, alt in found if len(alt) < 20] == []


def test_without_sphinx_the_command_says_what_to_install(monkeypatch, capsys):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert main([]) == 2
    assert "sphinx" in capsys.readouterr().err


def test_a_folder_that_is_no_site_is_not_emptied(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("docs.site.__main__.missing", lambda extra: [])
    monkeypatch.setattr("docs.site.__main__.build", lambda out: pytest.fail("it was built"))
    (tmp_path / "thesis.tex").touch()
    assert main(["--out", str(tmp_path)]) == 2
    assert "choose another" in capsys.readouterr().err and (tmp_path / "thesis.tex").exists()


def test_a_requirement_is_missing_where_its_version_is_too_old(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1")
    assert any(requirement.startswith("sphinx>=") for requirement in missing("site"))


def test_the_browser_check_is_skipped_with_a_reason_where_there_is_no_site(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["axe", str(tmp_path)])
    assert axe.main() == 0
    assert "skipped: no site in" in capsys.readouterr().out


def test_the_whole_site_is_built_and_sound(tmp_path):
    if missing("site"):
        pytest.skip(f"the extra 'site' is not installed: {', '.join(missing('site'))}")
    ran = subprocess.run([sys.executable, "-m", "docs.site", "--out", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, "WARNING" in ran.stderr) == (0, False), ran.stderr
    assert "leads somewhere" in ran.stdout
    html = Path(tmp_path / "site/figures/deit/desk/deit.html").read_text(encoding="utf-8")
    assert html.count('class="table-box"') > 5 and "tex-svg.js" in html and ".pdf" in html
