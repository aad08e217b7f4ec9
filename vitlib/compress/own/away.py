"""The model that is taken away: saved, loaded again by timm alone, and compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitlib.compress.back.result import MB, Compressed
from vitlib.compress.own.study import NAME, OwnModel, OwnResults
from vitlib.runs.store import Store
from vitlib.studies import travel

FILE = "model.safetensors"


def take_away(results: OwnResults) -> str:
    """Save the smallest model within the tolerance as safetensors and packed, and say, in Markdown, where it is and how timm loads it.

    What was computed is left beside the tables as well (see `vitlib.studies.travel`), of the example with the weights of that model.

    Raises:
        StoreError: for an archive that cannot be written.
    """
    study, chosen, store = results.study, results.smallest(), Store(results.study.place.results_dir, writable=False)
    if all(run_id in store for run_id in study.specs):
        travel.leave(study, {study.rows[chosen].id} if chosen and study.is_example else set())
    if chosen is None:
        return (
            f"No model is within {study.tolerance:g} points of `{study.reference}`: nothing is saved. A larger `tolerance` takes one away."
        )
    if (run := study.rows[chosen]).id not in store or store.read(run.id).weights is None:
        return f'`{chosen}` is not saved: its weights stayed where it was computed. `mode = "force"` computes it here.'
    compressed, folder = results.beside(chosen), place(study)
    files = [compressed.save(folder / name) for name in (FILE, "model.npz")]
    sizes = " and ".join(f"`{file.name}` ({file.stat().st_size / MB:.3g} MB)" for file in files)
    return (
        f"**{chosen}** is the smallest within {study.tolerance:g} points of `{study.reference}`. It lies in `{study.told(str(folder))}`: "
        f"{sizes}, for timm and packed. timm alone loads it:\n\n```python\nmodel = {compressed.how_to_load(FILE)}\n```\n\n"
        f"Loaded so, its logits differ by at most {difference(compressed, files[0]):.2g}. "
        f"Its classes, in the order of the logits: {_listed(compressed.classes)}."
    )


def _listed(names: list[str]) -> str:
    """The first dozen, and how many more."""
    more = f" and {len(names) - 12} more (in the metadata of the dense file)" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more


def place(study: OwnModel) -> Path:
    """Below the results, a folder for each set of parameters."""
    return study.place.results_dir / NAME / study.folder.name


def difference(compressed: Compressed, file: Path) -> float:
    """Largest difference of the logits of some random images between the model and what timm loads."""
    import timm
    import torch

    form = compressed._form
    again = timm.create_model(form.name, **form.keywords(len(compressed.classes)), checkpoint_path=str(file)).eval()
    sizes = (16, form.data.channels, form.data.image_size, form.data.image_size)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal(sizes, np.float32))
    with torch.inference_mode():
        return float((again(images) - compressed.model(images)).abs().max())
