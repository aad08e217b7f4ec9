"""How fast a device is: seconds for each unit of `Amounts`. Shipped rows, and this machine's own, measured on first use and kept."""

from __future__ import annotations

import json
import logging
import os
import platform
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from vitlib import paths
from vitlib.spec import SpecError
from vitlib.studies.costs.amounts import Amounts

KEPT = "rates.json"  # in the results folder, by machine
SECONDS = ("products", "convolutions", "half", "elements", "kernels", "moved", "runs")  # of `Amounts`
HOST = ("kernels", "runs")  # what the processes of a GPU do side by side; the rest is the card's, which they share
log = logging.getLogger("vitlib")


@dataclass(frozen=True)
class Rates:
    """Seconds a unit; `basis` says where they are from. `slots` runs are computed at once, on cores of their own or `sharing` a card."""

    device: str
    basis: str
    slots: int
    products: float
    convolutions: float
    half: float
    elements: float
    kernels: float
    moved: float
    runs: float
    sharing: bool = False

    def seconds(self, amounts: Amounts) -> float:
        """Of one worker."""
        return sum(getattr(self, name) * getattr(amounts, name) for name in SECONDS)

    def wall(self, amounts: Amounts) -> float:
        """With all slots at work."""
        together, at_once = self.seconds(amounts), max(1, min(self.slots, amounts.runs))
        alone = sum(getattr(self, name) * getattr(amounts, name) for name in HOST) if self.sharing else together
        return together - alone + alone / at_once


SHIPPED = {
    "cpu-2-cores": Rates(
        device="2 slow CPU cores",
        basis="fitted to the training times of deit, dual_ssl_kd and multi_distillation at profile quick, one thread a run",
        slots=2,
        products=6.4e-12,
        convolutions=2.6e-11,
        half=6.4e-12,
        elements=2.0e-10,
        kernels=1.5e-5,
        moved=2.1e-8,
        runs=0.3,
    ),
    "h100": Rates(
        device="NVIDIA H100 SXM",
        basis="assumed, never measured: 40 % of the data sheet's peak (67 TFLOP/s float32, 989 bfloat16; 3.35 TB/s), 8 us a kernel",
        slots=4,
        sharing=True,
        products=1 / (0.4 * 67e12),
        convolutions=1 / (0.4 * 67e12),
        half=1 / (0.4 * 989e12),
        elements=8 / (0.4 * 3.35e12),
        kernels=8e-6,
        moved=40 / (0.4 * 3.35e12),
        runs=2.0,
    ),
}


def rates_for(device: str, results_dir: Path) -> Rates:
    """The rates of a shipped device by name, or of this machine ('auto', 'cpu', 'cuda').

    Raises:
        SpecError: for a device that there are no rates of.
    """
    if device in SHIPPED:
        return SHIPPED[device]
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise SpecError(f"device: got {device!r}; allowed: auto, cpu, cuda for this machine, or {', '.join(SHIPPED)}")
    return known(device, results_dir) or _measured(device, results_dir)


def known(device: str, results_dir: Path) -> Rates | None:
    """This machine's rates if they were measured, or those of a shipped device."""
    if device in SHIPPED:
        return SHIPPED[device]
    found = _kept(results_dir).get(_machine(device))
    names = {field.name for field in fields(Rates)}
    return Rates(**found) if isinstance(found, dict) and found.keys() == names else None


def _measured(device: str, results_dir: Path) -> Rates:
    from vitlib.studies.costs.measure import measure  # imports torch

    log.warning("measuring this machine's rates once, some seconds")
    rates = measure(device)
    _keep(_machine(device), rates, results_dir)
    return rates


def _machine(device: str) -> str:
    return f"{platform.node()}, {paths.cores()} cores, {device}"


def _kept(results_dir: Path) -> dict[str, dict]:
    try:
        found = json.loads((results_dir / KEPT).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(machine: str, rates: Rates, results_dir: Path) -> None:
    """Written beside and renamed; a results folder that cannot be written keeps nothing, and they are measured again."""
    content = json.dumps(_kept(results_dir) | {machine: asdict(rates)}, indent=1)
    partial = results_dir / f"{KEPT}.{os.getpid()}.partial"
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        partial.write_text(content)
        partial.replace(results_dir / KEPT)
    except OSError as error:
        log.warning("%s: not kept (%s)", results_dir / KEPT, error.strerror)
