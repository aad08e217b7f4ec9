"""ipywidgets explorers over stored arrays: no torch, no training, nothing drawn by pyplot.

A callback runs in another thread of the kernel, so pictures are drawn with `Figure` into an `Image` widget. Each explorer
first shows the same picture as a still, which is what a headless run, an untrusted notebook and one without its kernel display; the live
explorer brings a style that hides the still before it. ipywidgets is imported when an explorer is made, so that a machine without
notebooks can compute runs.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable
from threading import Lock
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from vitlib.report.figures import style
from vitlib.report.pictures import described

if TYPE_CHECKING:
    import ipywidgets

Draw = Callable[..., Figure]
LIVE = "vitlib-explorer"
STYLE = f"""<style>
.jp-OutputArea-child:has(+ .jp-OutputArea-child .{LIVE}) {{ display: none; }}
.{LIVE} img {{ background: white; }}
</style>"""
CONTROLS = "310px"
DPI = 160


class Explorer:
    """Controls beside the picture that `draw(**values)` makes of them, and a line that says what is drawn.

    Args:
        draw: figure function of the controls' values, by name; it raises what it cannot draw.
        controls: ipywidgets with a `value`, by argument name; sliders should have `continuous_update=False`.
        width: of the picture at most, in pixels.
    """

    def __init__(self, draw: Draw, controls: dict[str, ipywidgets.Widget], width: int = 560):
        import ipywidgets

        self._draw, self.controls, self._lock, self._width = draw, controls, Lock(), width
        self.picture = ipywidgets.Image(value=self._png(), format="png", layout={"width": "100%", "height": "auto"})
        self.status = ipywidgets.HTML(html.escape(self._said("drawn")))
        for control in controls.values():
            control.style.description_width = "84px"
            control.layout.width = "auto"
            control.observe(self._redraw, "value")

    def show(self) -> None:
        """The initial picture as a still image, then the live explorer, which hides it."""
        from IPython.display import Image, display

        display(Image(data=self.picture.value, width=self._width, alt=described(self._drawn, self._said("drawn"))))
        display(self.live())

    def live(self) -> ipywidgets.Widget:
        """Controls on the left, the picture on the right, or below them where the page is narrow."""
        import ipywidgets

        mark = ipywidgets.HTML(STYLE, layout={"display": "none"})
        left = ipywidgets.VBox([*self.controls.values(), self.status, mark], layout={"flex": f"0 0 {CONTROLS}", "overflow": "hidden"})
        right = ipywidgets.Box([self.picture], layout={"flex": "1 1 360px", "max_width": f"{self._width}px", "overflow": "hidden"})
        box = ipywidgets.HBox([left, right], layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        box.add_class(LIVE)
        return box

    def _redraw(self, _: Any) -> None:
        with self._lock:
            try:
                self.picture.value = self._png()
            except Exception as error:
                self.status.value = f"<b>not drawn</b> {html.escape(f'({type(error).__name__}: {error}): ' + self._said('chosen'))}"
                raise
            self.status.value = html.escape(self._said("drawn"))

    def _png(self) -> bytes:
        """As sharp as a page shows it, and packed lightly: a person waits for it."""
        buffer = io.BytesIO()
        with style():
            self._drawn = self._draw(**{name: control.value for name, control in self.controls.items()})
            self._drawn.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None}, pil_kwargs={"compress_level": 1})
        return buffer.getvalue()

    def _said(self, what: str) -> str:
        """What the controls say, in their own words."""
        return f"{what}: " + ", ".join(f"{control.description} {_shown(control)}" for control in self.controls.values())


def _shown(control: ipywidgets.Widget) -> str:
    """A control's value as the reader sees it."""
    label = getattr(control, "label", None)
    if label is not None:
        return str(label)
    return f"{control.value:g}" if isinstance(control.value, float) else str(control.value)


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


def choice(description: str, options: Iterable[str] | dict[str, str], value: str | None = None) -> ipywidgets.Widget:
    """A drop-down list, of values or of values by their labels; starts at its first option unless told."""
    import ipywidgets

    pairs = list(options.items()) if isinstance(options, dict) else [(option, option) for option in options]
    return ipywidgets.Dropdown(options=pairs, value=pairs[0][1] if value is None else value, description=description)
