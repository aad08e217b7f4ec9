"""What one takes away of WeCoLoRA: its answer in words, and a distilled student's adapters for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from vitlib.dumped import rebuild
from vitlib.grid.results import Results
from vitlib.papers.wecolora.tables import frame_downstream, titles
from vitlib.report.evidence.words import answered
from vitlib.report.statistics import NOT_YET, summary
from vitlib.spec import SpecError


def finding_answer(results: Results) -> str:
    """What weight copy without training reaches, the document's main claims as they stand here, and the count of all verdicts."""
    return f"{_copied(results)}\n\n{answered(results.board(), results.study.profile)}"


def save_adapters(results: Results, folder: Path | str, **point: Any) -> Path:
    """Write the adapters of one distilled student in PEFT's format: what weight copy lacks of it.

    Args:
        point: of the table `distilled`, for instance lora_init="svd", schedule="staged", reduction=2, seed=0.

    Raises:
        SpecError: if the point does not name one stored student, or its weights stayed where it was computed.
    """
    from vitlib.methods.adapters.peft import write_adapters
    from vitlib.papers.wecolora.compute.students import adapters_of

    run = results.run("distilled", **point)
    if run.weights is None:
        raise SpecError(f"weights of {run.id}: left out of the archive that it came from; execute the study to compute it here")
    return write_adapters(adapters_of(rebuild(run.spec), results.study.place.reading()), folder)


def _copied(results: Results) -> str:
    """'Weight copy, which trains nothing, reaches 90.1 % on ImageNet-1k (quick: digits); its teacher 91.0 %, the best student 90.5 %.'"""
    frame = frame_downstream(results)
    frame = frame[(frame["reduction"] == results.study.settings.reductions[0]) | (frame["student"] == "teacher")]
    said = [_beside_copy(title, frame[frame["dataset"] == name]) for name, title in titles(results).items()]
    return f"Weight copy, which trains nothing, reaches {'; '.join(said)}."


def _beside_copy(title: str, rows: pd.DataFrame) -> str:
    means = summary(rows, ["student"], "top1").set_index("student")["measured"]
    students = means.drop(index=["teacher", "weight copy"], errors="ignore").dropna()
    if students.empty or not {"teacher", "weight copy"} <= {*means.dropna().index}:
        return f"on {title} what is {NOT_YET}"
    best, top1 = students.idxmax(), students.max()
    beside = f"its teacher {means['teacher']:.1f} %, the best distilled student ('{best}') {top1:.1f} %"
    return f"{means['weight copy']:.1f} % on {title}, {beside}"
