"""`python -m vitlib crate`: what a folder of artefacts says of how it was made, read back by the library and by hand."""

import hashlib
import json

import pytest

from tests.support import ROOT
from vitlib.__main__ import main

pytest.importorskip("rocrate", reason="vitlib[crate] is not installed")

SOURCE = ROOT / "notebooks" / "deit.ipynb"
RECEIPT = {
    "notebook": "deit.ipynb",
    "status": "done",
    "seconds": 1.5,
    "commit": "abc1234",
    "source_sha256": hashlib.sha256(SOURCE.read_bytes()).hexdigest(),
    "parameters": {"profile": "quick", "overrides": {"seeds": [0]}},
    "error": "",
    "ended": "2026-11-28T12:00:00+00:00",
}


def artefacts(folder, **receipt):
    """A document's folder with a figure, a table and a receipt."""
    own = folder / "deit" / "quick"
    own.mkdir(parents=True)
    (own / "figure_epochs.png").write_bytes(b"a picture")
    (own / "table_strategies.csv").write_text("a,b\n1,2\n")
    (own / "receipt.json").write_text(json.dumps(RECEIPT | receipt))
    return folder


def entities(out):
    graph = json.loads((out / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    return {entity["@id"]: entity for entity in graph}


def written(tmp_path, *more, **receipt):
    out = tmp_path / "crate"
    assert main(["crate", "--figures-dir", str(artefacts(tmp_path / "figures", **receipt)), "--out", str(out), *more]) == 0
    return entities(out)


def test_an_action_says_which_notebook_made_which_files_with_what(tmp_path):
    found = written(tmp_path)
    action = found["#run-deit"]
    assert action["@type"] == "CreateAction" and action["actionStatus"].endswith("/CompletedActionStatus")
    assert action["instrument"] == {"@id": "notebooks/deit.ipynb"} and action["endTime"] == RECEIPT["ended"]
    assert {link["@id"] for link in action["result"]} == {f"deit/{name}" for name in FILES}
    given = {found[link["@id"]]["name"]: found[link["@id"]]["value"] for link in action["object"]}
    assert given == {"profile": "quick", "overrides": '{"seeds": [0]}'}
    assert found["./"]["mentions"] == {"@id": "#run-deit"} or found["./"]["mentions"] == [{"@id": "#run-deit"}]
    assert found["notebooks/deit.ipynb"]["version"] == "abc1234"


FILES = ("figure_epochs.png", "receipt.json", "table_strategies.csv")


def test_every_file_is_there_with_its_size_checksum_and_caption(tmp_path):
    found = written(tmp_path)
    for name in FILES:
        content = (tmp_path / "crate" / "deit" / name).read_bytes()
        assert found[f"deit/{name}"]["sha256"] == hashlib.sha256(content).hexdigest()
        assert found[f"deit/{name}"]["contentSize"] == str(len(content))
    assert "Table 3" in found["deit/table_strategies.csv"]["description"]


def test_authors_licence_version_and_date_are_those_of_the_citation(tmp_path):
    found = written(tmp_path)
    root = found["./"]
    assert found[root["author"]["@id"]]["name"] == "The vitlib authors"
    assert root["license"]["@id"].endswith("/Apache-2.0") and root["datePublished"][:2] == "20"
    assert found[root["conformsTo"]["@id"]]["name"] == "Process Run Crate"
    assert f"version: {found['#vitlib']['softwareVersion']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_a_failed_notebook_is_a_failed_action_with_its_error(tmp_path):
    action = written(tmp_path, status="failed", error="ValueError: no")["#run-deit"]
    assert action["actionStatus"].endswith("/FailedActionStatus") and action["error"] == "ValueError: no"


def test_a_source_that_has_changed_since_is_named_by_its_checksum_and_not_carried(tmp_path):
    found = written(tmp_path, source_sha256="0" * 64)
    instrument = found[found["#run-deit"]["instrument"]["@id"]]
    assert instrument["sha256"] == "0" * 64 and instrument["@type"] == "SoftwareSourceCode"
    assert not (tmp_path / "crate" / "notebooks").exists()


def test_without_a_receipt_nothing_is_said_of_how_files_were_made(tmp_path, capsys):
    folder = artefacts(tmp_path / "figures")
    (folder / "deit" / "quick" / "receipt.json").unlink()
    assert main(["crate", "--figures-dir", str(folder), "--out", str(tmp_path / "crate")]) == 0
    assert "#run-deit" not in entities(tmp_path / "crate")
    assert "no receipt" in capsys.readouterr().out


def test_the_library_reads_it_back_and_every_reference_leads_somewhere(tmp_path):
    from rocrate.rocrate import ROCrate

    found = written(tmp_path)
    crate = ROCrate(tmp_path / "crate")
    assert {entity.id for entity in crate.data_entities} == {f"deit/{name}" for name in FILES} | {"notebooks/deit.ipynb"}
    links = [link["@id"] for entity in found.values() for value in entity.values() for link in as_links(value)]
    outside = {"https://w3id.org/ro/crate/1.1"}
    assert links and set(links) <= found.keys() | outside


def as_links(value):
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict) and "@id" in each]


def test_an_earlier_crate_is_replaced_and_other_folders_are_left_alone(tmp_path, capsys):
    written(tmp_path)
    figures = tmp_path / "figures"
    (figures / "deit" / "quick" / "figure_epochs.png").unlink()
    again = ["crate", "deit", "--figures-dir", str(figures), "--out"]
    assert main([*again, str(tmp_path / "crate")]) == 0
    assert not (tmp_path / "crate" / "deit" / "figure_epochs.png").exists()
    assert main([*again, str(figures)]) == 2
    assert "holds other files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["crate", "diet"], "document: got 'diet'; did you mean 'deit'?"),
        (["crate", "--profile", "quik"], "profile: got 'quik'; did you mean 'quick'?"),
    ],
)
def test_documents_and_profiles_without_artefacts_are_refused(line, said, tmp_path, capsys):
    folder = artefacts(tmp_path / "figures")
    assert main([*line, "--figures-dir", str(folder), "--out", str(tmp_path / "crate")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "crate").exists()


def test_a_receipt_that_is_cut_short_is_refused(tmp_path, capsys):
    folder = artefacts(tmp_path / "figures")
    (folder / "deit" / "quick" / "receipt.json").write_text('{"notebook": "de')
    assert main(["crate", "--figures-dir", str(folder), "--out", str(tmp_path / "crate")]) == 2
    assert "cannot be read" in capsys.readouterr().err
