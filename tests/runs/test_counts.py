"""What `render` and `status` count: stored, missing, failed, damaged and stale runs of a study, and, apart, its ancestors."""

import json
import re
import shutil

import numpy as np
import pytest

from tests.support import flip_a_byte, smoke_study
from vitlib.__main__ import main
from vitlib.computing import Result
from vitlib.runs.store import Store


@pytest.fixture
def study(smoke, tmp_path):
    """A copy of the finished study in which one run each is damaged, failed, missing and stale."""
    shutil.copytree(smoke.place.results_dir, tmp_path / "r")
    damaged, failed, missing, stale = [run_id for run_id in smoke.specs if run_id.startswith(("throughput", "anatomy"))][:4]
    flip_a_byte(tmp_path / "r" / damaged / "result.json", np.random.default_rng(0))
    shutil.rmtree(tmp_path / "r" / failed)
    shutil.rmtree(tmp_path / "r" / missing)
    store, spec = Store(tmp_path / "r"), smoke.specs[stale]
    store.record_failure(failed, "told to fail, 失敗")
    found = store.read(stale)
    store.put(spec, Result(found.metrics, found.history, found.arrays, found.weights), found.provenance | {"code": "of yesterday"})
    return smoke_study(tmp_path / "r")


def command(name, study, tmp_path, *more):
    return [name, "deit", "--profile", "smoke", "--results-dir", str(study.place.results_dir), "--figures-dir", str(tmp_path / "f"), *more]


def test_render_tells_what_is_stored_from_what_is_not(study, tmp_path, capsys):
    assert main(command("render", study, tmp_path)) == 0
    count, said = len(study.specs), "1 of them older than the code; 1 damaged; 1 failed; 1 missing"
    assert capsys.readouterr().out.strip() == f"{count - 3} of {count} runs stored; {said}; artefacts in {tmp_path}/f/deit/smoke"
    assert not (tmp_path / "f" / "deit" / "smoke" / "changes.json").exists()


def test_status_has_a_row_for_the_runs_that_others_start_from(study, tmp_path, capsys):
    assert main(command("status", study, tmp_path)) == 0
    said = capsys.readouterr().out
    assert re.search(r"^failed: \S+", said, re.MULTILINE) and re.search(r"^damaged: \S+", said, re.MULTILINE)
    family = {member.id for spec in study.specs.values() for member in spec.family()}
    ancestors = study.ancestors()
    assert set(ancestors["run"]) == family - set(study.specs) and len(ancestors)
    assert set(ancestors["state"]) == {"stored"}
    assert re.search(rf"^\(ancestors\) .*\b{len(ancestors)}\b", said, re.MULTILINE)


def test_ancestors_that_are_stored_do_not_count_as_runs_of_the_study(study, tmp_path, capsys):
    overrides = '{"throughput_batch": 7}'
    assert main(command("render", study, tmp_path, "--overrides", overrides)) == 0
    changed = [spec for spec in smoke_study(study.place.results_dir).specs if spec.startswith("throughput")]
    assert re.match(
        rf"\d+ of {len(study.specs)} runs stored;.* {len(changed)} missing; artefacts in \S+/smoke-throughput_batch=7$",
        capsys.readouterr().out.strip(),
    )
    listed = json.loads((tmp_path / "f" / "deit" / "smoke-throughput_batch=7" / "changes.json").read_text())
    assert listed == {"document": "deit", "profile": "smoke", "changes": {"throughput_batch": 7}}
