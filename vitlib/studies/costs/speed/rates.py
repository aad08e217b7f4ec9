"""How fast a device is: seconds for each unit of `Amounts`."""

from __future__ import annotations

from dataclasses import dataclass

from vitlib.studies.costs.amounts import Amounts

SECONDS = ("products", "convolutions", "half", "elements", "heads", "kernels", "moved", "runs")  # of `Amounts`
HOST = ("kernels", "runs")  # what the processes of a GPU do side by side; the rest is the card's, which they share


@dataclass(frozen=True)
class Rates:
    """Seconds a unit; `basis` says where they are from. `slots` runs are computed at once, on cores of their own or `sharing` a card.

    Attributes:
        start: seconds until the first run begins: the command starts, and then its workers.
    """

    device: str
    basis: str
    slots: int
    products: float
    convolutions: float
    half: float
    elements: float
    heads: float
    kernels: float
    moved: float
    runs: float
    start: float
    sharing: bool = False

    def seconds(self, amounts: Amounts, at_once: int = 1) -> float:
        """Of a worker when so many compute; what they share takes each as many times as long."""
        shared = at_once if self.sharing else 1
        return sum((1 if name in HOST else shared) * getattr(self, name) * getattr(amounts, name) for name in SECONDS)


SHIPPED = {
    "cpu-2-cores": Rates(
        device="2 slow CPU cores",
        basis="fitted to the training times of 536 runs, all five documents at profile quick, one thread a run",
        slots=2,
        products=6.7e-12,
        convolutions=3.7e-11,
        half=6.7e-12,
        elements=6.7e-10,
        heads=1.35e-6,
        kernels=1.06e-5,
        moved=5.5e-9,
        runs=0.05,
        start=9.0,
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
        heads=1e-11,
        kernels=8e-6,
        moved=40 / (0.4 * 3.35e12),
        runs=2.0,
        start=15.0,
    ),
}
