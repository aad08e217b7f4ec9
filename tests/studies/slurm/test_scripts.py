"""Job scripts: sized by what is missing, refused before anything is written, and nothing in them but what was meant."""

import os
import shlex
import stat
import subprocess

import pytest

from tests.support import ROOT, smoke_study
from vitlib.__main__ import main
from vitlib.spec import SpecError
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.studies.costs.table import states, to_compute
from vitlib.studies.slurm.limits import limit_of, seconds_in
from vitlib.studies.slurm.sizes import sized
from vitlib.training.work.registry import Sets

LIMITS = {"30": 1800, "90:30": 5430, "2:00:00": 7200, "1-12": 129_600, "1-12:30": 131_400, "0-1:00:30": 3630, "365-0": 31_536_000}
CPU = SHIPPED["cpu-2-cores"]


@pytest.mark.parametrize(("text", "seconds"), LIMITS.items())
def test_a_limit_is_read_as_slurm_reads_it(text, seconds):
    assert seconds_in(text) == seconds
    assert seconds_in(limit_of(seconds)) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "00:00", "-5", "2h", "1:2:3:4", "1-", "366-0", "1e3", "٣", "30\n", "30; rm -r ~", "9" * 5000, "UNLIMITED"]
)
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(SpecError, match=r"^time: got .*; allowed: "):
        seconds_in(text)


@pytest.fixture
def missing(tmp_path):
    study = smoke_study(tmp_path)
    return list(to_compute(study, states(study)).values()), Sets(study.place.data_dir)


def test_there_are_never_more_jobs_than_runs(missing):
    runs, sets = missing
    assert [sized(runs, sets, CPU, array, 0, None).tasks for array in (1, 8, len(runs), len(runs) + 1, 1000)] == [1, 8, *[len(runs)] * 3]


@pytest.mark.parametrize(("array", "gpus", "named"), [(0, 0, "array: got 0"), (1001, 0, "array: got 1001"), (4, -1, "gpus: got -1")])
def test_numbers_that_are_none_are_refused(missing, array, gpus, named):
    with pytest.raises(SpecError, match=f"{named}; allowed: "):
        sized(*missing, CPU, array, gpus, None)


def test_a_limit_in_which_no_run_ends_is_refused_and_the_one_that_is_named_instead_suffices(missing):
    with pytest.raises(SpecError, match=r"time: got 00:02:00, and no run ends in it: .*; allowed: (\S+) or more") as refused:
        sized(*missing, CPU, 4, 0, 120)
    enough = seconds_in(str(refused.value).split("allowed: ")[1].split()[0])
    size = sized(*missing, CPU, 4, 0, enough)
    assert size.limit == enough and enough - size.warning - 60 >= CPU.start
    with pytest.raises(SpecError, match="no run ends in it"):
        sized(*missing, CPU, 4, 0, enough - 60)


def test_a_limit_that_nobody_asked_for_leaves_a_job_twice_its_share_and_a_day_at_most(missing):
    runs, sets = missing
    assert sized(runs, sets, CPU, 4, 0, None).limit == 600
    slow = type(CPU)(**{**vars(CPU), "runs": 7200.0})
    size = sized(runs, sets, slow, len(runs), 0, None)
    assert 2 * 7200 < size.limit <= 3 * 7200 and size.limit % 600 == 0
    assert sized(runs, sets, slow, 1, 0, None).limit == 86_400


@pytest.fixture
def written(tmp_path, capsys):
    def write(*more):
        out = tmp_path / "job.sh"
        status = main(["slurm", "deit", "--profile", "smoke", "--results-dir", str(tmp_path / "results"), "--out", str(out), *more])
        return status, out.read_text() if out.exists() else "", capsys.readouterr()

    return write


