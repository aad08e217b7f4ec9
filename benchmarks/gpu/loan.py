"""One loan of a GPU: does what README.md lists under its number, ends before the time is up, and leaves what goes home in OUT.

    python benchmarks/gpu/loan.py unpack ARCHIVE ... [--as FOLDER=NAME ...]     images and results that were carried along
    python benchmarks/gpu/loan.py NUMBER --minutes 9.5                          0 to 8
    python benchmarks/gpu/loan.py home FOLDER                                   at home: take in what came back, and draw it

VITLIB_DATA and VITLIB_RESULTS say where images and results lie, OUT where a loan leaves its log and archives: at most 8 files of 16 MiB.
What is half computed goes on at the next loan, once its results are unpacked there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from carried import FILES, Refused, going_home, taken_in, unpacked

ROOT = Path(__file__).parents[2]
RESERVE = 30.0  # seconds before the limit that everything has ended
PACKING = 30.0  # seconds that packing may take
WATCHED = 60.0  # seconds after which the card is looked at, once
VITLIB = (sys.executable, "-m", "vitlib")
DOCUMENTS = {1: "teachers", 2: "multi_distillation", 3: "afr_pruning", 4: "dual_ssl_kd", 5: "wecolora", 6: "deit", 8: "comparison"}
GPU_TESTS = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *sorted(map(str, (ROOT / "tests" / "house").glob("*gpu*"))))
MEASURED = ("afr_cost", "semi_structured", "joint_step", "multi_distillation", "pretraining")
SCRIPTS = {0: [GPU_TESTS, ("benchmarks/gpu_fill.py",)], 7: [(f"benchmarks/{name}.py",) for name in MEASURED]}


@dataclass(frozen=True)
class Frame:
    """A loan under way.

    Attributes:
        ends: of `time.monotonic`: everything has ended by then.
    """

    out: Path
    log: Path
    ends: float
    began: float = field(default_factory=time.time)

    @property
    def left(self) -> float:
        return self.ends - time.monotonic()

    def say(self, text: str) -> None:
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"[{max(0.0, self.left):.0f} s left] {text}\n")

    def run(self, *command: str, keep: float = 0.0) -> int | None:
        """A command's exit status, its output in the log; None if it was ended, with all that it started, `keep` seconds before the end."""
        self.say(f"$ {' '.join(command)}")
        with self.log.open("ab") as stream:
            child = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return child.wait(max(0.0, self.left - keep))
        except subprocess.TimeoutExpired:
            _end(child)
        self.say("ended: the time is up")
        return None


def _end(child: subprocess.Popen, patience: float = 5.0) -> None:
    """A process and those that it started."""
    for way in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, way)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return {"unpack": unpack, "home": home}.get(options.what, lend)(options)
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2


def lend(options: argparse.Namespace) -> int:
    """The loan itself: 0 if all of it is done, 3 if it goes on at the next one, 1 if something failed."""
    ends = time.monotonic() + 60 * options.minutes - RESERVE
    number, out, _, _ = _number(options.what), _place("OUT"), _place("VITLIB_DATA"), _place("VITLIB_RESULTS")
    out.mkdir(parents=True, exist_ok=True)
    frame = Frame(out, out / f"loan{number}.log", ends)
    watch = threading.Timer(WATCHED, _look_at_the_card, [frame])
    watch.daemon = True
    watch.start()
    status = _compute(frame, DOCUMENTS[number], options) if number in DOCUMENTS else _measure(frame, SCRIPTS[number])
    watch.cancel()
    frame.say({0: "done", 3: "goes on at the next loan"}.get(status, "failed"))
    print(frame.log.read_text(encoding="utf-8", errors="replace")[-4000:])
    return status


def _compute(frame: Frame, document: str, options: argparse.Namespace) -> int:
    """A study's runs, as many as the time bears, beyond those that are committed."""
    study = _study(document, options)
    if (committed := _committed(document, options)).exists():
        frame.run(*VITLIB, "import", str(committed), keep=PACKING)
    status = _run(frame, study, options, "cached")
    if status == 1:  # also where an archive came without the weights that a run starts from
        status = _run(frame, study, options, "retry")
    frame.run(*VITLIB, "status", *study)
    weights = [] if document == "teachers" else ["--needed-weights"]
    if not (_packed(frame, document, study, *weights) or _packed(frame, document, study, "--without-weights")):
        return 1
    return status


def _run(frame: Frame, study: list[str], options: argparse.Namespace, mode: str) -> int:
    if (budget := frame.left - PACKING) < 1:
        frame.say("no time is left to compute in")
        return 3
    how = ["--executor", "local", "--mode", mode, "--device", options.device, "--budget", f"{budget:.0f}s"]
    status = frame.run(*VITLIB, "run", *study, *how, keep=PACKING / 2)
    return 3 if status is None else status


