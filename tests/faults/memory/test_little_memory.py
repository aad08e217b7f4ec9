"""Processes whose memory really ends, by a limit of the system or by its killer: the reason is told, and the rest goes on.

Limits are of the address space (RLIMIT_AS). Torch with its CUDA libraries maps 3.4 GiB of it on import, so that 2 GiB are too little for
any study: a new process gets 2 GiB beside that, a forked one, which has them, so much more than it has. Where memory ends within torch's
own threads it may crash instead of saying so: then the process is gone, the store is whole, and the same command goes on.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.faults.counted import count
from tests.faults.numbers.cases import SOUND
from tests.support import assert_same_result, context
from tests.training.support import RECIPE, batches
from vitlib.__main__ import main
from vitlib.inputs.models import ResNet
from vitlib.runs.execute import RunsFailedError, execute
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.runs.workers import local
from vitlib.training.loop import cross_entropy, train

GIB, MIB = 2**30, 2**20
LIMITED = "memory that a limit of the system ended"
KILLED = "a worker that was killed for its memory"
REASON = re.compile(r"out of memory|MemoryError|can't allocate memory|cannot allocate memory|bad_alloc|for want of memory", re.IGNORECASE)
STUDY = ["deit", "--profile", "smoke", "--device", "cpu", "--executor", "inline"]
LARGE = SOUND.changed(data=SOUND.data.changed(image_size=512), model=ResNet(width=64, blocks=(1, 1, 1, 1)))  # 0.5 GiB a layer
IMPORTED = 3457 * MIB  # mapped by torch and timm
WITHIN = IMPORTED + 2 * GIB
CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)


def limit_address_space(more: int) -> None:
    """From here on this process may map so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def limit_a_new_process() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (WITHIN, WITHIN))


def assert_as_if_nothing_had_happened(folder: Path, smoke, *, whole: bool) -> None:
    """What is stored equals what was computed without limits, to the bit; all of it is there where the study is whole."""
    store, expected = Store(folder, writable=False), Store(smoke.place.results_dir, writable=False)
    assert not list(store.root.glob(".damaged/*")), "what is whole was taken for damaged"
    assert {*store.ids()} <= {*expected.ids()} and (not whole or store.ids() == expected.ids())
    for run_id in store.ids():
        if not run_id.startswith("throughput"):  # its numbers are times
            assert_same_result(store.read(run_id), expected.read(run_id))


# ------------------------------------------------------------------------------------------------ a study in little memory


