"""What a disk may hold after a power cut: names and bytes that were not brought to it may be there, or not, or in part.

The model is that of journaling file systems, taken unkindly: a change of a name is whole or has not happened; the `fsync` of a folder keeps
the changes of its names until then, that of a file its bytes and not its name. Of what came after, any part may be kept.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.faults.kills.points import Change

KEPT = {  # of bytes that were written and not brought to the disk
    "as they were": lambda synced, live: synced,
    "zeros": lambda synced, live: bytes(len(live)),
    "half": lambda synced, live: live[: len(live) // 2],
    "all": lambda synced, live: live,
}
Choose = Callable[[int], list[bool]]  # which of so many pending changes of names are kept


@dataclass(eq=False)
class File:
    live: bytearray
    synced: bytes = b""


@dataclass(eq=False)
class Link:
    target: str


@dataclass(eq=False)
class Folder:
    live: dict[str, "Node"] = field(default_factory=dict)
    durable: dict[str, "Node"] = field(default_factory=dict)


Node = File | Link | Folder
State = dict[str, bytes | str | None]  # files, links and folders (None) by their paths
Naming = list[tuple[Folder, str, Node | None]]  # one change of names, whole


class Disk:
    """A folder as processes see it, and as it is for certain on the disk."""

    def __init__(self, folder: Path):
        self.root, self.pending = _read(folder), []

    def apply(self, change: Change) -> None:
        if change.kind == "symlink":  # its path is what the link says, wherever that leads
            return self._name([(*self._place(change.other), Link(change.path))])
        folder, name = self._place(change.path)
        match change.kind:
            case "create":
                self._name([(folder, name, File(bytearray()))])
            case "mkdir":
                self._name([(folder, name, Folder())])
            case "unlink" | "rmdir":
                self._name([(folder, name, None)])
            case "rename":
                self._name([(folder, name, None), (*self._place(change.other), folder.live[name])])
            case "link":
                self._name([(*self._place(change.other), folder.live[name])])
            case "write":
                content = folder.live[name].live
                content.extend(bytes(max(0, change.offset - len(content))))
                content[change.offset : change.offset + len(change.content)] = change.content
            case "truncate":
                del folder.live[name].live[change.offset :]
            case "fsync":
                self._sync(folder.live[name] if name else self.root)

    def after_cut(self, keep: Choose, of_bytes: str) -> State:
        """What is found when the power is back."""
        names = {folder: dict(folder.durable) for folder in _folders(self.root, self.pending)}
        for naming, kept in zip(self.pending, keep(len(self.pending)), strict=True):
            if kept:
                for folder, name, node in naming:
                    names[folder].pop(name, None)
                    if node:
                        names[folder][name] = node
        return dict(_walk(self.root, names, KEPT[of_bytes], ""))

    def _place(self, path: str) -> tuple[Folder, str]:
        *above, name = path.split("/")
        folder = self.root
        for part in above:
            folder = folder.live[part]
        return folder, "" if name == "." else name

    def _name(self, naming: Naming) -> None:
        for folder, name, node in naming:
            folder.live.pop(name, None)
            if node:
                folder.live[name] = node
        self.pending.append(naming)

    def _sync(self, node: Node) -> None:
        if isinstance(node, File):
            node.synced = bytes(node.live)
            return
        wanted = self._with_those_before(lambda naming: any(folder is node for folder, _, _ in naming))
        for naming in [naming for naming in self.pending if id(naming) in wanted]:
            for folder, name, found in naming:
                folder.durable.pop(name, None)
                if found:
                    folder.durable[name] = found
        self.pending = [naming for naming in self.pending if id(naming) not in wanted]

    def _with_those_before(self, chosen: Callable[[Naming], bool]) -> set[int]:
        """Changes of names are kept in the order in which one name got them."""
        names, found = set(), set()
        for naming in reversed(self.pending):
            touched = {(id(folder), name) for folder, name, _ in naming}
            if chosen(naming) or touched & names:
                names |= touched
                found.add(id(naming))
        return found


def states(before: Path, changes: list[Change], at: Container[int], draws: np.random.Generator) -> Iterator[tuple[int, str, State]]:
    """Every different disk that cuts may leave: after how many changes the cut came, what was kept, in words, and the disk."""
    disk, seen = Disk(before), set()
    for number in range(len(changes) + 1):
        if number:
            disk.apply(changes[number - 1])
        for how, state in ways(disk, draws) if number in at else ():
            if (key := hash((frozenset(state.items()), number == len(changes)))) not in seen:
                seen.add(key)
                yield number, f"cut after {changes[number - 1] if number else 'the beginning'}: {how}", state


def ways(disk: Disk, draws: np.random.Generator) -> Iterator[tuple[str, State]]:
    """What a cut may leave now: all names, none, the first or some of those that are not on the disk, and so with bytes."""
    names: dict[str, Choose] = {
        "no": lambda count: [False] * count,
        "all": lambda count: [True] * count,
        "the first": lambda count: [place < count // 2 for place in range(count)],
        "some": lambda count: (draws.random(count) < 0.5).tolist(),
    }
    for name, keep in names.items():
        for of_bytes in KEPT:
            yield f"{name} names kept, bytes {of_bytes}", disk.after_cut(keep, of_bytes)


def laid_out(state: State, folder: Path) -> None:
    """Write such a state into a folder that is not there yet."""
    folder.mkdir(parents=True)
    for path, content in state.items():
        place = folder / path
        if content is None:
            place.mkdir()
        elif isinstance(content, str):
            place.symlink_to(content)
        else:
            place.write_bytes(content)


def _read(folder: Path) -> Folder:
    found = Folder()
    for path in folder.iterdir():
        if path.is_symlink():
            node = Link(str(path.readlink()))
        else:
            node = _read(path) if path.is_dir() else File(bytearray(path.read_bytes()), path.read_bytes())
        found.live[path.name] = found.durable[path.name] = node
    return found


def _folders(root: Folder, pending: list[Naming]) -> set[Folder]:
    found, todo = set(), [root, *(node for naming in pending for folder, _, named in naming for node in (folder, named))]
    while todo:
        node = todo.pop()
        if isinstance(node, Folder) and node not in found:
            found.add(node)
            todo += [*node.live.values(), *node.durable.values()]
    return found


def _walk(folder: Folder, names: dict[Folder, dict[str, Node]], kept: Callable, above: str) -> Iterator[tuple[str, bytes | str | None]]:
    for name, node in names[folder].items():
        path = f"{above}{name}"
        if isinstance(node, Folder):
            yield path, None
            yield from _walk(node, names, kept, f"{path}/")
        elif isinstance(node, Link):
            yield path, node.target
        else:
            live = bytes(node.live)
            yield path, live if live == node.synced else bytes(kept(node.synced, live))
