"""Artefacts as an RO-Crate 1.1 that keeps to the Process Run Crate profile 0.5: one action a notebook. By the library `rocrate`."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlib.runs.manifest import StoreError
from vitlib.runs.store import require_writable
from vitlib.spec import SpecError
from vitlib.studies.crate.contents import Artefacts, described, digest, parameters, title

if TYPE_CHECKING:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.model.file import File
    from rocrate.rocrate import ROCrate

METADATA = "ro-crate-metadata.json"
PROFILE = {"@id": "https://w3id.org/ro/wfrun/process/0.5", "name": "Process Run Crate", "version": "0.5"}
LICENCES = "https://spdx.org/licenses/"
STATUS = {"done": "CompletedActionStatus", "failed": "FailedActionStatus", "unfinished": "PotentialActionStatus"}
NEEDED = ("rocrate", "yaml")


def require_library() -> None:
    """Refuse in a line where the extra is not installed.

    Raises:
        SpecError: naming what installs it.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise SpecError(f"crate: {', '.join(missing)} not installed; allowed: after pip install 'vitlib[crate]'")


def write(folders: list[Artefacts], citation: dict[str, Any], profile: str, out: Path) -> ROCrate:
    """Copy the artefacts to `out` and say in `ro-crate-metadata.json` what they are; a crate that lies there is replaced.

    Raises:
        StoreError: for a folder that cannot be written, or that holds something else.
    """
    from rocrate.rocrate import ROCrate

    _clear(out)
    crate = ROCrate(version="1.1")
    library = _about(crate, citation, folders, profile)
    for artefacts in folders:
        files = [_file(crate, path, f"{artefacts.document}/{path.name}", artefacts.document) for path in artefacts.files]
        if artefacts.receipt:
            crate.root_dataset.append_to("mentions", _action(crate, artefacts, files, library))
    crate.write(out)
    return crate


def _clear(out: Path) -> None:
    """Take away the files that an earlier crate lists."""
    require_writable("out", out, "choose a folder you may write to")
    listing = out / METADATA
    if not out.exists() or not any(out.iterdir()):
        return
    if not listing.is_file():
        raise StoreError(f"out: {out} holds other files; allowed: a new folder, an empty one, or an earlier crate")
    try:
        listed = [entity["@id"] for entity in json.loads(listing.read_bytes())["@graph"] if "File" in entity["@type"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StoreError(f"out: {listing} cannot be read; allowed: a new folder, an empty one, or an earlier crate") from None
    inside = out.resolve()
    for path in [(out / name).resolve() for name in listed]:
        if path.is_relative_to(inside):
            path.unlink(missing_ok=True)


def _about(crate: ROCrate, citation: dict[str, Any], folders: list[Artefacts], profile: str) -> ContextEntity:
    """The crate as a whole; returns the library, which the notebooks are part of."""
    authors = [_author(crate, author) for author in citation["authors"]]
    authors = authors[0] if len(authors) == 1 else authors
    licence = _entity(crate, f"{LICENCES}{citation['license']}", "CreativeWork", name=citation["license"])
    crate.name = f"{citation['title']}: artefacts at profile {profile}"
    crate.description = f"Tables, figures, executed notebooks and stored runs of {', '.join(title(each.document) for each in folders)}."
    crate.root_dataset["datePublished"] = str(citation["date-released"])
    crate.root_dataset["author"] = authors
    crate.root_dataset["conformsTo"] = _entity(crate, PROFILE["@id"], "CreativeWork", name=PROFILE["name"], version=PROFILE["version"])
    crate.license, crate.keywords = licence, citation["keywords"]
    return _entity(
        crate, "#vitlib", "SoftwareApplication", name="vitlib", softwareVersion=citation["version"], author=authors, license=licence
    )


def _author(crate: ROCrate, author: dict[str, str]) -> ContextEntity:
    if "name" in author:
        return _entity(crate, f"#{_slug(author['name'])}", "Organization", name=author["name"])
    name = f"{author['given-names']} {author['family-names']}"
    properties = {"givenName": author["given-names"], "familyName": author["family-names"]}
    return _entity(crate, author.get("orcid", f"#{_slug(name)}"), "Person", name=name, **properties)


def _action(crate: ROCrate, artefacts: Artefacts, files: list[File], library: ContextEntity) -> ContextEntity:
    """The execution of a notebook: by what, with what, into what, and how it ended."""
    receipt = artefacts.receipt
    given = parameters(artefacts)
    objects = [_entity(crate, f"#{artefacts.document}-{name}", "PropertyValue", name=name, value=value) for name, value in given.items()]
    said = ", ".join(f"{name}={value}" for name, value in given.items())
    properties = {
        "name": f"{receipt['notebook']} executed with {said or 'its own parameters'}",
        "description": f"papermill executed the notebook at commit {receipt['commit']} of vitlib, in {receipt['seconds']} seconds.",
        "actionStatus": f"http://schema.org/{STATUS.get(receipt['status'], STATUS['failed'])}",
    }
    properties |= {name: receipt[key] for name, key in (("error", "error"), ("endTime", "ended")) if receipt.get(key)}
    return crate.add_action(_notebook(crate, artefacts, library), f"#run-{artefacts.document}", objects, files, properties)


def _notebook(crate: ROCrate, artefacts: Artefacts, library: ContextEntity) -> File | ContextEntity:
    """The source that was executed: the file itself, or its checksum and commit where the file has changed since."""
    receipt = artefacts.receipt
    name = f"notebooks/{receipt['notebook']}"
    about = {"name": receipt["notebook"], "version": receipt["commit"], "isPartOf": library, "sha256": receipt["source_sha256"]}
    about |= {"programmingLanguage": "Python"}
    if artefacts.source is None:
        return _entity(crate, f"#{name}@{receipt['commit']}", "SoftwareSourceCode", **about)
    file = crate.add_file(artefacts.source, name, properties={"@type": ["File", "SoftwareSourceCode"]})
    told = described(artefacts.source, artefacts.document) | {"description": "the notebook as it was executed, without outputs"}
    for key, value in (told | about).items():
        file[key] = value
    return file


def _file(crate: ROCrate, path: Path, name: str, document: str) -> File:
    return crate.add_file(path, name, properties=described(path, document))


def _entity(crate: ROCrate, identifier: str, kind: str, **properties: Any) -> ContextEntity:
    from rocrate.model.contextentity import ContextEntity

    entity = crate.add(ContextEntity(crate, identifier, properties={"@type": kind}))
    for name, value in properties.items():
        entity[name] = value
    return entity


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def broken(out: Path) -> list[str]:
    """Files of a written crate that are missing or differ from their checksum."""
    entities = json.loads((out / METADATA).read_bytes())["@graph"]
    named = {entity["@id"]: entity["sha256"] for entity in entities if "sha256" in entity and not entity["@id"].startswith("#")}
    return [name for name, sha in named.items() if not (out / name).is_file() or digest(out / name) != sha]