def test_a_new_process_computes_a_study_in_two_gib_beside_torch(tmp_path, smoke):
    command = [sys.executable, "-m", "vitlib", "run", *STUDY, "--results-dir", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit_a_new_process, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert_as_if_nothing_had_happened(tmp_path, smoke, whole=True)
    count(LIMITED)


def study_within(more: int | None, folder: str, said: str, mode: str) -> None:
    """For a process of its own, whose exit status is the command's."""
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if more is not None:
        limit_address_space(more)
    sys.exit(main(["run", *STUDY, "--results-dir", folder, "--mode", mode]))


def forked_study(forking, more, tmp_path, mode="cached"):
    """Exit status, and what it said."""
    child = forking.Process(target=study_within, args=(more, str(tmp_path / "results"), str(tmp_path / "said"), mode), daemon=True)
    child.start()
    child.join()
    return child.exitcode, (tmp_path / "said").read_text(errors="replace")


def try_within(forking, more, tmp_path, smoke):
    """A study in so much more memory than nothing: whole, or ended with a reason; then once more without a limit."""
    status, said = forked_study(forking, more, tmp_path)
    assert status == 0 or status in CRASHES or (status == 1 and REASON.search(said)), (status, said)
    if (tmp_path / "results").exists():
        assert_as_if_nothing_had_happened(tmp_path / "results", smoke, whole=status == 0)
    began = time.monotonic()
    if status != 0:
        again, said = forked_study(forking, None, tmp_path, "retry")
        assert again == 0, said
    assert_as_if_nothing_had_happened(tmp_path / "results", smoke, whole=True)
    count(LIMITED, recovery=time.monotonic() - began)


def test_a_study_in_too_little_memory_says_so_and_the_same_command_completes_it(forking, tmp_path, smoke):
    try_within(forking, 32 * MIB, tmp_path, smoke)


@pytest.mark.faults
@pytest.mark.parametrize("more", [0, 1, 4, 8, 12, 16, 24, 40, 48, 64, 96, 128, 256, 1024])
def test_a_study_in_any_memory_is_whole_or_says_so(forking, tmp_path, smoke, more):
    try_within(forking, more * MIB, tmp_path, smoke)


# ------------------------------------------------------------------------------------------------ a training in little memory


class Wide(nn.Module):
    """16 MiB an image and layer, and hardly anything to compute."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 10 * 2**22 // 10)[None])

    def forward(self, images):
        wide = torch.tanh(images.flatten(1).mean(dim=1, keepdim=True) @ self.weight)
        return wide[:, : wide.shape[1] // 10 * 10].view(len(images), 10, -1).mean(dim=2)


def wide_training(more: int | None, answer: str) -> None:
    """For a process of its own: a training's losses, and how it was halved."""
    torch.set_num_threads(1)
    module, data = Wide(), batches()
    if more is not None:
        limit_address_space(more)
    recipe = RECIPE.changed(optimizer="sgd", epochs=1)
    trained = train(module, data, cross_entropy, recipe, num_classes=10, context=context())
    weights = module.weight.detach()[0, :: 2**12].tolist()
    Path(answer).write_text(json.dumps([trained.history["loss"].tolist(), weights, trained.measured.get("halved", "")]))


def test_a_training_whose_batch_does_not_fit_into_memory_goes_on_in_halves(forking, tmp_path):
    found = []
    for more in (None, 220 * MIB):
        child = forking.Process(target=wide_training, args=(more, str(tmp_path / "answer")), daemon=True)
        child.start()
        child.join()
        assert child.exitcode == 0
        found.append(json.loads((tmp_path / "answer").read_text()))
    (losses, weights, whole), (halved_losses, halved_weights, halved) = found
    assert whole == "" and halved.startswith("from update 1 on, out of memory: RuntimeError: ") and "can't allocate memory" in halved
    np.testing.assert_allclose(halved_losses, losses, rtol=1e-6)
    np.testing.assert_allclose(halved_weights, weights, rtol=0, atol=1e-6)
    count(LIMITED)


# ------------------------------------------------------------------------------------------------ workers


def driver_within(folder: str, said: str) -> None:
    """For a process of its own: a driver, and with it its workers, in little memory; a run too large for them beside one that is not."""
    limit_a_new_process()
    place = Place(Path(folder) / "results", Path(folder), device="cpu")
    try:
        execute([LARGE, SOUND], place, executor="local", mode="retry")
    except RunsFailedError as error:
        Path(said).write_text(str(error))


def test_a_run_too_large_for_its_worker_fails_with_the_reason_and_the_others_go_on(forking, tmp_path):
    store = Store(tmp_path / "results")
    child = forking.Process(target=driver_within, args=(str(tmp_path), str(tmp_path / "said")))
    child.start()
    child.join()
    said = (tmp_path / "said").read_text()
    assert said.startswith("1 run(s) failed, 1 are stored") and LARGE.id in said and REASON.search(said), said
    assert store.ids() == [SOUND.id] and REASON.search(store.failure(LARGE.id))
    count(LIMITED)


class Killer(threading.Thread):
    """Ends workers that hold more memory than they may, as the system's own does; `ended` counts them."""

    def __init__(self, most: int):
        super().__init__(daemon=True)
        self.most, self.workers, self.ended, self.over = most, [], 0, threading.Event()

    def run(self):
        while not self.over.wait(0.01):
            for worker in self.workers:
                if worker.poll() is None and resident(worker.pid) > self.most:
                    worker.send_signal(signal.SIGKILL)
                    self.ended += 1


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


@pytest.mark.faults
def test_a_worker_that_is_killed_for_its_memory_is_tried_once_more_and_the_others_go_on(place, store, monkeypatch):
    killer, popen = Killer(most=int(1.2 * GIB)), subprocess.Popen

    def watched(*given, **options):
        killer.workers.append(popen(*given, **options))
        return killer.workers[-1]

    monkeypatch.setattr(local.subprocess, "Popen", watched)
    killer.start()
    with pytest.raises(RunsFailedError, match=r"its worker died 2 times \(killed, for want of memory as a rule\)") as error:
        execute([LARGE, SOUND], place, executor="local")
    killer.over.set()
    assert str(error.value).startswith("1 run(s) failed, 1 are stored") and LARGE.id in str(error.value)
    assert store.ids() == [SOUND.id] and killer.ended >= 2
    count(KILLED, tries=2)
