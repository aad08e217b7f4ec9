"""Tables in files and in notebooks. Rows that are the document's alone lie folded below those that are measured here."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from vitlib import durable
from vitlib.report.tables.numbers import DASH, formatted

PUBLISHED_ONLY = "published only"
EMPTY = "No rows at this profile."


def published_only(table: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    """The table with a mark on the `rows` that the document reports and nothing here is measured for."""
    table.attrs[PUBLISHED_ONLY] = rows.tolist()
    return table


def save(table: pd.DataFrame, path: Path, *captions: str) -> None:
    """`path`.csv with every row in full precision and `path`.md as shown, under its captions, each a paragraph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable.whole(path.with_suffix(".csv")) as aside:
        table.to_csv(aside, index=False)
    said = [*map(_without_tags, captions), markdown(table)]
    with durable.whole(path.with_suffix(".md")) as aside:
        aside.write_text("\n\n".join(filter(None, said)) + "\n", encoding="utf-8")


def markdown(table: pd.DataFrame) -> str:
    """The table as shown, published-only rows under a heading of their own; a bar in a name or a cell does not end it."""
    here, apart = _parted(table)
    words = _words(table)
    return "\n\n".join(
        filter(None, [_in_markdown(here, words), *([f"### {_counted(apart)}", _in_markdown(apart, words)] if len(apart) else [])])
    )


def shown(table: pd.DataFrame, caption: str, name: str) -> Styler:
    """The table as a notebook displays it, words to the left and numbers to the right; `name` keeps its styles its own."""
    here, apart = _parted(table)
    words = _words(table)
    styled = _styled(here, words, caption, name)
    if len(apart):
        folded = _styled(apart, words, "", f"{name}-published").to_html()
        styled.below = f"<details><summary>{_counted(apart)}</summary>{folded}</details>"
    return styled


class Folding(Styler):
    """A styled table with HTML below it."""

    below = ""

    def to_html(self, *arguments: Any, **options: Any) -> str | None:
        """The table's HTML, and what is below it; into a file the table alone, as pandas writes it."""
        text = super().to_html(*arguments, **options)
        return text + self.below if text is not None else None


def _parted(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows measured here and those published only, as text; all are the former where nothing is measured."""
    text = formatted(table)
    rows = pd.Series(table.attrs.get(PUBLISHED_ONLY, [False] * len(table)), index=text.index, dtype=bool)
    if rows.all():
        return text, text.iloc[:0]
    apart = text[rows]
    return text[~rows], apart[[name for name in apart if name != "n" and (apart[name] != DASH).any()]]


def _counted(apart: pd.DataFrame) -> str:
    rows = f"{len(apart)} row{'s' * (len(apart) != 1)}"
    return f"{rows} that the document reports and this profile does not run"


def _words(table: pd.DataFrame) -> set[str]:
    return {name for name in table if not pd.api.types.is_numeric_dtype(table[name])}


def _in_markdown(text: pd.DataFrame, words: set[str]) -> str:
    if text.empty:
        return EMPTY
    sides = ["left" if name in words else "right" for name in text]
    safe = text.map(_in_a_cell).set_axis([_in_a_cell(str(name)) for name in text], axis=1)
    return safe.to_markdown(index=False, disable_numparse=True, colalign=sides)


def _styled(text: pd.DataFrame, words: set[str], caption: str, name: str) -> Folding:
    if text.empty:
        styled = Folding(pd.DataFrame({"": [EMPTY]})).hide(axis="columns")
    else:
        sides = {column: _side("", "left" if column in words else "right") for column in text}
        safe = text.map(html.escape).set_axis([html.escape(str(name)) for name in text], axis=1)
        styled = Folding(safe).set_table_styles({html.escape(str(column)): side for column, side in sides.items()})
    styled = styled.hide(axis="index").set_uuid(name).set_table_styles(_side("caption", "left"), overwrite=False)
    return styled.set_caption(_rendered(caption)) if caption else styled


def _side(selector: str, side: str) -> list[dict[str, str]]:
    return [{"selector": selector, "props": f"text-align: {side};"}]


def _rendered(caption: str) -> str:
    """A caption's text in HTML; what it names as code looks like code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(caption, quote=False))


def _in_a_cell(text: str) -> str:
    return _without_tags(" ".join(text.splitlines())).replace("|", r"\|")


def _without_tags(text: str) -> str:
    """Names of classes, files and models are others' words: no HTML, and no picture that is fetched, begins in them."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text).replace("![", r"!\[")