def _packed(frame: Frame, document: str, study: list[str], *weights: str) -> bool:
    """Whether the study's runs lie in OUT, in few enough files; nothing of them does otherwise."""
    archive = frame.out / f"{document}.results.tar"
    if frame.run(*VITLIB, "export", *study, *weights, str(archive)) != 0:
        return False
    files = going_home(archive)
    if len(files) < FILES:
        frame.say(f"packed: {', '.join(path.name for path in files)}")
        return True
    for path in files:
        path.unlink()
    frame.say(f"{len(files)} files are too many")
    return False


def _measure(frame: Frame, scripts: list[tuple[str, ...]]) -> int:
    """Scripts one after the other, and what they wrote beside themselves in one archive."""
    statuses = [frame.run(sys.executable, *script, keep=PACKING / 2) for script in scripts if frame.left > PACKING]
    with tarfile.open(frame.out / "benchmarks.tar", "w") as tar:
        for path in sorted((ROOT / "benchmarks").glob("*.json")):
            if path.stat().st_mtime >= frame.began:
                tar.add(path, path.name)
    if len(statuses) < len(scripts) or None in statuses:
        return 3
    return int(any(statuses))


def _look_at_the_card(frame: Frame) -> None:
    if not shutil.which("nvidia-smi"):
        frame.say("no nvidia-smi here")
        return
    seen = subprocess.run(["nvidia-smi", "dmon", "-c", "1"], capture_output=True, text=True, timeout=20)
    frame.say(f"the card:\n{seen.stdout}")


def unpack(options: argparse.Namespace) -> int:
    """Images into VITLIB_DATA, results into the store; nothing is computed."""
    named = dict(pair.split("=", 1) for pair in options.named)
    for archive in (path for path in options.paths if ".results." not in path.name):
        print(f"{archive.name}: {', '.join(unpacked(archive, _place('VITLIB_DATA'), named))}", flush=True)
    return _imported(options.paths)


def home(options: argparse.Namespace) -> int:
    """Results into the store, beside those that are committed; tables and figures of them.

    Where runs are missing, those that are there become the study's archive, so that the next loan goes on from it.
    """
    paths = [path for folder in options.paths for path in sorted(folder.iterdir())]
    if status := _imported(paths):
        return status
    for document in sorted({path.name.partition(".")[0] for path in paths if ".results." in path.name}):
        committed, study = _committed(document, options), _study(document, options)
        if committed.exists():
            subprocess.run([*VITLIB, "import", str(committed)], cwd=ROOT, check=True)
        subprocess.run([*VITLIB, "render", *study], cwd=ROOT, check=True)
        if not options.overrides and not _whole(document, options):
            subprocess.run([*VITLIB, "export", *study, "--without-weights", str(committed)], cwd=ROOT, check=True)
    return 0


def _whole(document: str, options: argparse.Namespace) -> bool:
    """Whether the store has every run of a study."""
    from vitlib import load_study

    return set(load_study(document, options.profile).status()["state"]) <= {"stored", "stale"}


def _imported(paths: list[Path]) -> int:
    """The archives of results among some files into the store; the status of the first that is refused."""
    with tempfile.TemporaryDirectory() as folder:
        for archive in taken_in(paths, Path(folder)):
            if status := subprocess.run([*VITLIB, "import", str(archive)], cwd=ROOT).returncode:
                return status
    return 0


def _study(document: str, options: argparse.Namespace) -> list[str]:
    return [document, "--profile", options.profile, *(["--overrides", options.overrides] if options.overrides else [])]


def _committed(document: str, options: argparse.Namespace) -> Path:
    """Where a study's results lie for whoever draws them again."""
    figures = Path(os.environ.get("VITLIB_FIGURES") or ROOT / "figures")
    return figures / document / options.profile / "results.tar.xz"


def _place(name: str) -> Path:
    if not os.environ.get(name):
        raise Refused(f"{name}: not set; allowed: the path of a folder, for instance export {name}=$PWD/.run/{name.lower()}")
    return Path(os.environ[name]).absolute()


def _number(given: str) -> int:
    if not given.isdecimal() or int(given) not in DOCUMENTS | SCRIPTS:
        raise Refused(f"loan: got {given!r}; allowed: unpack, home, or a number from 0 to 8")
    return int(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", help="unpack, home, or the number of a loan")
    parser.add_argument("paths", nargs="*", type=Path, help="archives to unpack, or folders that came home")
    parser.add_argument("--as", dest="named", nargs="+", default=[], metavar="FOLDER=NAME", help="unpack: a folder's name in VITLIB_DATA")
    parser.add_argument("--minutes", type=float, default=9.5, help="that this call may take")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--overrides", default="", help="settings as JSON, to try a loan where there is no GPU")
    parser.add_argument("--device", default="auto")
    return parser


if __name__ == "__main__":
    sys.exit(main())
