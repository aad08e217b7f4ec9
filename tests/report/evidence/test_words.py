"""What a scoreboard and an interval say in words, against sentences written by hand."""

import numpy as np
import pandas as pd
import pytest

from vitlib.report.evidence.claims import verdicts
from vitlib.report.evidence.words import FIRST_LOOK, answered, counted
from vitlib.report.statistics import against, difference, over_seeds, side, worded


def board(**columns):
    rows = {
        "main": [True, False, True], "claim": ["A beats B", "B beats C", "C turns D"],
        "published": ["+1.2", "+3", "not in the document: why?"], "unit": ["points", "points", "cosine"],
        "difference": [2.04, np.nan, 0.31], "low": [1.0, np.nan, np.nan], "high": [3.1, np.nan, np.nan],
        "counted": ["12 seeds × 720 images", "0 seeds", "1 seed"], "verdict": ["holds", "undecided", "fails"],
    }  # fmt: skip
    return pd.DataFrame(rows | columns)


def test_the_answer_is_the_first_main_claims_and_the_count_of_verdicts():
    assert answered(board(), "desk").splitlines() == [
        "- **A beats B**: holds here (+2.0 points, 95 % interval 1.0 to 3.1, 12 seeds × 720 images); the document: +1.2.",
        "- **C turns D**: fails here (+0.31 cosine, 1 seed); not in the document: why?",
        "",
        "Of 3 claims 1 holds, 1 fails and 1 is undecided, corrected together.",
    ]


def test_quick_says_that_it_is_a_first_look():
    assert answered(board(), "quick").endswith(f"corrected together. {FIRST_LOOK}")


def test_a_claim_that_is_not_measured_says_so():
    assert answered(board(main=[False, True, False]), "desk").startswith("- **B beats C**: not measured yet.\n")


def test_verdicts_are_counted_in_one_sentence():
    assert counted(board(verdict=["holds", "holds", "holds"])) == "Of 3 claims 3 hold, corrected together."
    assert counted(board(verdict=["fails", "fails", "undecided"])) == "Of 3 claims 2 fail and 1 is undecided, corrected together."


# ------------------------------------------------------------------------------------------------ intervals


def trained(seeds, by_image=True, shift=30.0):
    """Two methods on 40 images that each seed gets right or wrong; the first is better by about `shift` points."""
    rng, shares = np.random.default_rng(0), {"a": 0.5 + shift / 100, "b": 0.5}
    rights = {(name, seed): 100.0 * (rng.random(40) < share) for name, share in shares.items() for seed in range(seeds)}
    rows = [{"method": name, "seed": seed, "top1": right.mean(), "top1 by image": right} for (name, seed), right in rights.items()]
    return pd.DataFrame(rows) if by_image else pd.DataFrame(rows).drop(columns="top1 by image")


def compared(frame):
    return difference(frame, "top1", {"method": "a"}, {"method": "b"}, ["seed"])


@pytest.mark.parametrize("by_image", [True, False])
def test_a_finding_has_the_interval_of_the_claim_on_the_same_runs(by_image):
    frame = trained(4, by_image)
    claim = {"table": "t", "sentence": "A beats B", "published": "", "metric": "top1", "pair_by": ["seed"], "relation": "greater"}
    (row,) = verdicts([claim | {"first": {"method": "a"}, "second": {"method": "b"}}], lambda table: frame).to_dict("records")
    said = worded(compared(frame))
    assert said == f"{row['difference']:+.1f} points (95 % interval {row['low']:+.1f} to {row['high']:+.1f}, n = {row['counted']})"
    assert row["counted"] == ("4 seeds × 40 images" if by_image else "4 seeds")


def test_seeds_alone_have_students_interval():
    # 1, 2, 3: 2 ± t(0.975, 2 degrees of freedom) / sqrt(3) = 2 ± 4.303 / 1.732
    assert worded(over_seeds(pd.Series([1.0, 2.0, np.nan, 3.0])), over="rounds") == "+2.0 points (95 % interval -0.5 to +4.5, n = 3 rounds)"


def test_words_follow_the_interval():
    assert against("A", "B", compared(trained(6))).startswith("A is above B (+")
    assert against("A", "B", compared(trained(6, shift=-40.0)), sides=("beats", "loses to")).startswith("A loses to B (-")
    assert against("A", "B", over_seeds(pd.Series([-1.0, 2.0]))).startswith("A and B are not told apart (+0.5 points, 95 % interval -18.6")
    assert against("A", "B", over_seeds(pd.Series(dtype=float))) == "A against B is not measured yet"


def test_one_seed_tells_nothing_whatever_its_images_say_unless_images_are_what_counts():
    one = compared(trained(1, shift=50.0))
    assert one.low > 0 and side(one) == 0 and worded(one).endswith("(one seed, no interval)")
    assert worded(one, over="sets of samples").endswith("(one set of samples, no interval)")
    assert side(one, over="images") == 1 and worded(one, over="images").endswith("n = 40 images of one training)")


def test_differences_that_are_all_alike_have_no_interval():
    assert worded(over_seeds(pd.Series([2.0, 2.0]))) == "+2.0 points (n = 2 seeds, no interval)"
