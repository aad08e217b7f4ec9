"""What may happen to a file on a disk, each harm by name; `other` is a file of the same name of another run, or of an older state."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

Harm = Callable[[Path, Path, np.random.Generator], None]
HARMS: dict[str, Harm] = {}


def harm(name: str) -> Callable[[Harm], Harm]:
    def entered(act: Harm) -> Harm:
        HARMS[name] = act
        return act

    return entered


@harm("a bit flipped")
def flip_a_bit(path: Path, other: Path, generator: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[generator.integers(len(content))] ^= 1 << int(generator.integers(8))
    path.write_bytes(content)


@harm("bytes overwritten")
def overwrite(path: Path, other: Path, generator: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    start = int(generator.integers(len(content)))
    content[start : start + 8] = bytes(byte ^ 0x5A for byte in content[start : start + 8])
    path.write_bytes(content)


@harm("a block of zeros")
def zero_a_block(path: Path, other: Path, generator: np.random.Generator) -> None:
    """The sector that a disk lost; as long as the file, where that is shorter."""
    content = bytearray(path.read_bytes())
    start = int(generator.integers(max(1, len(content) - 512)))
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)


@harm("cut")
def cut(path: Path, other: Path, generator: np.random.Generator) -> None:
    os.truncate(path, int(generator.integers(1, path.stat().st_size)))


@harm("lengthened")
def lengthen(path: Path, other: Path, generator: np.random.Generator) -> None:
    with path.open("ab") as stream:
        stream.write(b"\n" if generator.integers(2) else bytes(512))


@harm("emptied")
def empty(path: Path, other: Path, generator: np.random.Generator) -> None:
    os.truncate(path, 0)


@harm("removed")
def remove(path: Path, other: Path, generator: np.random.Generator) -> None:
    path.unlink()


@harm("a folder in its place")
def replace_by_a_folder(path: Path, other: Path, generator: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("1")


@harm("a link to nothing in its place")
def replace_by_a_link(path: Path, other: Path, generator: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@harm("a link to another's in its place")
def replace_by_a_link_to_another(path: Path, other: Path, generator: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to(other)


@harm("a link to itself in its place")
def replace_by_a_loop(path: Path, other: Path, generator: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to(path.name)


@harm("a pipe in its place")
def replace_by_a_pipe(path: Path, other: Path, generator: np.random.Generator) -> None:
    path.unlink()
    os.mkfifo(path)


@harm("another's in its place")
def replace_by_another(path: Path, other: Path, generator: np.random.Generator) -> None:
    shutil.copyfile(other, path)
