"""Which way round a difference to the document is."""

import pandas as pd

from vitlib.report.statistics import compared


def test_a_difference_is_what_was_measured_less_what_is_published():
    table = compared(pd.DataFrame({"measured": [80.0], "published": [77.0]}), shared=True)
    assert table["difference"].tolist() == [3.0]
