"""Built pages looked through: links and fragments lead somewhere, nothing is asked of another machine, pictures have alt texts.

`python -m docs.site.check FOLDER` looks through any folder of pages.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src", "video": "src"}


@dataclass
class Page(HTMLParser):
    """What one page names: its anchors, its links, what it fetches, and pictures without an alt text."""

    path: Path
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    mute: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.anchors |= {said[name] for name in ("id", "name") if name in said}
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        elif tag in FETCHED and said.get(FETCHED[tag]):
            self.fetched.append(said[FETCHED[tag]])
        if tag == "img" and not said.get("alt", "").strip() and said.get("role") != "presentation":
            self.mute.append(said.get("src", ""))


def faults(folder: Path) -> list[str]:
    """A line a fault, of all pages below a folder."""
    known = {path.resolve(): Page(path) for path in pages(folder)}
    found = []
    for page in known.values():
        name = page.path.relative_to(folder).as_posix()
        found += [f"{name}: asks another machine for {address}" for address in page.fetched if _outside(address)]
        found += [f"{name}: leads nowhere: {link}" for link in [*page.links, *page.fetched] if _broken(link, page, known, folder)]
        found += [f"{name}: no alt text: {source}" for source in page.mute]
    for path in folder.rglob("*.css"):
        addresses = re.findall(r"url\([\"']?((?:https?:)?//[^)\"']+)", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(folder).as_posix()}: asks another machine for {address}" for address in addresses]
    return list(dict.fromkeys(found))


def report(folder: Path) -> int:
    """Print the faults, or that there are none; an exit status."""
    found = faults(folder)
    print("\n".join(found) or f"site: every link of {len(pages(folder))} pages leads somewhere; no request leaves the folder")
    return int(bool(found))


def pages(folder: Path) -> list[Path]:
    """Without those of `_static`, which are parts of a theme."""
    return [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.relative_to(folder).parts]


def _outside(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def _broken(link: str, page: Page, known: dict[Path, Page], folder: Path) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path.resolve()
    if not target.is_file() or not target.is_relative_to(folder.resolve()):
        return True
    part = unquote(parts.fragment)
    return bool(part) and target in known and part not in known[target].anchors


if __name__ == "__main__":
    sys.exit(report(Path(sys.argv[1])))
