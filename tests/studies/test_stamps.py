"""Artefacts under overrides: figures keep their width, nothing of them is cut, and the example of docs/exploring.md runs everywhere."""

import importlib
import struct

import pytest

from tests.kinds import one_of_each_kind
from tests.support import EXAMPLE
from vitlib import documents, load_study
from vitlib.report import figures
from vitlib.runs.execute import execute
from vitlib.studies import artefacts

DPI = 200
A_SEARCH = 10  # runs or more
OWN_IMAGES = {"source": "folder/mine", "image_size": 96, "per_class": None}
OWN_DATA = {
    "afr_pruning": {"generic": {"mine": OWN_IMAGES}, "stands_for": {"mine": "CIFAR-10"}},
    "deit": {"data": OWN_IMAGES, "second_test": None, "finetune_size": 128},
    "dual_ssl_kd": {"data": OWN_IMAGES},
    "multi_distillation": {"data": OWN_IMAGES},
    "wecolora": {"data": OWN_IMAGES},
}
CHECKPOINT = {"file": "a/long/path/to/my/model.safetensors", "sha256": "0" * 64, "image_size": 32, "mean": [0.3] * 3, "std": [0.4] * 3}
VIT = {"embed_dim": 48, "depth": 12, "num_heads": 3, "patch_size": 4}
OWN_TEACHER = {"origin": {**CHECKPOINT, "model": VIT}}
OWN_MODEL = {
    "afr_pruning": {"teachers": {"supervised": OWN_TEACHER}},
    "deit": {"students": {"base": {"embed_dim": 32, "depth": 3, "mlp_ratio": 3.0}}},
    "dual_ssl_kd": {"references": {"mine": OWN_TEACHER}},
    "multi_distillation": {"model": {"width": 6, "blocks": [1, 2, 1, 1]}},
    "wecolora": {"teacher": OWN_TEACHER},
}
LONG = {"recipe": {"epochs": 8, "lr": 0.012345, "min_lr": 1e-7, "weight_decay": 0.123, "clip_grad": 1.5, "beta2": 0.95, "warmup_lr": 1e-7}}
FEW = {"seeds": [0, 1]}  # half of the runs of which are stored
CHANGES = {
    "none": lambda paper: None,
    "two seeds": lambda paper: FEW,
    "all": lambda paper: OWN_DATA[paper] | OWN_MODEL[paper] | LONG | {"seeds": list(range(12))},
}


@pytest.mark.parametrize("paper", documents())
def test_the_example_of_overrides_is_computed_in_every_document(paper, tmp_path):
    """A run of each kind, but for those that start from a whole search."""
    study = load_study(paper, "smoke", overrides=EXAMPLE, results_dir=str(tmp_path), device="cpu")
    kinds = [spec for spec in one_of_each_kind(study) if len(list(spec.family())) < A_SEARCH]
    results = execute(kinds, study.place)
    assert len(kinds) > 2 and {spec.id for spec in kinds} <= set(results)
    assert 8 in {spec.recipe.epochs for spec in kinds if hasattr(spec, "recipe")}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("paper", documents())
def test_figures_keep_their_width_and_nothing_of_them_is_cut(paper, change, finished, tmp_path):
    store = finished(paper).place.results_dir
    study = load_study(paper, "smoke", overrides=CHANGES[change](paper), results_dir=str(store), device="cpu")
    assert bool(study.changes) == (change != "none")
    results, module = study.execute(mode="read-only"), importlib.import_module(f"vitlib.papers.{paper}")
    names = [name for name in dir(module) if name.startswith("figure_")]
    for name in names:
        figure = getattr(module, name)(results)
        with figures.style(), figures._stamped(figure, artefacts.stamp(study)):
            figure.draw_without_rendering()
            drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
            stamp, *below = figure.texts[-1], *figure.axes, *filter(None, (figure._supxlabel,))
            lowest = min(artist.get_tightbbox().y0 for artist in below)
            assert stamp.get_window_extent().y1 <= lowest + 1, name  # of the saved picture's pixels
        assert width == figures.COLUMN, name
        assert drawn.x0 > -0.01 and drawn.y0 > -0.01 and drawn.x1 < width + 0.01 and drawn.y1 < height + 0.01, name
    figures.save(figure, tmp_path / "figure", artefacts.stamp(study))
    assert struct.unpack(">I", (tmp_path / "figure.png").read_bytes()[16:20]) == (round(DPI * figures.COLUMN),)


