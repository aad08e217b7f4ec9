"""Hostile archives of results, and runs whose files were edited and their manifest made to fit."""

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from unittest.mock import patch

import numpy as np

from tests.faults.malice.cases import HARMLESS, Call, case, code, written
from tests.runs.made_archives import MALICIOUS, regular
from tests.support import Number, context
from vitlib.computing import result_of
from vitlib.runs import archive
from vitlib.runs.manifest import MANIFEST, DamagedError, digests_of, manifest_of
from vitlib.runs.store import Store

RUN = Number(value=3)
REFUSED = r"archive .*runs\.tar"


def import_(path: Path):
    """Added runs are read as well: whatever an import lets through is found then."""
    store = Store(path.parent / "store")
    added = archive.import_(store, path)
    for run_id in added:
        store.read(run_id)
    if not added and path.name != "empty.tar":
        raise DamagedError(f"archive {path}: nothing of it was taken")


def read_back(path: Path):
    """As planning reads a run of its own store; `path` is the run's folder."""
    return Store(path.parent, writable=False).read(path.name, RUN)


def tar(folder: Path, members, name: str = "runs.tar", pack=bytes) -> Path:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as out:
        for member, body in members:
            out.addfile(member, io.BytesIO(body))
    return written(folder / name, pack(content.getvalue()))


def good(folder: Path) -> dict[str, bytes]:
    """The files of a run as they were stored."""
    (folder / "data").mkdir(exist_ok=True)
    store = Store(folder / "made")
    store.put(RUN, result_of(RUN, context(folder / "data")), {"finished": "now", "code": "0", "versions": {}})
    return store.files(RUN.id)


