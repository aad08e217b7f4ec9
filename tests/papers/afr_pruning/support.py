"""Results of nothing, and a scored start."""

from tests.support import context
from vitlib import load_study
from vitlib.papers.afr_pruning.compute import pruning as compute
from vitlib.runs.workers.one import one_thread


def start(spec, tmp_path):
    """A run's model before it is pruned, and its pruning samples."""
    model = compute.with_fresh_head(spec.teacher, spec.data, spec.seed, context(tmp_path))
    return model, compute.balanced_images(spec, context(tmp_path))


def scored(criterion, spec, tmp_path):
    with one_thread("cpu"):
        return compute.scored(criterion, spec, *start(spec, tmp_path))


def without_runs(profile, tmp_path, **overrides):
    study = load_study("afr_pruning", profile, overrides=overrides, results_dir=str(tmp_path), data_dir=str(tmp_path))
    return study.execute(mode="read-only")
