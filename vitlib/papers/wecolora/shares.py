"""WeCoLoRA from other shares of the training images: a table and what it shows in words, from results alone."""

from __future__ import annotations

import pandas as pd

from vitlib.grid.results import Results
from vitlib.papers.wecolora.tables import STARTS, titles
from vitlib.report.statistics import NOT_YET, difference, summary, worded

PROPOSED, WECOLORA = {"lora_init": "svd", "schedule": "staged"}, {"lora_init": "zero_b", "schedule": "plain"}


def table_shares(results: Results) -> pd.DataFrame:
    """Table 1 with students distilled on other shares of the training images: top-1 accuracy (%), ± half the 95 % interval over n seeds.
    The document distils on 1 % alone.
    """
    table = summary(results.frame("shares"), ["share", "lora_init", "schedule", "dataset"], "top1")
    table["dataset"] = table["dataset"].map(titles(results))
    return table.assign(share=100 * table["share"], lora_init=table["lora_init"].map(STARTS)).rename(
        columns={"share": "share, %", "lora_init": "start"}
    )


def finding_shares(results: Results) -> str:
    """What start and stages bring together, share by share and set by set."""
    frame, shares = results.frame("shares"), results.study.settings.shares
    if not shares:
        return f"Other shares of the training images: {NOT_YET} at this profile."
    said = [_said(frame[frame["share"] == share], share, name, title) for share in shares for name, title in titles(results).items()]
    return f"SVD start and stages together change accuracy against WeCoLoRA {'; '.join(said)}."


def _said(rows: pd.DataFrame, share: float, dataset: str, title: str) -> str:
    gain = difference(rows[rows["dataset"] == dataset], "top1", PROPOSED, WECOLORA, ["seed"])
    return f"from {100 * share:g} % of the images, on {title}, by {worded(gain)}"