def test_a_script_asks_for_what_it_needs_and_ends_as_the_one_in_the_checkout(written):
    status, text, said = written("--array", "4", "--partition", "short,long", "--account", "vit")
    assert status == 0 and "4 jobs for 32 runs, each 1 core" in said.out
    assert {"#SBATCH --array=0-3", "#SBATCH --partition=short,long", "#SBATCH --account=vit", "#SBATCH --time=00:10:00"} <= {
        *text.splitlines()
    }
    assert "gpus" not in text and "#SBATCH --signal=B:USR1@60" in text and "--requeue" in text
    body = (ROOT / "slurm" / "drivers.sh").read_text().split("vitlib-%A_%a.log\n")[1]
    assert text.endswith(body) and subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_gpus_are_filled_by_local_workers(written):
    text = written("--array", "2", "--gpus", "2")[1]
    assert "#SBATCH --gpus-per-node=2" in text and "--cpus-per-task=8" in text and "--executor local" in text


def test_whatever_a_value_holds_it_reaches_the_driver_as_it_is_and_runs_nothing(written, tmp_path):
    """The script's own lines up to the driver, by bash itself."""
    place = tmp_path / "it's $(touch ran) `touch ran`; touch ran #"
    text = written("--array", "2", "--results-dir", str(place), "--overrides", '{"seeds": [0], "recipe": {"epochs": 2}}')[1]
    shown = tmp_path / "shown"
    shown.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    shown.chmod(shown.stat().st_mode | stat.S_IXUSR)
    script = "\n".join(f"PYTHON={shlex.quote(str(shown))}" if line.startswith("PYTHON=") else line for line in text.splitlines())
    ran = subprocess.run(["bash"], input=script, text=True, capture_output=True, cwd=tmp_path, timeout=60)
    told = ran.stdout.splitlines()
    assert ran.returncode == 0, ran.stderr
    assert told[:5] == ["-m", "vitlib", "run", "--executor", "inline"]
    assert told[told.index("--results-dir") + 1] == str(place)
    assert told[told.index("--overrides") + 1] == '{"seeds": [0], "recipe": {"epochs": 2}}'
    assert not (tmp_path / "ran").exists() and not (ROOT / "ran").exists()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--partition", "a b"], "partition: got 'a b'; allowed: names"),
        (["--partition", "a\n#SBATCH --uid=0"], "partition: got "),
        (["--partition=-x"], "partition: got '-x'"),
        (["--account", "$(id)"], "account: got '$(id)'"),
        (["--qos", "a,,b"], "qos: got 'a,,b'"),
        (["--time", "soon"], "time: got 'soon'; allowed: more than nothing"),
        (["--time", "2"], "time: got 00:02:00, and no run ends in it"),
        (["--gpus", "65"], "gpus: got 65; allowed: 0 to 64"),
        (["--out", "some where.sh"], "out: got "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(written, tmp_path, more, named):
    status, text, said = written("--array", "2", *more)
    assert (status, text) == (2, "") and f"refused: {named}" in said.err
    assert list(tmp_path.iterdir()) == []


def test_without_a_slurm_nothing_is_submitted_nor_written(written, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, text, said = written("--array", "2", "--submit")
    assert (status, text) == (2, "") and "submit: there is no sbatch here" in said.err


def test_with_submit_the_script_goes_to_sbatch(written, tmp_path, monkeypatch):
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text('#!/bin/sh\ncase "$2" in *job.sh) echo "17;cluster";; esac\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}")
    status, text, said = written("--array", "2", "--submit")
    assert status == 0 and text and "submitted as 17:" in said.out
    sbatch.write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
    status, _, said = written("--array", "2", "--submit")
    assert status == 2 and "sbatch refused" in said.err and "invalid partition" in said.err


def test_where_nothing_is_missing_nothing_is_written(smoke, tmp_path, capsys):
    out = tmp_path / "job.sh"
    places = ["--results-dir", str(smoke.place.results_dir), "--out", str(out)]
    assert main(["slurm", "deit", "--profile", "smoke", "--array", "4", *places]) == 0
    assert "no run is missing" in capsys.readouterr().out and not out.exists()
