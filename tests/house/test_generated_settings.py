"""Five hundred generated overrides, right and wrong: each is a study or one short SpecError, in little time.

They are made from the settings of each document as they stand at `smoke`: some places in them get a value that is of another type, at the
edge of what a number can be, unknown, misspelt, or nested junk.
"""

import importlib
import math
import time
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from vitlib import documents, load_study
from vitlib.grid.entries import merged, read_entry
from vitlib.spec import SpecError
from vitlib.studies.pretraining import with_teachers

SECONDS = 3.0  # for the slowest of them, on a slow core
ODD_NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    12,
    1000,
    2**31,
    2**32,
    10**9,
    10**18,
    2**63,
    10**400,
    0.0,
    -0.0,
    0.5,
    1.0,
    1.5,
    1e-320,
    1e-9,
    1e308,
    -1e308,
]
NO_NUMBERS = [math.nan, math.inf, -math.inf]
ODD_TEXTS = [
    "",
    " ",
    "x",
    "none",
    "digits",
    "folder/nowhere",
    "folder/" + "y" * 300,
    "../x",
    "a.b",
    "日本語",
    "é",
    "\u2028",
    "\0",
    "\ud800",
    "'; x",
]
LISTS = [[], [0], [1, 2], [0, 0], [0.5, 0.9], ["x"], [None], [[1]], [True], list(range(40)), list(range(20_000)), ["x"] * 1000]
ORIGINS = [
    {"shipped": "mae"},
    {"shipped": "x"},
    {"run": {}},
    {"run": {"profile": []}},
    {"run": {"profile": "smoke", "method": "dino", "model": "micro", "seed": 0}},
    {"run": {"profile": "smoke"}, "shipped": "dino"},
    {"file": "../x.pt", "model": {}},
    {"name": "nonsense.x", "pretrained": True},
    {"name": "vit_tiny_patch16_224.augreg_in21k", "pretrained": True},
    {"name": "convnext_atto.d2_in1k", "pretrained": True},
    {"model": "test_vit", "image_size": 8},
    {"model": "swin_tiny_patch4_window7_224", "image_size": 8, "mean": [0.5], "std": [0.5]},
    {
        "file": "y" * 300 + ".pt",
        "model": {"embed_dim": 10**9, "depth": 1, "num_heads": 7, "patch_size": 1},
        "image_size": 1,
        "mean": [0],
        "std": [1],
    },
]
TABLES = [{}, {"x": 1}, {"": {}}, {"a.b": {"c": [1]}}, *ORIGINS, *({"origin": origin} for origin in ORIGINS)]

leaves = st.one_of(*map(st.sampled_from, (ODD_NUMBERS, NO_NUMBERS, ODD_TEXTS, LISTS, TABLES, [None, True, False])))
junk = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ODD_TEXTS), inner, max_size=3), max_leaves=6
)


def places(value: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths to every table and value of nested settings."""
    inner = [place for name, item in value.items() for place in places(item, (*before, name))] if isinstance(value, dict) else []
    return [before, *inner] if before else inner


def misspelt(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from([name[:-1], name + "s", name.upper(), f"{name}.{name}", name])


def alike(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same type, most of them within reason."""
    if isinstance(value, bool) or value is None:
        return st.sampled_from([True, False, value])
    if isinstance(value, int):
        return st.sampled_from([value, value + 1, 2 * value, 1, 2, 4, 8, 12, 10**6, 10**9])
    if isinstance(value, float):
        return st.sampled_from([value, value / 2, 0.0, 0.25, 0.9, 1.0, 1, 1e-320, 1e308])
    if isinstance(value, str):
        return st.sampled_from([value, "folder/nowhere", "日本語", "afr", *ODD_TEXTS])
    return st.sampled_from([value, value[::-1], value * 2, value[:1]] if isinstance(value, list) else [{}, value])


def value_at(place: list[str], known: Any) -> Any:
    for name in place:
        known = known[name]
    return known


def nested(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(place):
        value = {name: value}
    return value


@st.composite
def overrides(draw, known: dict[str, Any]) -> dict[str, Any]:
    """One to three changes of known settings, one in eight of them under a misspelt name."""
    made: dict[str, Any] = {}
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places(known)))
        value = draw(junk if draw(st.integers(0, 3)) == 0 else alike(value_at([*path, last], known)))
        last = draw(misspelt(last)) if draw(st.integers(0, 7)) == 0 else last
        made = merged(made, nested((*path, last), value))
    return made


def known_settings(paper: str) -> dict[str, Any]:
    entry, module = read_entry(paper), importlib.import_module(f"vitlib.papers.{paper}")
    parsed = module.Settings.parse(with_teachers(merged(entry["base"], entry["profile"]["smoke"])))
    return parsed.model_dump(mode="json")


@pytest.mark.parametrize("paper", documents())
def test_generated_overrides_are_a_study_or_one_short_refusal(paper, tmp_path):
    seen = {"loaded": 0, "refused": 0}

    @settings(max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(overrides(known_settings(paper)))
    def check(generated):
        begun = time.process_time()
        try:
            study = load_study(
                paper, "smoke", overrides=generated, results_dir=str(tmp_path / "r"), data_dir=str(tmp_path / "d"), device="cpu"
            )
        except SpecError as error:
            lines = str(error).splitlines()
            assert 1 <= len(lines) <= 6 and max(map(len, lines)) < 1200 and all(": " in line or line.startswith("...") for line in lines)
            seen["refused"] += 1
        else:
            assert study.specs and len(study.stamp) < 300 and len(study.folder.name) < 100
            seen["loaded"] += 1
        assert time.process_time() - begun < SECONDS

    check()
    assert min(seen.values()) >= 5  # of either kind
    assert not list(tmp_path.iterdir())


def test_the_places_of_settings_are_all_of_their_tables_and_values():
    assert places({"a": {"b": 1, "c": {}}, "d": [{"e": 1}]}) == [("a",), ("a", "b"), ("a", "c"), ("d",)]