def test_a_long_stamp_is_wrapped_below_the_axes_and_leaves_the_figure_as_it_was():
    figure, ((axes,),) = figures.canvas(height=2.0)
    axes.plot([0, 1], [0, 1])
    axes.set_xlabel("epoch")
    figure.draw_without_rendering()
    before = axes.get_position().bounds
    with figures.style(), figures._stamped(figure, "DeiT · profile quick · changed: recipe.epochs=8 · digits, 8 and 12 px " * 6):
        figure.draw_without_rendering()
        renderer, (stamp,) = figure.canvas.get_renderer(), figure.texts
        text, label = stamp.get_window_extent(renderer), axes.xaxis.label.get_window_extent(renderer)
        assert stamp.get_text().count("\n") == 3
        assert text.x0 > 0 and text.y0 > 0 and text.y1 < label.y0
        assert axes.get_window_extent().height == pytest.approx(before[3] * 2.0 * figure.dpi, rel=0.02)
    figure.draw_without_rendering()
    assert axes.get_position().bounds == pytest.approx(before) and figure.texts == []


@pytest.mark.parametrize(
    ("paper", "figure", "overrides", "said"),
    [
        ("deit", "figure_strategies", None, " · digits, 8 and 12 px · "),
        ("deit", "figure_epochs", None, " · digits, 8 and 12 px · "),  # reads Table 5, whose last column is larger
        ("deit", "figure_attention", None, " · digits, 8 px · "),  # by its parents: the run has no images of its own
        ("deit", "figure_architecture", None, "profile smoke · 1 seed"),  # a diagram
        ("dual_ssl_kd", "figure_distance", OWN_DATA["dual_ssl_kd"], " · digits, 16 px · "),
        ("dual_ssl_kd", "figure_students", OWN_DATA["dual_ssl_kd"], " · folder/mine, 96 px · "),
        ("wecolora", "figure_accuracy", OWN_DATA["wecolora"], " · digits, 16 px · "),  # of the probes, not of the distillation
        ("wecolora", "figure_losses", OWN_DATA["wecolora"], " · folder/mine, 96 px · "),
    ],
)
def test_the_stamp_of_a_figure_names_the_images_that_it_draws(paper, figure, overrides, said, tmp_path, monkeypatch):
    stamps = []
    monkeypatch.setattr(figures, "save", lambda figure, path, stamp: stamps.append(stamp))
    study = load_study(paper, "smoke", overrides=overrides, results_dir=str(tmp_path), figures_dir=str(tmp_path))
    results = study.execute(mode="read-only")
    results.frame(study.cells[-1].table)  # what a cell of the notebook looked at before is not drawn
    study.save_figure(getattr(importlib.import_module(f"vitlib.papers.{paper}"), figure)(results), figure)
    assert said in stamps[0]


def test_letters_that_the_font_lacks_are_question_marks(tmp_path):
    """A warning of matplotlib would be an error here."""
    figure, _ = figures.canvas()
    figures.save(figure, tmp_path / "figure", "folder/日本語 · é ρ")
    assert figures._printable("folder/日本語 · é ρ") == "folder/??? · é ρ"


@pytest.mark.parametrize(
    ("paper", "overrides", "said"),
    [
        ("deit", None, "digits, 8 and 12 px"),
        ("dual_ssl_kd", None, "digits, 8 and 16 px"),
        ("dual_ssl_kd", OWN_DATA["dual_ssl_kd"], "digits, 8 and 16 px; folder/mine, 96 px"),
        ("deit", OWN_DATA["deit"], "folder/mine, 96 and 128 px"),
        ("deit", LONG, "changed: 7 settings, see changes.json ·"),
        (
            "deit",
            {"seeds": list(range(12))},
            "changed: seeds=0+1+2+3+4+5+6+7+8+9+10+11 · digits, 8 and 12 px · 12 seeds unless said otherwise",
        ),
    ],
)
def test_the_stamp_of_a_table_is_short_and_names_the_images_of_all_runs(paper, overrides, said, tmp_path):
    stamp = artefacts.stamp(load_study(paper, "smoke", overrides=overrides, results_dir=str(tmp_path)))
    assert said in stamp and len(stamp) < 250


@pytest.mark.parametrize(("seeds", "said"), [([0], True), ([0, 1], False)])
def test_a_caption_of_intervals_says_where_one_seed_has_none(seeds, said, tmp_path):
    study = load_study("deit", "smoke", overrides={"seeds": seeds}, results_dir=str(tmp_path))
    captions = {
        name: artefacts.caption(study, name) for name in ("figure_strategies", "table_strategies", "figure_architecture", "table_cost")
    }
    assert [artefacts.ONE_SEED in text for text in captions.values()] == [said, said, False, False]
