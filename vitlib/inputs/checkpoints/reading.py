"""From the bytes of a checkpoint to plain containers of tensors; nothing that a file holds is ever run.

Start from `read`. The format is told by the bytes, not by the suffix; what is no checkpoint is named.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitlib.spec import SpecError

ALLOWED = "allowed: a state dict (tensors by parameter name) saved by torch.save or as safetensors"
SWOLLEN = 2**26  # bytes that an archive may unpack to beyond twice its own: torch packs without compression
SIGNATURES = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run `git lfs pull`",
    b"<!doctype html": "a web page saved in place of the file; download it again",
    b"<html": "a web page saved in place of the file; download it again",
    b"<?xml": "an XML text saved in place of the file; download it again",
    b"\x89HDF": "an HDF5 file, as Keras and TensorFlow write",
    b"\x93NUMPY": "one numpy array",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip archive; unpack it",
}


class WeightsError(SpecError):
    """Weights that are missing, or not the ones they should be; the message names the file and what to do."""


class Foreign:
    """Stands for an object of a class that is not loaded: takes whatever the file builds it from, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Foreign:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def refusal(path: Path, reason: str) -> WeightsError:
    return WeightsError(said(path, reason))


def said(path: Path | str, what: str) -> str:
    """One printable line about a file, whatever the names in it hold."""
    line = "".join(character if character.isprintable() else "?" for character in what)
    return f"teacher.origin.file {path}: {line[:360]}"


def read(packed: bytes, path: Path) -> Any:
    """What a checkpoint holds, its tensors on the CPU.

    torch.save's formats are read with `weights_only`. Other classes that a file names beside its tensors (`argparse.Namespace`, numpy's
    scalars, a whole module) are not loaded: objects of `Foreign` stand in their place.

    Raises:
        WeightsError: one line that says what the file is, if it is no checkpoint, is damaged, or asks for code.
    """
    if what := _something_else(packed):
        raise refusal(path, f"is {what}; {ALLOWED}")
    try:
        return _safetensors(packed) if _is_safetensors(packed) else _torch(packed)
    except Exception as error:  # damaged bytes make torch raise errors of a dozen kinds
        raise refusal(path, f"not loadable as plain tensors, damaged or of another format ({_short(error)}); {ALLOWED}") from None


def _safetensors(packed: bytes) -> dict[str, Any]:
    from safetensors.torch import load

    return load(packed)


def _torch(packed: bytes) -> Any:
    import torch

    stand_ins = [(type(name, (Foreign,), {}), name) for name in sorted(set(_named(packed)))]
    with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old formats: nothing that the reader of a file could change
        return torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)


def _named(packed: bytes) -> Iterator[str]:
    """Dotted names of the classes and functions in a file's pickles, which are scanned and not run."""
    for pickled, count in _pickles(packed):
        for _ in range(count):
            yield from (argument.replace(" ", ".") for code, argument, _ in pickletools.genops(pickled) if code.name == "GLOBAL")


def _pickles(packed: bytes) -> Iterator[tuple[io.BytesIO, int]]:
    """Streams, and how many pickles of each to scan: before torch 1.6 a magic number, a protocol and the machine stood before ours."""
    if not packed.startswith(b"PK"):
        yield io.BytesIO(packed), 4
        return
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        yield from ((io.BytesIO(_member(archive, info)), 1) for info in archive.infolist() if info.filename.endswith("/data.pkl"))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.CRC == 0:
        info.CRC = None  # written without checksums (torch.serialization.set_crc32_options); none is looked for
    return archive.read(info)


def _is_safetensors(packed: bytes) -> bool:
    """Eight bytes with the header's length, then the header, a JSON table."""
    return packed[8:9] == b"{" and int.from_bytes(packed[:8], "little") < 100_000_000


def _something_else(packed: bytes) -> str:
    """What a file is that cannot be a checkpoint; empty for one that may be."""
    start = packed[:4096].lstrip().lower()
    known = next((what for magic, what in SIGNATURES.items() if start.startswith(magic.lower())), "")
    if known or not packed:
        return known or "empty (0 bytes); download or copy it again"
    if packed.startswith(b"PK"):
        return _archive(packed)
    if packed[257:262] == b"ustar":
        return "a tar archive; unpack it"
    if start.startswith(b"{") and packed[8:9] != b"{":
        return _json(packed)
    return f"text, {packed[:40].decode('ascii')!r}" if _is_text(packed[:512]) else ""


def _archive(packed: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            names = archive.namelist()
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > 2 * len(packed) + SWOLLEN:
                return f"an archive of {len(packed)} bytes that would unpack to {unpacked >> 20} MiB; save it again by torch.save"
            for info in archive.infolist():
                _member(archive, info)  # torch itself passes over a wrong checksum
    except Exception as error:  # a damaged directory raises errors of several kinds
        return f"a damaged or truncated archive ({_short(error)}); download or copy it again"
    if any("/code/" in name for name in names):
        return "a TorchScript program; save the model's state_dict()"
    if any(name.endswith("data.pkl") for name in names):
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return f"an npz archive of {len(names)} numpy arrays"
    return f"a zip archive of {len(names)} files ({', '.join(names[:2])[:80]}); unpack it"


def _json(packed: bytes) -> str:
    if b'"weight_map"' in packed:
        return "the index of a checkpoint that lies in several files; load them into the model and save its state_dict() as one"
    if b'"peft_type"' in packed:
        return "the settings of an adapter of PEFT; merge it into its model (merge_and_unload) and save that one's state_dict()"
    return "JSON text"


def _is_text(start: bytes) -> bool:
    return re.fullmatch(rb"[\t\n\r\x20-\x7e]+", start) is not None


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    named = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    text = f"it asks for {named[1]}" if named else lines[0]
    return f"{type(error).__name__}: {text}"[:160].rstrip(": ")
