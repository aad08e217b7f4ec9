"""WeCoLoRA from other shares of the training images: which runs these are, and what is said of them."""

from types import SimpleNamespace

import pytest

from vitlib import load_study
from vitlib.grid.results import Results
from vitlib.papers import wecolora
from vitlib.spec import SpecError


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return load_study(
        "wecolora", "quick", overrides={"shares": [0.25, 1.0]}, results_dir=str(tmp_path_factory.mktemp("none")), device="cpu"
    )


def arm(cell):
    return tuple(cell.point[key] for key in ("lora_init", "schedule", "reduction", "seed", "dataset"))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_they_differ_from_those_of_table_1_in_their_training_images_alone(share, study):
    plain = {arm(cell): cell.spec for cell in study.cells if cell.table == "accuracy"}
    chosen = [cell for cell in study.cells if cell.table == "shares" and cell.point["share"] == share]
    assert len(chosen) == 2 * 2 * len(study.settings.seeds) * len(study.settings.sets)
    for cell in chosen:
        one, student = plain[arm(cell)], cell.spec.student
        assert (student.data.fraction, student.data.per_class) == (share, None)
        assert cell.spec.changed(student=student.changed(data=one.student.data)) == one


def test_a_share_that_is_none_is_refused():
    with pytest.raises(SpecError, match="shares"):
        load_study("wecolora", "quick", overrides={"shares": [0.0]})


def made(study, values):
    """Accuracies by (share, start, schedule), 0.1 apart from seed to seed."""
    return Results(
        study,
        {
            cell.id: SimpleNamespace(
                metrics={"top1": values[cell.point["share"], cell.point["lora_init"], cell.point["schedule"]] + 0.1 * cell.point["seed"]},
                history=None,
                arrays={},
            )
            for cell in study.cells
            if cell.table == "shares"
        },
    )


VALUES = {
    (0.25, "zero_b", "plain"): 40.0,
    (0.25, "zero_b", "staged"): 41.0,
    (0.25, "svd", "plain"): 42.0,
    (0.25, "svd", "staged"): 46.0,
    (1.0, "zero_b", "plain"): 60.0,
    (1.0, "zero_b", "staged"): 61.0,
    (1.0, "svd", "plain"): 62.0,
    (1.0, "svd", "staged"): 58.0,
}


def test_the_table_has_a_row_for_each_share_start_schedule_and_set(study):
    table = wecolora.table_shares(made(study, VALUES))
    assert list(table.columns) == ["share, %", "start", "schedule", "dataset", "measured", "±", "n"]
    assert len(table) == 2 * 4 * 2 and set(table["share, %"]) == {25.0, 100.0} and set(table["n"]) == {3}
    row = table[(table["share, %"] == 25) & (table["start"] == "SVD of the dropped blocks") & (table["schedule"] == "staged")]
    assert row["measured"].tolist() == pytest.approx([46.1, 46.1])


def test_the_finding_says_what_start_and_stages_bring_share_by_share(study):
    said = wecolora.finding_shares(made(study, VALUES))
    assert said.count("from 25 % of the images") == said.count("from 100 % of the images") == 2
    assert said.count("by +6.0 points") == said.count("by -2.0 points") == 2


def test_without_results_or_shares_both_say_so(study):
    empty = Results(study, {})
    assert wecolora.table_shares(empty)["measured"].isna().all() and "not measured yet" in wecolora.finding_shares(empty)
    alone = Results(load_study("wecolora", "quick"), {})
    assert wecolora.table_shares(alone).empty and "not measured yet at this profile" in wecolora.finding_shares(alone)
