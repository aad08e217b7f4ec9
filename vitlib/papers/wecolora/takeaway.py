"""WeCoLoRA: a distilled student's adapters, for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlib.spec import SpecError, rebuild

if TYPE_CHECKING:
    from vitlib.runs.study import Results


def save_adapters(results: Results, folder: Path | str, **point: Any) -> Path:
    """Write the adapters of one distilled student in PEFT's format: what weight copy lacks of it.

    Args:
        point: of the table `distilled`, for instance lora_init="svd", schedule="staged", reduction=2, seed=0.

    Raises:
        SpecError: if the point does not name one stored student, or its weights stayed where it was computed.
    """
    from vitlib.methods.adapters.peft import write_adapters
    from vitlib.papers.wecolora.compute import adapters_of

    run = results.run("distilled", **point)
    if run.weights is None:
        raise SpecError(f"weights of {run.id}: left out of the archive that it came from; execute the study to compute it here")
    return write_adapters(adapters_of(rebuild(run.spec), results.study.place.reading()), folder)
