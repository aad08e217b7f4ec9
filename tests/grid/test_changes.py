"""Changed studies: what counts as a change, how it is named, and that its artefacts never touch those of the unchanged study."""

import json
import re

import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.support import EXAMPLE, files_below
from vitlib import documents, load_study
from vitlib.grid.changes import folder_name, in_a_line
from vitlib.spec import SpecError
from vitlib.studies.artefacts import stamp

PROFILES = ("smoke", "quick", "tiny", "paper")


def study(overrides, tmp_path, paper="deit", profile="smoke"):
    return load_study(paper, profile, overrides=overrides, results_dir=str(tmp_path / "results"), figures_dir=str(tmp_path / "figures"))


@pytest.mark.parametrize("paper", documents())
@pytest.mark.parametrize("profile", PROFILES)
def test_the_example_of_overrides_works_in_every_document_at_every_profile_and_is_a_change_there(paper, profile, tmp_path):
    assert study(EXAMPLE, tmp_path, paper, profile).changes["recipe.epochs"] == 8


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"seeds": [0]},
        {"recipe": {"epochs": 2, "beta2": 0.999}},  # the profile's, and a default that no entry names
        {"recipe": {}},
        {"students": {"tiny": {"depth": 1}}},
    ],
)
def test_overrides_equal_to_what_holds_anyway_are_no_change(same, tmp_path):
    changed = study(same, tmp_path)
    assert changed.changes == {}
    assert changed.folder == tmp_path / "figures" / "deit" / "smoke"
    assert stamp(changed) == stamp(study(None, tmp_path))


def test_changes_are_listed_by_dotted_name_in_one_order_whatever_the_order_and_spelling_given(tmp_path):
    one = study({"recipe": {"lr": 1, "epochs": 8}, "seeds": [1, 2]}, tmp_path)
    other = study('{"seeds": [1, 2], "recipe": {"epochs": 8, "lr": 1.0}}', tmp_path)
    assert list(one.changes.items()) == [("recipe.epochs", 8), ("recipe.lr", 1.0), ("seeds", [1, 2])]
    assert one.changes == other.changes
    assert one.folder == other.folder == tmp_path / "figures" / "deit" / "smoke-recipe.epochs=8,recipe.lr=1.0,seeds=1+2"


def test_a_new_table_and_another_origin_are_listed_by_what_was_given(tmp_path):
    wanted = {"run": {"profile": "smoke", "method": "dino", "model": "micro", "seed": 0}}
    changed = study({"teacher": {"origin": wanted}}, tmp_path, "wecolora").changes
    assert changed == {f"teacher.origin.run.{name}": value for name, value in wanted["run"].items()}
    timing = {"source": "digits", "image_size": 16}
    assert study({"timing_data": timing}, tmp_path, "wecolora").changes == {f"timing_data.{k}": v for k, v in timing.items()}


@pytest.mark.parametrize(
    "changed",
    [
        {"data.source": "folder/日本語 & <b>"},
        {"data.source": "folder/" + "x" * 400},
        {"data.source": "folder/CON"},
        {"note": 'a/b\\c:d*e?f"g'},
        {f"setting{number}": number for number in range(50)},
    ],
)
def test_names_of_folders_are_short_and_safe_for_any_file_system(changed):
    name = folder_name("quick", changed)
    assert re.fullmatch(r"quick-[a-z0-9._=,+-]{1,60}-[0-9a-f]{8}", name)
    assert name == folder_name("quick", dict(changed))


def test_changes_that_a_file_system_would_confuse_have_folders_of_their_own():
    alike = [{"data.source": source} for source in ("folder/pets", "folder/Pets", "folder-pets", "folder?pets", "folder/pets.")]
    assert len({folder_name("quick", changed).lower() for changed in alike}) == len(alike)


def test_few_changes_stand_in_the_stamp_and_many_are_counted():
    assert in_a_line({"recipe.epochs": 8, "seeds": [0]}) == "recipe.epochs=8, seeds=0"
    assert in_a_line({f"recipe.setting{number}": number for number in range(7)}) == "7 settings, see changes.json"
    assert in_a_line({"data.source": "folder/" + "x" * 400}) == "1 setting, see changes.json"


