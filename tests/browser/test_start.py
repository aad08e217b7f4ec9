"""`make lab` opens the checkout at its start notebook: what is here, how long it takes, links that work, what is stored."""

import pytest

from tests.browser.lab import until

pytestmark = pytest.mark.browser


def test_the_start_notebook_shows_what_is_stored_and_its_links_open_notebooks(lab, no_errors, shots):
    with lab.opened("start.ipynb") as page:
        lab.run_all(page)
        lab.wait_until_done(page, 120)
        rows = page.locator(".jp-RenderedHTMLCommon table").last.locator("tbody tr").all_inner_texts()
        assert [row.split()[0] for row in rows] == ["afr_pruning", "deit", "dual_ssl_kd", "multi_distillation", "wecolora", "overview"]
        assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
        page.screenshot(path=shots / "start.png")
        page.locator(".jp-Notebook").get_by_role("link", name="wecolora", exact=True).click()
        until(lambda: page.get_by_text("WeCoLoRA with SVD-initialised LoRA").count() > 0)


@pytest.mark.parametrize("link", ["docs/exploring.md", "figures/deit/desk/deit.ipynb", "notebooks/your_model.ipynb", "CONTRIBUTING.md"])
def test_lab_finds_what_the_start_notebook_links_to(link, lab):
    assert lab.ask(f"contents/{link}?content=0")["path"] == link
