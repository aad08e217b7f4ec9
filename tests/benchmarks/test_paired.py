"""The clockwork of the benchmarks on clocks that stand still, and that every script is described."""

import statistics
from itertools import pairwise

import pytest

from benchmarks import _paired
from tests.support import ROOT

SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))


@pytest.fixture
def timed(monkeypatch):
    """Makes a way that takes these seconds, one after the other, by a clock that only ways move; and the order they were called in."""
    now, order = [0.0], []
    monkeypatch.setattr(_paired, "CLOCKS", {"wall": lambda: now[0], "cpu": lambda: now[0] / 2})

    def way(name, seconds):
        left = iter(seconds)

        def run():
            order.append(name)
            now[0] += next(left)

        return run

    return way, order


def test_ratios_are_taken_pair_by_pair_after_the_warm_up(timed):
    way, _ = timed
    ours, bare = [99.0, 99.0, 3.0, 4.0, 10.0, 2.0], [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    found = _paired.ratios(way("ours", ours), way("bare", bare), pairs=4)
    assert found["n"] == 4
    for clock in ("wall", "cpu"):
        of_a_pair = sorted([1.5, 2.0, 2.5, 0.5])
        assert found[clock]["ratio_median"] == statistics.median(of_a_pair) == 1.75
        assert (found[clock]["ratio_min"], found[clock]["ratio_max"]) == (0.5, 2.5)
        assert (found[clock]["ratio_quartile_1"], found[clock]["ratio_quartile_3"]) == (1.25, 2.125)
    assert (found["wall"]["seconds_ours_median"], found["cpu"]["seconds_bare_median"]) == (3.5, 1.5)


def test_every_second_pair_is_timed_in_reverse(timed):
    way, order = timed
    _paired.ratios(way("ours", [1.0] * 6), way("bare", [1.0] * 6), pairs=4)
    pairs = [order[index : index + 2] for index in range(0, len(order), 2)]
    assert len(pairs) == 6 and all(sorted(pair) == ["bare", "ours"] for pair in pairs)
    assert all(one == other[::-1] for one, other in pairwise(pairs))


def test_what_is_said_of_ratios_names_their_spread_and_number(timed):
    way, _ = timed
    found = _paired.ratios(way("ours", [1.0, 1.0, 2.0, 3.0]), way("bare", [1.0] * 4), pairs=2)
    assert _paired.described(found, "wall") == "median 2.500, quartiles 2.250 .. 2.750, min 2.000, max 3.000, n 2 pairs, wall time"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_described(script):
    assert f"{script}.py" in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
