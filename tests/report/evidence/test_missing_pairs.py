"""A seed of which one pair of several is not measured is no match for its neighbours."""

import numpy as np
import pandas as pd

from vitlib.report.evidence.paired import paired_differences


def test_a_seed_of_which_one_pair_is_missing_is_left_out_whole():
    gains = {("s", 0): 1.0, ("m", 0): 3.0, ("s", 1): 1.0, ("m", 1): np.nan}
    rows = [
        {"method": method, "size": size, "seed": seed, "top1": gain * (method == "a")}
        for (size, seed), gain in gains.items()
        for method in "ab"
    ]
    differences = paired_differences(pd.DataFrame(rows), "top1", {"method": "a"}, {"method": "b"}, ["size", "seed"])
    assert differences.to_dict() == {0: 2.0}
