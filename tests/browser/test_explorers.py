"""Every explorer of every notebook in JupyterLab: each control moved, each choice chosen, the picture and the line looked at."""

import time

import nbformat
import pytest

from tests.browser.explorers import Explorer, NotDrawnError, all_of
from tests.browser.lab import LIVE, until
from tests.browser.places import EXPLORERS

pytestmark = pytest.mark.browser
STILL = ".jp-OutputArea-child:has(.jp-RenderedImage)"
RAISING = """from matplotlib.figure import Figure
from vitlib.report.widgets import Explorer, slider

def draw(n):
    if n == 3:
        raise ValueError("three is not stored")
    figure = Figure(figsize=(3, 2))
    figure.text(0.5, 0.5, n)
    return figure

Explorer(draw, {"n": slider("n", 1, 1, 3, 1)}).show()"""


@pytest.fixture
def ran(lab):
    """`ran(name)`: the page of a notebook after Run All, with all of its explorers."""

    def ran(page, name):
        lab.run_all(page)
        lab.wait_until_done(page, 240)
        assert not page.locator('[data-mime-type="application/vnd.jupyter.error"]').count()
        until(lambda: found(page) == EXPLORERS[name])
        return all_of(page)

    return ran


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_control_changes_the_picture_and_the_line_says_what_was_chosen(name, lab, ran, no_errors, shots):
    with lab.opened(f"notebooks/{name}.ipynb") as page:
        for explorer in ran(page, name):
            explorer.box.scroll_into_view_if_needed()
            assert not shown_still(explorer)
            for slider in explorer.sliders:
                explorer.step(slider)
                assert explorer.tells_its_controls()
            for menu in explorer.menus:
                for option in reversed(explorer.others(menu)):
                    explorer.select(menu, option)
                    assert explorer.tells_its_controls()
            page.screenshot(path=shots / f"{name}-{explorer.place}-light.png")
        settled = [explorer.said for explorer in all_of(page)]
        lab.save(page, f"notebooks/{name}.ipynb")
        page.reload(wait_until="domcontentloaded")  # the kernel lives on
        page.wait_for_selector(".jp-Notebook")
        until(lambda: found(page) == len(settled))
        for place, said in enumerate(settled):
            explorer = Explorer(page, place)
            explorer.box.scroll_into_view_if_needed()
            until(lambda explorer=explorer, said=said: explorer.said == said)
            explorer.step(explorer.sliders[0])
            assert explorer.tells_its_controls()


@pytest.mark.parametrize("name", EXPLORERS)
def test_it_is_as_readable_in_the_dark_theme_and_without_its_kernel_a_still_picture_stays(name, lab, ran, no_errors, shots):
    with lab.opened(f"notebooks/{name}.ipynb", theme="dark") as page:
        for explorer in ran(page, name):
            explorer.box.scroll_into_view_if_needed()
            page.screenshot(path=shots / f"{name}-{explorer.place}-dark.png")
        lab.save(page, f"notebooks/{name}.ipynb")
    with lab.opened(f"notebooks/{name}.ipynb") as page:
        assert found(page) == 0
        page.locator(".jp-Cell").last.locator(STILL).wait_for(state="visible")
        page.screenshot(path=shots / f"{name}-reopened.png")


def test_an_executed_copy_shows_its_pictures_untrusted_and_no_dead_control(lab, root, no_errors, shots):
    with lab.opened("figures/deit/quick/deit.ipynb") as page:
        assert found(page) == 0
        page.locator(".jp-Cell").last.locator(STILL).wait_for(state="visible")
        assert page.locator(".jupyter-widgets").count() == 0
        page.screenshot(path=shots / "executed-copy.png")


def test_a_callback_that_raises_is_seen(lab, root, no_errors):
    """What the tests above rest on: an explorer that cannot draw says so, and who moves it is told."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(RAISING)], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    nbformat.write(notebook, root / "raising.ipynb")
    with lab.opened("raising.ipynb") as page:
        lab.run_all(page)
        until(lambda: len(all_of(page)) == 1)
        (explorer,) = all_of(page)
        explorer.step(explorer.sliders[0])
        with pytest.raises(NotDrawnError, match="three is not stored"):
            explorer.step(explorer.sliders[0])
        page.keyboard.press("Home")
        until(lambda: explorer.said == "drawn: n 1")


def found(page):
    """Explorers of a page that draws the cells around what is seen alone: its last cells, one after the other, are looked at."""
    for place in (-1, -2, -3, -4):
        page.evaluate(f"[...document.querySelectorAll('.jp-Cell')].at({place}).scrollIntoView()")
        time.sleep(0.2)
    return len(all_of(page))


def shown_still(explorer):
    """Whether the picture before the live one is to be seen."""
    before = explorer.page.locator(f".jp-OutputArea-child:has(+ .jp-OutputArea-child {LIVE})").nth(explorer.place)
    return before.is_visible()
