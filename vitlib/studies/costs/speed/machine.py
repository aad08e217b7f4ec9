"""The rates of a device by name, or of this machine: measured on first use and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from vitlib import durable, paths
from vitlib.runs.manifest import StoreError, content_of, json_table
from vitlib.spec import SpecError
from vitlib.studies.costs.speed.rates import SHIPPED, Rates

KEPT = "rates.json"  # in the results folder, by machine
log = logging.getLogger("vitlib")


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
    if not isinstance(found, dict) or found.pop("sha256", None) != _digest(found) or found.keys() != names:
        return None
    return Rates(**found)


def _measured(device: str, results_dir: Path) -> Rates:
    from vitlib.studies.costs.speed.measure import measure  # imports torch

    log.warning("measuring this machine's rates once, some seconds")
    rates = measure(device)
    _keep(_machine(device), rates, results_dir)
    return rates


def _machine(device: str) -> str:
    return f"{platform.node()}, {paths.cores()} cores, {device}"


def _kept(results_dir: Path) -> dict[str, dict]:
    try:
        return json_table(content_of(results_dir / KEPT) or b"") or {}
    except StoreError:
        return {}


def _keep(machine: str, rates: Rates, results_dir: Path) -> None:
    """Written beside and renamed; a results folder that cannot be written keeps nothing, and they are measured again."""
    own = asdict(rates)
    content = json.dumps(_kept(results_dir) | {machine: own | {"sha256": _digest(own)}}, indent=1)
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        with durable.whole(results_dir / KEPT) as file:
            file.write_text(content)
    except OSError as error:
        log.warning("%s: not kept (%s)", results_dir / KEPT, error.strerror)


def _digest(rates: dict[str, Any]) -> str:
    """Rates that were damaged are measured again."""
    return hashlib.sha256(json.dumps(rates, sort_keys=True).encode()).hexdigest()
