"""The explorers without a browser: moving a control redraws the picture, in any thread, from stored arrays."""

import threading

import ipywidgets
import pytest
from matplotlib.figure import Figure

from tests.support import smoke_study
from vitlib.papers import deit
from vitlib.report.widgets import LIVE, Explorer, choice, slider

PNG = b"\x89PNG"


@pytest.mark.parametrize(
    ("make", "moves"),
    [
        (deit.explore_attention, {"image": 5, "block": 1, "head": 2}),
        (deit.explore_soft_target, {"image": 3, "tau": 9.0, "kd_weight": 0.8}),
    ],
)
def test_every_control_changes_the_picture(make, moves, results):
    explorer = make(results)
    seen = {bytes(explorer.picture.value)}
    for name, value in moves.items():
        explorer.controls[name].value = value
        assert bytes(explorer.picture.value).startswith(PNG)
        assert explorer.status.value.startswith("drawn: ")
        assert f"{explorer.controls[name].description} {value:g}" in explorer.status.value
        seen.add(bytes(explorer.picture.value))
    assert len(seen) == 4


def test_a_callback_in_another_thread_draws_the_same_picture(results):
    one, other = deit.explore_attention(results), deit.explore_attention(results)
    one.controls["image"].value = 7
    thread = threading.Thread(target=lambda: setattr(other.controls["image"], "value", 7))
    thread.start()
    thread.join()
    assert other.picture.value == one.picture.value


def test_the_still_picture_comes_before_the_live_one(results, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    explorer = deit.explore_attention(results)
    explorer.show()
    still, live = shown
    assert still.data == explorer.picture.value
    assert LIVE in live._dom_classes
    inside = list(widgets_in(live))
    assert explorer.picture in inside and explorer.status in inside
    assert "display: none" in next(widget.value for widget in inside if isinstance(widget, ipywidgets.HTML) and "<style>" in widget.value)


def widgets_in(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from widgets_in(child)


def test_what_cannot_be_drawn_is_said_and_raised_and_the_next_choice_is_drawn():
    def draw(n):
        if n == 2:
            raise ValueError("two is <not> stored")
        return Figure()

    explorer = Explorer(draw, {"n": slider("n", 1, 1, 3, 1)})
    before = explorer.picture.value
    with pytest.raises(ValueError, match="two is"):
        explorer.controls["n"].value = 2
    assert explorer.status.value == "<b>not drawn</b> (ValueError: two is &lt;not&gt; stored): chosen: n 2"
    assert explorer.picture.value == before
    explorer.controls["n"].value = 3
    assert explorer.status.value == "drawn: n 3"


def test_a_menu_says_labels_and_gives_values():
    menu = choice("model", {"DINO": "cl", "MAE": "mim"}, "mim")
    explorer = Explorer(lambda model: Figure(), {"model": menu})
    assert (menu.value, explorer.status.value) == ("mim", "drawn: model MAE")
    assert choice("model", ["a", "b"]).value == "a"


def test_sliders_report_once_they_are_let_go():
    assert not slider("n", 1, 0, 3, 1).continuous_update
    assert isinstance(slider("x", 1.0, 0.0, 3.0, 0.5), ipywidgets.FloatSlider)


def test_controls_reach_the_edges_of_what_is_stored(results):
    explorer = deit.explore_attention(results)
    for control in explorer.controls.values():
        control.value = control.max
        control.value = control.min
    assert isinstance(explorer, Explorer)


def test_the_soft_target_at_temperature_one_is_the_softmax_and_its_loss_equation_2(results):
    import torch
    import torch.nn.functional as F

    from vitlib.methods.distillation.losses import soft_distillation_loss, weighted

    arrays = next(run.arrays for point, run in results.runs("tokens") if point["method"] == "token")
    student, teacher = torch.tensor(arrays["student_logits"][1, :1]), torch.tensor(arrays["teacher_logits"][:1])
    axes = deit.draw_soft_target(arrays, image=1, tau=2.0, kd_weight=0.3).axes[0]
    bars = [patch.get_height() for patch in axes.containers[0].patches]
    torch.testing.assert_close(torch.tensor(bars), (teacher[0] / 2).softmax(dim=0), check_dtype=False)
    label = torch.tensor(arrays["labels"][:1])
    total = weighted(F.cross_entropy(student, label), soft_distillation_loss(student, teacher, 2.0), 0.3)
    assert axes.get_title().endswith(f"= {total:.2f}")


def test_without_a_stored_run_the_explorers_say_so(tmp_path, capsys):
    results = smoke_study(tmp_path / "empty").execute(mode="read-only")
    deit.explore_attention(results).show()
    deit.explore_soft_target(results).show()
    assert capsys.readouterr().out.count("execute the study first") == 2
