"""What a call gives back: the compressed model, and what it cost and what it lost beside the one that it began with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitlib.compress.back import away
from vitlib.deploy.needed import require
from vitlib.grid.results import or_missing
from vitlib.inputs.sources import class_names
from vitlib.papers.comparison.left.forms import METADATA, Form, form_of, plain_weights
from vitlib.papers.comparison.left.measured import Latency, Measured
from vitlib.report import figures, tables
from vitlib.runs.plan import Place
from vitlib.runs.reading.stored import Stored
from vitlib.spec import RunSpec, SpecError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

MB = 1e6
PANELS = {  # columns of the summary, with a title and a unit
    "top-1 %": ("top-1 (%), 95 %", 1.0),
    "non-zero": ("non-zero (M)", 1e6),
    "MACs": ("MACs (G)", 1e9),
    "packed MB": ("packed file (MB)", 1.0),
    "latency ms": ("latency (ms), p90", 1.0),
}
COLUMNS = (
    "top-1 %", "low", "high", "test photos", "parameters", "non-zero", "MACs", "file MB", "packed MB", "latency ms", "latency p90 ms",
)  # fmt: skip


@dataclass(frozen=True)
class Compressed:
    """A compressed model and the models that it is compared with; the last row is the one that is taken away.

    Attributes:
        runs: what was computed, by the row of the summary.
        notes: how it was computed, in sentences.
    """

    runs: dict[str, RunSpec]
    stored: dict[str, Stored]
    place: Place
    notes: tuple[str, ...]
    _away: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def run(self) -> RunSpec:
        """The run whose model this is."""
        return list(self.runs.values())[-1]

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes in the order of the logits."""
        return class_names(self.run.data, self.place.data_dir)

    @cached_property
    def model(self) -> nn.Module:
        """A plain timm module in eval mode, on the CPU; its `pretrained_cfg` has mean and std."""
        return self._form.module(self._weights, len(self.classes))

    def summary(self) -> pd.DataFrame:
        """Before and after, a row a model: top-1 in percent with Wilson's 95 % interval over the test photos, size, latency of one image.

        File MB are those of the safetensors file, packed MB those of the npz file; what is not stored is NaN. Scattered zeros change
        neither MACs nor latency. The last row has what `save_onnx` found on the test photos that it compared: top-1 of the file less
        the model's, in points.
        """
        rows = [self._row(name, run) for name, run in self.runs.items()]
        rows[-1] |= self._away
        return pd.DataFrame(rows).astype({away.COMPARED: "Int64"} if self._away else {})

    def figure(self) -> Figure:
        """Accuracy, size and latency before and after."""
        return _drawn(self.summary())

    def how_to_load(self, file: str = "model.safetensors") -> str:
        """Plain timm that loads the saved file; for `x.onnx`, ONNX Runtime."""
        if str(file).endswith(".onnx"):
            facts = self.model.pretrained_cfg
            return away.loading(str(file), facts["input_size"], facts["mean"], facts["std"])
        return self._form.how_to_load(str(file), len(self.classes))

    def save(self, path: Path | str) -> Path:
        """Write `x.safetensors`, dense, which `timm.create_model` loads as it is, or `x.npz`, packed, smaller where weights are zero.

        Raises:
            SpecError: for another suffix.
        """
        from safetensors.numpy import save

        path = _place("save", path, {".safetensors": "for timm", ".npz": "packed"})
        if path.suffix == ".npz":
            np.savez_compressed(path, **self._weights)
            return path
        facts = {METADATA: self._form.described(self.model), "load": self.how_to_load(path.name), "classes": "\n".join(self.classes)}
        path.write_bytes(save(self._weights, metadata={**facts, "run": self.run.id, "format": "pt"}))
        return path

    def save_onnx(self, path: Path | str, int8: bool = False) -> Path:
        """Write `x.onnx` for ONNX Runtime, compared with the model on up to 100 test photos; the summary says how it fared.

        Args:
            int8: weights of eight bits; what that costs in accuracy differs from processor to processor.

        Raises:
            SpecError: without the extra `deploy`, for another suffix, or if a logit of the file (before int8) differs by more than 1e-3.
        """
        require()
        path = _place("save_onnx", path, {".onnx": "for ONNX Runtime"})
        write = away.written_int8 if int8 else away.written
        self._away.update(write(self.model, self._photos, path, {"classes": "\n".join(self.classes), "run": self.run.id}))
        return path

    def __repr__(self) -> str:
        return "\n".join([tables.formatted(self.summary()).to_string(index=False), *self.notes])

    def _repr_markdown_(self) -> str:
        return "\n\n".join([tables.markdown(self.summary()), *self.notes])

    @property
    def _form(self) -> Form:
        return form_of(self.run)

    @cached_property
    def _photos(self) -> away.Photos:
        return away.Photos.of(self.run.data, self.place.data_dir)

    @cached_property
    def _weights(self) -> dict[str, np.ndarray]:
        return plain_weights(self.place.reading().weights(self.run))

    def _row(self, name: str, run: RunSpec) -> dict[str, float | int | str]:
        unknown = dict.fromkeys(COLUMNS, float("nan"))
        return {"model": name} | unknown | self._measured(run) | self._latency(run)

    def _measured(self, run: RunSpec) -> dict[str, float | int]:
        from scipy.stats import binomtest  # slow to import

        stored = self.stored.get(Measured(model=run).id)
        if stored is None or None in (or_missing(stored, "metrics"), or_missing(stored, "arrays")):
            return {}
        measured, right = stored.metrics, stored.arrays["top1 by image"]
        interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        return {
            "top-1 %": 100 * float(right.mean()),
            "low": 100 * float(interval.low),
            "high": 100 * float(interval.high),
            "test photos": len(right),
            "parameters": measured["parameters"],
            "non-zero": measured["non-zero"],
            "MACs": measured["macs"],
            "file MB": measured["file bytes"] / MB,
            "packed MB": measured["packed bytes"] / MB,
        }

    def _latency(self, run: RunSpec) -> dict[str, float]:
        stored = self.stored.get(Latency(model=run).id)
        return dict(or_missing(stored, "metrics") or {}) if stored else {}


