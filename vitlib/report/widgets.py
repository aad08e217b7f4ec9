"""ipywidgets explorers over stored arrays: no torch, no training, nothing drawn by pyplot.

A callback runs in another thread of the kernel, so pictures are drawn with `Figure` into an `Image` widget. Each explorer
first shows the same picture statically, which is what a headless run and an untrusted notebook display. ipywidgets is
imported when an explorer is made, so that a machine without notebooks can compute runs.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from vitlib.report.figures import style
from vitlib.report.pictures import described

if TYPE_CHECKING:
    import ipywidgets

Draw = Callable[..., Figure]


class Explorer:
    """Controls and the picture that `draw(**values)` makes of them.

    Args:
        draw: figure function of the controls' values, by name.
        controls: ipywidgets with a `value`, by argument name; sliders should have `continuous_update=False`.
    """

    def __init__(self, draw: Draw, controls: dict[str, ipywidgets.Widget], width: int = 560):
        import ipywidgets

        self._draw, self.controls, self._lock = draw, controls, Lock()
        self.picture = ipywidgets.Image(value=self._png(), format="png", layout={"width": f"{width}px"})
        self.status = ipywidgets.HTML(self._said())
        self._width = width
        for control in controls.values():
            control.observe(self._redraw, "value")

    def show(self) -> None:
        """The initial picture as a static image, then the live controls below it."""
        import ipywidgets
        from IPython.display import Image, display

        display(Image(data=self.picture.value, width=self._width, alt=self._alt))
        display(ipywidgets.VBox([*self.controls.values(), self.status, self.picture]))

    def _redraw(self, _: Any) -> None:
        with self._lock:
            self.picture.value = self._png()
            self.status.value = self._said()

    def _png(self) -> bytes:
        buffer = io.BytesIO()
        with style():
            figure = self._draw(**self._values())
            figure.savefig(buffer, format="png", metadata={"Software": None})
        self._alt = described(figure, self._said())
        return buffer.getvalue()

    def _said(self) -> str:
        values = {name: round(value, 6) if isinstance(value, float) else value for name, value in self._values().items()}
        return "drawn: " + ", ".join(f"{name} {value}" for name, value in values.items())

    def _values(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}


class NothingToExplore:
    """What stands in an explorer's place where its run is not stored."""

    def show(self) -> None:
        print("nothing to explore: the run behind this is not stored; execute the study first")


def slider(description: str, value: float, low: float, high: float, step: float) -> ipywidgets.Widget:
    """A slider that reports once it is let go; whole numbers for a whole step."""
    import ipywidgets

    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, description=description, continuous_update=False)


def steps(description: str, options: dict[str, float], near: float) -> ipywidgets.Widget:
    """A slider over some values alone, by their labels; starts at the one nearest to `near`, and reports once it is let go."""
    import ipywidgets

    value = min(options.values(), key=lambda option: abs(option - near))
    return ipywidgets.SelectionSlider(options=list(options.items()), value=value, description=description, continuous_update=False)


def choice(description: str, options: list[str], value: str | None = None) -> ipywidgets.Widget:
    """A drop-down list; starts at its first option unless told."""
    import ipywidgets

    return ipywidgets.Dropdown(options=options, value=value or options[0], description=description)
