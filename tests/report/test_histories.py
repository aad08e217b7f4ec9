"""Histories of many runs as one table."""

import io

import numpy as np
import pandas as pd

from vitlib.report.frames import parsed_together


def test_histories_parsed_together_are_those_parsed_one_by_one():
    generator = np.random.default_rng(0)
    points = [{"model": name, "seed": seed} for name in ("a", "b") for seed in range(3)]
    tables = [pd.DataFrame({"epoch": range(rows), "loss": generator.random(rows)}) for rows in (3, 1, 4, 2, 3, 2)]
    tables[1]["top1"], tables[2]["loss"], tables[4]["top1"] = np.nan, 2, [1, 2, 3]
    texts = [table.to_csv(index=False).encode() for table in tables]
    each = [pd.read_csv(io.BytesIO(text)).assign(**point) for text, point in zip(texts, points, strict=True)]
    together = parsed_together(list(zip(points, texts, strict=True)))
    expected = pd.concat(each, ignore_index=True)
    pd.testing.assert_frame_equal(together[expected.columns], expected, check_exact=True)
