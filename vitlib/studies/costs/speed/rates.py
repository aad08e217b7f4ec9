"""How fast a device is: seconds for each unit of `Amounts`."""

from __future__ import annotations

from dataclasses import dataclass

from vitlib.studies.costs.amounts import Amounts

SECONDS = ("products", "convolutions", "half", "elements", "kernels", "moved", "runs")  # of `Amounts`
HOST = ("kernels", "runs")  # what the processes of a GPU do side by side; the rest is the card's, which they share


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
