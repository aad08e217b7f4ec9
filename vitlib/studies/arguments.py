"""Arguments that the commands of `python -m vitlib` share; what is wrong with one is said before anything is done."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vitlib import paths
from vitlib.grid.changes import read_overrides, read_settings
from vitlib.grid.entries import merged
from vitlib.messages import brief
from vitlib.spec import SpecError

PLACES = ("results_dir", "figures_dir", "data_dir")


def path_given(given: str) -> Path:
    """An argument that is a path; argparse says what is wrong with it."""
    try:
        return paths.from_shell(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"got {brief(given)}; allowed: a path ({error})") from None


def folder_given(given: str) -> str:
    """A folder's path as text, empty for the default."""
    return str(path_given(given)) if given else ""


def changes_given(options: argparse.Namespace) -> dict[str, Any]:
    """What the settings file changes, and then what the command line does."""
    return merged(options.settings, options.overrides)


def places_given(options: argparse.Namespace) -> dict[str, str]:
    return {name: getattr(options, name) for name in PLACES}


def places() -> argparse.ArgumentParser:
    """Where results, figures and data lie."""
    parser = argparse.ArgumentParser(add_help=False)
    for name in PLACES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=folder_given, default="", help="default: of the checkout")
    return parser


def overrides() -> argparse.ArgumentParser:
    """Settings to replace."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--overrides", type=_overrides, default={}, help="settings as JSON, for instance '{\"seeds\": [0]}'")
    parser.add_argument("--from", dest="settings", type=_settings, default={}, help="settings as a TOML file; --overrides win over them")
    return parser


def device() -> argparse.ArgumentParser:
    """What is computed on."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", default="auto")
    return parser


def study() -> argparse.ArgumentParser:
    """A document at a profile, and all of the above."""
    parser = argparse.ArgumentParser(add_help=False, parents=[places(), overrides(), device()])
    parser.add_argument("document")
    parser.add_argument("--verify-data", action="store_true", help="first read all bytes of the image sets")
    parser.add_argument("--profile", default="quick", help="smoke, quick, desk, tiny, paper; teachers: smoke, micro, micro_cpu, tiny")
    return parser


def _overrides(text: str) -> dict[str, Any]:
    try:
        return read_overrides(text)
    except SpecError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _settings(path: str) -> dict[str, Any]:
    try:
        return read_settings(path_given(path))
    except (OSError, ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"from: got {brief(path)}; allowed: a TOML file of settings ({error})") from None
