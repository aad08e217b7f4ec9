"""What a scoreboard says in words, against sentences written by hand."""

import numpy as np
import pandas as pd

from vitlib.report.evidence.words import FIRST_LOOK, answered, counted


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
        "- **C turns D**: fails here (+0.31 cosine, 1 seed); not in the document: why.",
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
