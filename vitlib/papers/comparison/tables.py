"""The comparison in numbers, from stored results alone."""

from __future__ import annotations

import pandas as pd

from vitlib.grid.results import Results
from vitlib.papers.comparison.models import DENSE
from vitlib.report.statistics import difference, summary

SIZES = ("parameters", "non-zero", "MACs", "file kB", "packed kB")
SPEEDS = {
    "eager latency ms": "eager ms",
    "eager latency p90 ms": "eager p90 ms",
    "onnx latency ms": "ONNX ms",
    "onnx latency p90 ms": "ONNX p90 ms",
    "eager images/s": "eager images/s",
    "onnx images/s": "ONNX images/s",
}
EXPORTED = {
    "onnx largest |Δlogit|": "largest |Δlogit|",
    "onnx changed": "in another class",
    "images": "images",
    "timed passes": "timed passes",
    "threads": "threads",
}
KB = 1000  # bytes


def table_models(results: Results) -> pd.DataFrame:
    """Every model beside its dense original: top-1 (percent) of timm's forward pass, mean over n trainings, ± half of its 95 % interval;
    less dense: the difference to the dense model, with the 95 % interval of it (low, high) over seeds and test images. Non-zero
    parameters, multiply-accumulates (MACs) of one image, kB of the safetensors file and of the packed one; latency of one image (median,
    90th percentile) and images/s in batches of 64, by PyTorch as it is (eager) and by ONNX Runtime, measured in turns on one training of
    each, on as many threads as the next table says. Scattered zeros change neither MACs nor latency; dropped blocks and smaller students
    change both.
    """
    frame = sized(results)
    accuracy = summary(frame, ["model"], "top1").rename(columns={"measured": "top-1"})
    sizes = _whole(frame.groupby("model", sort=False)[list(SIZES)].first(), *SIZES).reset_index()
    speeds = timed(results)[["model", *SPEEDS.values()]]
    against = pd.DataFrame([_against_dense(frame, model) for model in accuracy["model"]])
    return accuracy.merge(against, on="model").merge(sizes, on="model").merge(speeds, on="model", how="left")


def table_exported(results: Results) -> pd.DataFrame:
    """The same models as ONNX files, one training of each: the largest difference of a logit to PyTorch's, and how many of
    the images that were compared the file puts into another class; latencies are over so many timed passes on so many threads.
    """
    counts = [name for name in EXPORTED.values() if "Δ" not in name]
    return _whole(timed(results)[["model", *EXPORTED.values(), "device"]], *counts)


def sized(results: Results) -> pd.DataFrame:
    """A row a model and seed."""
    frame = results.frame("models")
    bytes_of = {name: frame.get(f"{name} bytes", pd.Series(float("nan"), frame.index)) / KB for name in ("file", "packed")}
    frame = frame.reindex(columns=list(dict.fromkeys([*frame, "top1", "parameters", "non-zero", "macs"])))
    return frame.rename(columns={"macs": "MACs"}).assign(**{f"{name} kB": values for name, values in bytes_of.items()})


def timed(results: Results) -> pd.DataFrame:
    """A row a model, with the names that tables have; NaN where it is missing."""
    frame = results.frame("exported")
    frame = frame.reindex(columns=["model", "run", *SPEEDS, *EXPORTED]).rename(columns=SPEEDS | EXPORTED)
    devices = {run.id: run.provenance["device"] for _, run in results.runs("exported")}
    return frame.assign(device=frame["run"].map(devices))


def _whole(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """These columns as whole numbers, with a gap where one is missing."""
    return frame.assign(**{name: frame[name].astype(float).round().astype("Int64") for name in columns})


def _against_dense(frame: pd.DataFrame, model: str) -> dict[str, float | str]:
    """One seed has no interval, whatever its images say."""
    found, unknown = difference(frame, "top1", {"model": model}, {"model": DENSE}, ["seed"]), float("nan")
    mean = unknown if model == DENSE else found.mean
    low, high = (unknown, unknown) if model == DENSE or found.spread.n < 2 else (found.low, found.high)
    return {"model": model, "less dense": mean, "low": low, "high": high}
