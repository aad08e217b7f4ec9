"""An explorer on a page: its controls, its picture and its line, moved as a person moves them."""

import time
from dataclasses import dataclass
from typing import Any

from tests.browser.lab import LIVE

CHANGED = "([live, place, before]) => document.querySelectorAll(live)[place].querySelector('img').src != before"
SAID = "([live, place, before]) => document.querySelectorAll(live)[place].innerText.match(/(not )?drawn.*/s)?.[0] != before"


class NotDrawnError(AssertionError):
    """The explorer says that it could not draw what was chosen."""


@dataclass
class Explorer:
    """The explorer at a place of the page, counted from 0."""

    page: Any
    place: int

    def __post_init__(self):
        self.box = self.page.locator(LIVE).nth(self.place)

    @property
    def sliders(self) -> list[Any]:
        return self.box.locator(".noUi-handle").all()

    @property
    def menus(self) -> list[Any]:
        return self.box.locator("select").all()

    @property
    def picture(self) -> str:
        """Where the page has the picture from: another address for another picture."""
        return self.box.locator("img").get_attribute("src")

    @property
    def said(self) -> str:
        """The line that the kernel writes."""
        return self.box.locator(".widget-html-content", has_text="drawn").inner_text().strip()

    def moved(self, act: Any) -> float:
        """Seconds from what `act` does to another picture on the page.

        Raises:
            NotDrawnError: where the explorer says so.
        """
        picture, said = self.picture, self.said
        began = time.perf_counter()
        act()
        self._wait(SAID, said)
        if self.said.startswith("not drawn"):
            raise NotDrawnError(self.said)
        self._wait(CHANGED, picture)
        return time.perf_counter() - began

    def _wait(self, expression: str, before: str) -> None:
        try:
            self.page.wait_for_function(expression, arg=[LIVE, self.place, before], timeout=10_000)
        except Exception as error:
            raise TimeoutError(f"explorer {self.place}: nothing new after {before!r}; it says {self.said!r}") from error

    def press(self, slider: Any, key: str) -> float:
        """One step of a slider, by a key: exact, as a drag is not."""
        slider.focus()
        return self.moved(lambda: self.page.keyboard.press(key))

    def step(self, slider: Any, back: bool = False) -> float:
        """One step up, or down from the upper end; `back` the other way round."""
        return self.press(slider, "ArrowLeft" if at_end(slider) or (back and not at_start(slider)) else "ArrowRight")

    def others(self, menu: Any) -> list[str]:
        """What a menu offers beside what is chosen, and that at the end."""
        chosen = menu.locator("option:checked").inner_text()
        return [chosen, *(option for option in menu.locator("option").all_inner_texts() if option != chosen)]

    def tells_its_controls(self) -> bool:
        """Whether the kernel's line has the value of every control that the page shows."""
        said = self.said.removeprefix("drawn: ")
        for row in self.box.locator(".widget-slider, .widget-dropdown").all():
            name, menu = row.locator(".widget-label").first.inner_text(), row.locator("select")
            shown = menu.locator("option:checked") if menu.count() else row.locator(".widget-readout")
            if f"{name} {_plain(shown.inner_text())}" not in said:
                return False
        return True

    def select(self, menu: Any, option: str) -> float:
        return self.moved(lambda: menu.select_option(label=option))


def _plain(value: str) -> str:
    """A number as Python writes it in short, other words as they are; a menu's have spaces that do not break."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value.replace("\N{NO-BREAK SPACE}", " ")


def at_start(slider: Any) -> bool:
    return float(slider.get_attribute("aria-valuenow")) <= float(slider.get_attribute("aria-valuemin"))


def at_end(slider: Any) -> bool:
    return float(slider.get_attribute("aria-valuenow")) >= float(slider.get_attribute("aria-valuemax"))


def all_of(page: Any) -> list[Explorer]:
    return [Explorer(page, place) for place in range(page.locator(LIVE).count())]
