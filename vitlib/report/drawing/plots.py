"""Statistical plots over seeds, by seaborn: points with intervals, and curves. Intervals are the 95 % t-intervals of `report.statistics`.

seaborn is imported when something is drawn, not before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.transforms import ScaledTranslation

from vitlib.report.drawing.palette import Look
from vitlib.report.statistics import half_width

BESIDE = (0.0, -0.06)  # inches, of a mean: the dots of its seeds


def t_interval(values: pd.Series) -> tuple[float, float]:
    """Ends of the 95 % Student t interval of the mean, as seaborn's `errorbar` asks for it; NaN below two values."""
    values = pd.Series(values, dtype=float)
    return values.mean() - half_width(values), values.mean() + half_width(values)


def points(axes: Axes, seeds: pd.DataFrame, looks: Mapping[str, Look], *, sideways: bool = True, each: bool = True) -> None:
    """Mean over seeds with its interval, and each seed as a small dot beside it.

    Args:
        seeds: columns name, place, value: one row a seed; rows without a value are left out, and so are names without a look.
        looks: of each name, which is also its label.
        sideways: values along x and places along y, or the other way round.
        each: whether single seeds are drawn; the series is then 'name, seeds'.
    """
    import seaborn as sns

    x, y = ("value", "place") if sideways else ("place", "value")
    seeds = _stored(seeds, "place")
    places = {"orient": "y" if sideways else "x", "native_scale": True, "legend": False}
    for name, look in looks.items():
        mine = seeds[seeds["name"] == name]
        if mine.empty:
            continue
        if each and mine.groupby("place").size().max() > 1:
            drawn = len(axes.collections)
            sns.stripplot(mine, x=x, y=y, ax=axes, jitter=False, size=2.6, color=look.colour, alpha=0.6, linewidth=0, **places)
            away = ScaledTranslation(*(BESIDE if sideways else BESIDE[::-1]), axes.figure.dpi_scale_trans)
            for dots in axes.collections[drawn:]:
                dots.set(gid=f"{name}, seeds", offset_transform=axes.transData + away)
        before = len(axes.lines)
        sns.pointplot(
            mine, x=x, y=y, ax=axes, errorbar=t_interval, color=look.colour, linestyle="none", marker=look.marker or "o", markersize=5,
            markeredgewidth=1, err_kws={"linewidth": 1.3}, label=name, markerfacecolor="white" if look.hollow else look.colour, **places,
        )  # fmt: skip
        for bar in axes.lines[before + 1 :]:
            bar.set_gid(f"{name}, interval")
            bar.set_label(f"_{name}")
            bar.set_zorder(1.9)
    axes.set(xlabel="", ylabel="")


def curves(axes: Axes, seeds: pd.DataFrame, looks: Mapping[str, Look], *, bars: bool = False, **options) -> None:
    """Mean over seeds along x, with its interval as a band or as bars.

    Args:
        seeds: columns name, x, value: one row a seed and x; rows without a value are left out, and so are names without a look.
        looks: of each name, which is also its label.
        options: of the lines, such as `linewidth`; `marker=""` draws none.
    """
    import seaborn as sns

    seeds = _stored(seeds, "x")
    how = {"err_style": "bars", "err_kws": {"elinewidth": 1.0}} if bars else {"err_kws": {"alpha": 0.15, "linewidth": 0}}
    for name, look in looks.items():
        mine = seeds[seeds["name"] == name]
        if mine.empty:
            continue
        containers, interval = len(axes.containers), t_interval if mine.groupby("x").size().max() > 1 else None
        drawn_as = {"markeredgecolor": look.colour, "label": name, "legend": False} | look.lines | options
        sns.lineplot(mine, x="x", y="value", ax=axes, errorbar=interval, **how, **drawn_as)
        _name_interval(axes, name, containers)
    axes.set(xlabel="", ylabel="")


def heat_map(axes: Axes, table: pd.DataFrame, *, name: str, cmap: str = "Blues", **options) -> None:
    """A table (rows, columns) as seaborn's heat map, its series named; missing values stay white."""
    import seaborn as sns

    sns.heatmap(table, ax=axes, cmap=cmap, **options)
    axes.collections[0].set_gid(name)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0)


def _stored(seeds: pd.DataFrame, place: str) -> pd.DataFrame:
    """Rows with a value; an empty store's frame has no columns."""
    return seeds.reindex(columns=["name", place, "value"]).dropna(subset="value").astype({place: float, "value": float})


def _name_interval(axes: Axes, name: str, containers: int) -> None:
    """seaborn's band or bars become a series of the table of what is drawn."""
    for container in axes.containers[containers:]:
        container.set_label(f"_{name}")
        for collection in container.lines[2]:
            collection.set_gid(f"{name}, interval")
    bands = [artist for artist in axes.collections if isinstance(artist, PolyCollection) and not artist.get_gid()]
    for artist in bands:
        artist.set_gid(f"{name}, band")


def rows(names: Mapping[str, str] | list[str]) -> dict[str, float]:
    """A place for each name, from above to below."""
    return dict(zip(names, np.arange(len(names), dtype=float), strict=True))
