"""Archives written by hand: members of any kind, folders whose checksums are right, and what nobody should accept."""

import json
import tarfile

from vitlib.runs.manifest import MANIFEST, digests_of, manifest_of


def regular(name: str, content: bytes = b"{}") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def with_manifest(run_id: str, **files: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """A run folder whose checksums are right."""
    files = {name.replace("_", "."): content for name, content in files.items()}
    return [regular(f"{run_id}/{name}", content) for name, content in {**files, MANIFEST: manifest_of(digests_of(files))}.items()]


def whole(run_id: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    """A run with nothing wrong but its name."""
    return with_manifest(run_id, spec_json=json.dumps({"id": run_id}).encode())


MALICIOUS = {
    "parent folder in a name": [regular("../escaped/result.json")],
    "parent folder as the run": whole(".."),
    "the store as the run": whole("."),
    "root as the run": whole(""),
    "parent folder as the file": [regular("number-1/..")],
    "parent folder behind the run": [regular("number-1/../../escaped/result.json")],
    "absolute name": [regular("/escaped/result.json")],
    "no folder": [regular("result.json")],
    "folder in a folder": [regular("number-1/deeper/result.json")],
    "hidden run": whole(".claims"),
    "run with a backslash": whole("..\\run"),
    "unexpected file": [regular("number-1/code.py")],
    "upper case": [regular("number-1/RESULT.JSON")],
    "symbolic link": [special("number-1/result.json", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [special("number-1/result.json", tarfile.LNKTYPE, "/etc/passwd")],
    "character device": [special("number-1/result.json", tarfile.CHRTYPE)],
    "block device": [special("number-1/result.json", tarfile.BLKTYPE)],
    "fifo": [special("number-1/result.json", tarfile.FIFOTYPE)],
    "folder for a file": [special("number-1/result.json", tarfile.DIRTYPE)],
    "no manifest": [regular("number-1/spec.json", b'{"id": "number-1"}')],
    "manifest that is a list": [
        regular("number-1/spec.json", b'{"id": "number-1"}'),
        regular(f"number-1/{MANIFEST}", b"[]"),
    ],
    "spec of another run": with_manifest("number-1", spec_json=b'{"id": "number-2"}'),
    "no spec": with_manifest("number-1", result_json=b"{}"),
    "spec that is a list": with_manifest("number-1", spec_json=b"[]"),
    "spec that is not json": with_manifest("number-1", spec_json=b"\xff"),
}
