"""The surrogate of the search, its explorer, and the best setting taken away in a file."""

import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest

from tests.papers.multi_distillation.support import smoke_of
from vitlib.__main__ import main
from vitlib.grid.results import Results
from vitlib.papers import multi_distillation
from vitlib.papers.multi_distillation.search.space import LETTERS
from vitlib.papers.multi_distillation.search.surrogate import fit
from vitlib.spec import SpecError

# ------------------------------------------------------------------------------------------------ surrogate, explorer


@pytest.fixture(scope="module")
def surface(study):
    """400 trials whose accuracy depends on h and c, with noise of one point."""
    noise = np.random.default_rng(1).normal(0, 1, 400)
    drawn_ = [study.settings.space.drawn(0, number).model_dump() for number in range(400)]
    return pd.DataFrame([w | {"top1": 50 - 4 * w["h"] + 10 * w["c"] + noise[n]} for n, w in enumerate(drawn_)])


def test_the_surrogate_knows_the_surface_to_the_noise(study, surface):
    surrogate = fit(surface, study.settings.space)
    assert 0.9 < surrogate.error < 2
    for h in (0.5, 2.5, 4.5):
        weights = {**dict.fromkeys("abfg", 0.5), "d": 50.0, "e": 50.0, "i": 2.5, "c": 0.5, "h": h}
        assert surrogate.predicted(weights) == pytest.approx(50 - 4 * h + 5, abs=2.5)


def test_the_nearest_trial_of_a_measured_setting_is_itself_and_of_others_the_nearest_in_units_of_the_ranges(study, surface):
    few = pd.concat([surface[:30], surface[:30].assign(top1=lambda frame: frame["top1"] + 2)])
    surrogate = fit(few, study.settings.space)
    assert len(surrogate.trials) == 30
    for _, row in surface[:30].iterrows():
        assert surrogate.nearest(row[list(LETTERS)].to_dict()).to_dict() == pytest.approx({**row.to_dict(), "top1": row["top1"] + 1})
    spans = {letter: getattr(study.settings.space, letter).high - getattr(study.settings.space, letter).low for letter in LETTERS}
    for number in range(400, 420):
        wanted = study.settings.space.drawn(0, number).model_dump()
        ways = [sum(((row[k] - wanted[k]) / spans[k]) ** 2 for k in LETTERS) for _, row in surface[:30].iterrows()]
        assert surrogate.nearest(wanted)[list(LETTERS)].to_dict() == surface.iloc[int(np.argmin(ways))][list(LETTERS)].to_dict()


def test_the_explorer_begins_at_the_best_trial_and_draws_at_both_ends_of_its_controls(results):
    explorer = multi_distillation.explore_weights(results)
    best = results.frame("trials").set_index("number").loc[lambda frame: frame["top1"].idxmax()]
    assert {name: control.value for name, control in explorer.controls.items()} == pytest.approx(best[list(LETTERS)].to_dict())
    surrogate = fit(results.frame("trials"), results.study.settings.space)
    for end in ("min", "max"):
        weights = {name: getattr(control, end) for name, control in explorer.controls.items()}
        assert weights == pytest.approx(
            {k: getattr(getattr(results.study.settings.space, k), {"min": "low", "max": "high"}[end]) for k in LETTERS}
        )
        figure = multi_distillation.draw_prediction(surrogate, results.study.settings.space, weights)
        assert [bar.get_height() for bar in figure.axes[0].patches] == pytest.approx([float(end == "max")] * 9)
    assert type(multi_distillation.explore_weights(Results(results.study, {}))).__name__ == "NothingToExplore"


# ------------------------------------------------------------------------------------------------ taken away


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_the_best_setting_taken_away_is_a_method_of_the_comparison(results, tmp_path, search, capsys):
    path = multi_distillation.save_best(results, tmp_path / "new" / "best.toml", search)
    folder = shutil.copytree(results.study.place.results_dir, tmp_path / "results")
    arguments = ["multi_distillation", "--profile", "smoke", "--results-dir", str(folder), "--device", "cpu", "--from", str(path)]
    assert main(["run", *arguments, "--executor", "inline"]) == 0
    taken = smoke_of(folder, overrides=tomllib.loads(path.read_text(encoding="utf-8")))
    run, best = taken.execute(mode="read-only").run("methods", method="best"), results.run("best", search=search, step="as given")
    assert run.metrics == best.metrics and len(taken.specs) == len(results.study.specs) + 1
    assert taken.settings.changed(methods=results.study.settings.methods) == results.study.settings
    capsys.readouterr()
    assert main(["status", *arguments, "--overrides", '{"seeds": [0, 1], "trial_seeds": [0, 1]}']) == 0
    (counts,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("methods"))
    assert sorted(map(int, counts[1:])) == [8, 8]  # by seed: stored, missing


def test_a_search_that_is_not_whole_or_not_known_is_refused(results, tmp_path):
    gone = next(cell.spec.id for cell in results.study.cells if cell.table == "guided")
    fewer = Results(results.study, {run_id: run for run_id, run in results.stored.items() if run_id != gone})
    multi_distillation.save_best(fewer, tmp_path / "random.toml")
    with pytest.raises(SpecError, match=r"search: 5 of the 6 trials of 'tpe' are stored; execute the study first"):
        multi_distillation.save_best(fewer, tmp_path / "tpe.toml", "tpe")
    with pytest.raises(SpecError, match=r"search: got 'grid'; allowed: random, tpe"):
        multi_distillation.save_best(results, tmp_path / "grid.toml", "grid")
    assert [path.name for path in tmp_path.iterdir()] == ["random.toml"]


@pytest.mark.parametrize("content", [None, "[methods.best\n", "a = 1\nb", b"\xff\xfe"])
def test_a_settings_file_that_cannot_be_read_is_refused_with_its_name(tmp_path, capsys, content):
    path = tmp_path / "best.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as error:
        main(["run", "multi_distillation", "--profile", "smoke", "--results-dir", str(tmp_path / "results"), "--from", str(path)])
    said = capsys.readouterr().err
    assert error.value.code == 2 and str(path) in said and "allowed: a TOML file of settings" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[methods.best.objective.weights]\na = 1.0\n", r"methods\.best\.objective\.weights\.b: missing"),
        ("[method.best]\na = 1.0\n", r"method: unknown field; did you mean 'methods'"),
        (
            "[methods.best]\nobjective = {weights = {a = 0.0, b = 0.0, c = 0.0, d = 0.0, e = 0.0, f = 1.0, g = 1.0, h = 0.0, i = 0.0}}\n",
            r"no label",
        ),
    ],
)
def test_a_settings_file_with_other_contents_is_refused_before_anything_is_computed(tmp_path, capsys, content, message):
    path = tmp_path / "best.toml"
    path.write_text(content)
    assert main(["run", "multi_distillation", "--profile", "smoke", "--results-dir", str(tmp_path / "results"), "--from", str(path)]) == 2
    assert pd.Series([capsys.readouterr().err]).str.contains(message).all()
    assert not (tmp_path / "results").exists()