def _place(call: str, path: Path | str, allowed: dict[str, str]) -> Path:
    """A path with a suffix that is allowed, its folder made."""
    path = Path(path).expanduser()
    if path.suffix not in allowed:
        told = " or ".join(f"{suffix} ({what})" for suffix, what in allowed.items())
        raise SpecError(f"{call}: got {path.name!r}; allowed: a name that ends in {told}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@figures.style()
def _drawn(table: pd.DataFrame) -> Figure:
    """A panel for each measure, a bar for each model with its value above, the last one coloured."""
    figure, axes = figures.canvas(1, len(PANELS), height=0.8 + 0.42 * len(table), sharey=True)
    places = np.arange(len(table))[::-1]
    colours = [figures.TEACHER] * (len(table) - 1) + [figures.PALETTE[0]]
    for panel, (name, (title, unit)) in zip(axes[0], PANELS.items(), strict=True):
        values = table[name] / unit
        panel.barh(places, values, color=colours, height=0.4)
        panel.set_title(title, fontsize="small")
        panel.set(xlim=(0, 1.15 * values.max()), ylim=(-0.5, len(table) - 0.2))
        for place, value in zip(places, values, strict=True):
            panel.text(0, place + 0.24, f" {value:.3g}", fontsize=6.5, va="bottom")
    spread = np.abs(table[["low", "high"]].T.to_numpy() - table["top-1 %"].to_numpy())
    axes[0, 0].errorbar(table["top-1 %"], places, xerr=spread, fmt="none", ecolor="black", elinewidth=1)
    axes[0, 0].set(xlim=(0, 100), yticks=places, yticklabels=table["model"])
    axes[0, -1].plot(table["latency p90 ms"], places, "|", color="black")
    axes[0, -1].set_xlim(0, 1.15 * table["latency p90 ms"].max())
    return figure
