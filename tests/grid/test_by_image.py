"""Every accuracy of a run is the mean of what the run stores image by image, and frames keep it so."""

import numpy as np
import pandas as pd
import pytest

from vitlib.grid.entries import documents
from vitlib.report.frames import averaged, in_units, melt, subtracted

NOT_BY_IMAGE = ("second_top1", "ema_top1", "validation top1", "top1 exit")  # no claim is about them


def accuracies(metrics):
    return [name for name in metrics if "top1" in name and not name.startswith(NOT_BY_IMAGE)]


@pytest.mark.parametrize("paper", documents())
def test_an_accuracy_is_the_mean_over_images_of_what_is_stored_beside_it(finished, paper):
    seen = 0
    for run in finished(paper).execute(mode="read-only").stored.values():
        for name in accuracies(run.metrics):
            values = in_units(run.arrays[f"{name} by image"])
            assert values.ndim == 1 and set(values) <= {0.0, 100.0}
            assert values.mean() == pytest.approx(run.metrics[name], abs=1e-9)
            seen += 1
    assert seen


def test_a_frame_carries_the_values_by_image_in_the_unit_of_the_metric(finished):
    frame = finished("deit").execute(mode="read-only").frame("tokens")
    for column in ("cosine_at_input", "cosine_at_last"):
        means = [values.mean() for values in frame[f"{column} by image"]]
        np.testing.assert_allclose(means, frame[column], rtol=1e-5)


def made(values, **columns):
    return pd.DataFrame({"top1": [np.mean(v) for v in values], "top1 by image": [np.array(v) for v in values], **columns})


def test_the_mean_of_rows_is_the_mean_image_by_image():
    frame = made([[0.0, 100.0], [100.0, 100.0], [0.0, 0.0]], seed=[0, 0, 1])
    table = averaged(frame, ["seed"], "top1").set_index("seed")
    assert table["top1"].tolist() == [75.0, 0.0]
    assert table.loc[0, "top1 by image"].tolist() == [50.0, 100.0]


def test_a_mean_of_which_a_row_is_missing_is_missing():
    frame = pd.concat([made([[0.0, 100.0]], seed=[0]), pd.DataFrame({"seed": [0], "top1": [np.nan]})])
    table = averaged(frame, ["seed"], "top1")
    assert table[["top1", "top1 by image"]].isna().all(axis=None)


def test_a_difference_of_rows_is_one_image_by_image_and_missing_where_one_is():
    one, other = made([[100.0, 100.0], [0.0, 100.0]], seed=[0, 1]), made([[0.0, 100.0]], seed=[0])
    table = subtracted(one, other, ["seed"], "top1", "gain").set_index("seed")
    assert table.loc[0, "gain"] == 50.0 and table.loc[0, "gain by image"].tolist() == [100.0, 0.0]
    assert np.isnan(table.loc[1, "gain"]) and np.isnan(table.loc[1, "gain by image"])


def test_metrics_of_a_row_stand_below_one_another_with_their_values_by_image():
    frame = pd.DataFrame({"seed": [3], "a": [1.0], "a by image": [np.array([0.0, 2.0])], "b": [5.0]})
    table = melt(frame, ["seed"], "which", {"first": "a", "second": "b"}, "value").set_index("which")
    assert table["value"].tolist() == [1.0, 5.0] and table["seed"].tolist() == [3, 3]
    assert table.loc["first", "value by image"].tolist() == [0.0, 2.0] and np.isnan(table.loc["second", "value by image"])