def test_artefacts_of_a_changed_study_leave_those_of_the_unchanged_one_untouched(tmp_path):
    """Tables and figures go beside them, with the full list of changes."""

    def save(into):
        into.save_table(pd.DataFrame({"top1": [float(len(into.changes))]}), "table_x")
        into.save_figure(Figure(), "figure_x")
        return {name: (into.folder / name).read_bytes() for name in files_below(into.folder)}

    plain, changed = study(None, tmp_path), study(EXAMPLE, tmp_path)
    before = save(plain)
    assert set(before) == {"table_x.csv", "table_x.md", "figure_x.csv", "figure_x.png", "figure_x.pdf"}
    beside = save(changed)
    assert {name: (plain.folder / name).read_bytes() for name in files_below(plain.folder)} == before
    assert changed.folder == plain.folder.with_name("smoke-recipe.epochs=8")
    assert json.loads(beside["changes.json"]) == {"document": "deit", "profile": "smoke", "changes": {"recipe.epochs": 8}}
    assert str(changed.folder) in changed._repr_html_() and "recipe.epochs=8" in changed._repr_html_()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"epochs": ', "overrides: got the text '{\"epochs\": '; allowed: a table of settings such as .* -y"),
        ("epochs=3", "overrides: got the text 'epochs=3'"),
        ("[1]", r"overrides: got \[1\]; allowed: a table of settings"),
        ("3", "overrides: got 3; allowed: a table"),
        ("[" * 100_000, "overrides: got the text .*nested too deep"),
        ('{"seeds": [0], "seeds": [1]}', "'seeds' is given twice"),
        ('{"seeds": [1e999]}', "seeds.0: got inf"),
        (3, "overrides: got 3"),
        ({"recipe": {"lr": 10**5000}}, "recipe.lr: got a whole number of 16610 bits; allowed: whole numbers below"),
        ({"seeds": range(3)}, "allowed: plain numbers"),
        ({1: 2}, "allowed: .*tables with names as keys"),
        ({"teacher": "a\0b"}, "control characters"),
        ({"teacher": "\ud800"}, "unpaired surrogates"),
        ({"\ud800": 1}, "a name in the settings: .*unpaired surrogates"),
    ],
)
def test_overrides_of_a_wrong_shape_are_refused_in_one_short_line(given, said, tmp_path):
    with pytest.raises(SpecError, match=said) as refused:
        study(given, tmp_path)
    assert len(str(refused.value)) < 400 and "\n" not in str(refused.value)


def test_settings_nested_too_deep_are_refused(tmp_path):
    deep: dict = {}
    for _ in range(5000):
        deep = {"recipe": deep}
    with pytest.raises(SpecError, match="nested deeper than 12 levels"):
        study(deep, tmp_path)


def test_a_long_value_and_many_faults_are_cut_in_the_message(tmp_path):
    with pytest.raises(SpecError) as refused:
        study({"recipe": {"lr": "x" * 10_000, **{f"unknown{number}": number for number in range(100)}}}, tmp_path)
    lines = str(refused.value).splitlines()
    assert len(lines) == 6 and lines[-1] == "... and 96 more"
    assert max(map(len, lines)) < 500


def test_three_epochs_for_five_stages_are_refused_when_the_study_is_loaded(tmp_path):
    with pytest.raises(SpecError, match=r"staged_epochs=1 leave none of 2 epochs .*; allowed: recipe.epochs above 2.*"):
        study({"recipe": {"epochs": 2}}, tmp_path, "wecolora")


def test_a_grid_that_nobody_could_compute_is_refused_before_it_is_built(tmp_path):
    # a seed: Table 2 has 2 teachers x 3 columns, Table 3 4 methods x 3 sizes, Table 5 3 x 3, Figure 3 4, tokens 2; 10 runs have no seed
    with pytest.raises(SpecError, match=r"grid: the settings ask for 34,000,009 runs, 12,000,000 of them for the table 'strategies'"):
        study({"seeds": list(range(1_000_000))}, tmp_path)


def test_a_long_value_that_a_validator_echoes_is_cut_too(tmp_path):
    with pytest.raises(SpecError, match=r"teacher='x+ … x+' is not among the teachers; allowed: ResNet-8$") as refused:
        study({"teacher": "x" * 10_000}, tmp_path)
    assert len(str(refused.value)) < 900