def fitting(files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {MANIFEST: manifest_of(digests_of(files))}


def members_of(files: dict[str, bytes], run_id: str = RUN.id) -> list:
    return [regular(f"{run_id}/{name}", content) for name, content in files.items()]


for what, members in MALICIOUS.items():
    case(f"archive: {what}", import_, REFUSED)(lambda folder, canary, members=members: tar(folder, members))
for what, pack in {"gzip": gzip.compress, "bzip2": bz2.compress, "xz in xz": lambda content: lzma.compress(lzma.compress(content))}.items():
    case(f"archive: packed by {what}", import_, REFUSED)(
        lambda folder, canary, pack=pack: tar(folder, members_of(fitting(good(folder))), pack=pack)
    )

NAMES = {
    "with a new line": "number-1\n/result.json",
    "that moves the cursor": "number-\x1b[2J1/result.json",
    "with a nought": "number\x00-1/result.json",
    "of three hundred letters": f"{'n' * 300}/result.json",
    "of a megabyte": f"{'n' * 2**20}/result.json",
    "in wide letters": "ｎｕｍｂｅｒ/result.json",
    "that is a device of Windows": "CON:/result.json",
    "from right to left": "number-\u202e1/result.json",
    "that is code": "$(touch x)/result.json",
    "with a drive": "C:\\number-1/result.json",
    "with a wrong half of a letter": "number-\udc80/result.json",
}
for what, name in NAMES.items():
    case(f"archive: a name {what}", import_, REFUSED)(lambda folder, canary, name=name: tar(folder, [regular(name)]))


@case("archive: the same file twice", import_, REFUSED + ".*is there twice")
def _twice(folder, canary):
    files = fitting(good(folder))
    return tar(folder, [*members_of(files), regular(f"{RUN.id}/result.json", files["result.json"])])


@case("archive: two runs whose names differ by case", import_, REFUSED)
def _case(folder, canary):
    return tar(folder, [*members_of(fitting(good(folder))), *members_of(fitting(good(folder)), RUN.id.upper())])


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@case("archive: a file that says it has an exabyte", import_, REFUSED)
def _exabyte(folder, canary):
    return written(folder / "runs.tar", header("number-1/result.json", 2**60) + bytes(1024))


@case("archive: a file of less than nothing", import_, REFUSED)
def _negative(folder, canary):
    return written(folder / "runs.tar", header("number-1/result.json", -512) + bytes(1024))


@case("archive: a long name that says it has a terabyte", import_, REFUSED)
def _long_name(folder, canary):
    return written(folder / "runs.tar", header("././@LongLink", 2**40, tarfile.GNUTYPE_LONGNAME) + bytes(1024))


@case("archive: extended headers within extended headers", import_, REFUSED)
def _headers(folder, canary):
    return written(
        folder / "runs.tar", (header("x", 20, tarfile.XHDTYPE) + b"20 path=number-1/x\n\0".ljust(512, b"\0")) * 5000 + bytes(1024)
    )


@case("archive: a size that is code", import_, REFUSED)
def _pax(folder, canary):
    record = f" size={code(canary)}\n"
    record = f"{len(record) + 3}{record}".encode()
    return written(
        folder / "runs.tar", header("x", len(record), tarfile.XHDTYPE) + record.ljust(512, b"\0") + header("number-1/result.json", 0)
    )


@case("archive: a sparse file of a terabyte", import_, REFUSED)
def _sparse(folder, canary):
    member = tarfile.TarInfo(f"{RUN.id}/arrays.npz")
    member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": f"{2**40},0", "GNU.sparse.size": str(2**40)}
    return tar(folder, [(member, b"")])


def with_few_files(path: Path):
    with patch.object(archive, "MOST", 1000):
        import_(path)


@case("archive: more files than an archive may have", with_few_files, REFUSED + ".*more than 1000 files")
def _count(folder, canary):
    return tar(folder, [regular(f"number-{number}/spec.json") for number in range(1001)])


@case("archive: zeros without end in xz", import_, REFUSED + ".*unpacks to more than 512 MiB", long=True)
def _xz_bomb(folder, canary):
    packer, path = lzma.LZMACompressor(preset=0), folder / "runs.tar.xz"
    with path.open("wb") as out:
        for _ in range(160):
            out.write(packer.compress(bytes(2**22)))
        out.write(packer.flush())
    return path


@case("archive: a dictionary of xz that takes four GiB", import_, REFUSED)
def _xz_memory(folder, canary):
    packed = bytearray(lzma.compress(bytes(1000), preset=0))
    assert packed[14] == 0x21  # the filter's id, its size, and how large the dictionary is
    packed[16] = 40
    packed[12 + 8 : 12 + 12] = struct.pack("<I", zlib.crc32(bytes(packed[12:20])))
    return written(folder / "runs.tar.xz", bytes(packed))


# ------------------------------------------------------------------------------------------------ edited, and made to fit


def npz(**arrays) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def lying_npz(shape: str) -> bytes:
    told = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        out.writestr("noise.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(told)) + told.encode())
    return packed.getvalue()


def swollen_npz() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("noise.npy", b"x")
        out.infolist()[0].file_size = 2**32
    return packed.getvalue()


def spec(**changes):
    """The spec.json with fields replaced, dotted names leading inwards."""

    def edit(files: dict[str, bytes], canary: Path) -> dict[str, bytes]:
        described = json.loads(files["spec.json"])
        for path, value in changes.items():
            *steps, last = path.split("__")
            place = described
            for step in steps:
                place = place[step]
            place[last] = value
        return {"spec.json": json.dumps(described, indent=1, sort_keys=True).encode() + b"\n"}

    return edit


def arrays(packed):
    return lambda files, canary: {"arrays.npz": packed() if callable(packed) else packed}


EDITS = {
    "another value in the spec": spec(fields__value=4),
    "another value as text": spec(fields__value="4"),
    "a field more that is no default": spec(fields__scale=2.0),
    "a parent in place of a number": spec(fields__value={"type": "tests.support:Number", "version": 1, "fields": {"value": 3}}),
    "another class": spec(type="tests.support:Total"),
    "a class that is a program": spec(type="os:system"),
    "a class that is gone": spec(type="vitlib.papers.gone:Run"),
    "a module that is not loaded": spec(type="antigravity:Run"),
    "an earlier version": spec(version=0),
    "no fields": spec(fields={}),
    "fields that are code": lambda files, canary: spec(fields={"value": code(canary)})(files, canary),
    "an identity of another": spec(id="number-0000000000000000"),
    "a spec nested without end": lambda files, canary: {"spec.json": b'{"id":' * 50_000},
    "a spec of a number without end": lambda files, canary: {"spec.json": b'{"id": ' + b"9" * 100_000 + b"}"},
    "arrays of objects": lambda files, canary: {"arrays.npz": npz(noise=np.array([Call(exec, code(canary))], dtype=object))},
    "arrays of ten terabytes in their head": arrays(lying_npz("(1250000000000,)")),
    "arrays of less than nothing": arrays(lying_npz("(-1,)")),
    "arrays whose head is code": arrays(lying_npz("__import__('os').system('true')")),
    "arrays that unpack to four GiB": arrays(swollen_npz),
    "arrays that are no zip": arrays(b"no zip"),
    "a result that is a list": lambda files, canary: {"result.json": b"[" * 100_000},
    "an empty history": lambda files, canary: {"history.csv": b""},
    "a history that is not text": lambda files, canary: {"history.csv": b"a,b\n\xff\xfe,1\n"},
    "no provenance": lambda files, canary: {"provenance.json": b""},
}


def edited(folder: Path, canary: Path, edit) -> dict[str, bytes]:
    files = good(folder)
    return fitting(files | edit(files, canary))


def laid(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        written(folder / "store" / RUN.id / name, content)
    return folder / "store" / RUN.id


for what, edit in EDITS.items():
    case(f"edited run in an archive: {what}", import_, rf"{REFUSED}|{RUN.id}")(
        lambda folder, canary, edit=edit: tar(folder, members_of(edited(folder, canary, edit)))
    )
    case(f"edited run in the store: {what}", read_back, RUN.id)(
        lambda folder, canary, edit=edit: laid(folder, edited(folder, canary, edit))
    )
case("edited run in the store: another file beside the others", read_back, RUN.id)(
    lambda folder, canary: laid(folder, good(folder) | {"code.py": code(canary).encode(), MANIFEST: b"{}"})
)
case("archive: no run at all", import_, HARMLESS)(lambda folder, canary: tar(folder, [], "empty.tar"))
