"""Licences, advisories and the bill of materials: the page is current, and an audit that did not happen does not pass for one."""

import json
import re
from importlib.metadata import distributions
from importlib.util import find_spec

import pytest
from packaging.utils import canonicalize_name

from docs.audit import advisories, bill, licences
from docs.audit.__main__ import main
from docs.audit.locked import packages
from tests.support import ROOT

PAGE = licences.PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_package_of_the_lock_with_its_versions_and_no_other():
    found = re.findall(r"^\| `([\w.-]+)` \| ([\d.\w+!, -]*) \| [^|]* \|$", PAGE.partition("## Packages")[2], re.MULTILINE)
    assert {name: versions.split(", ") for name, versions in found} == packages()


def test_a_licence_is_what_the_installed_package_says_of_itself():
    """Where it is installed in a version of the lock; another may be under another licence."""
    page = licences.rows(PAGE)
    here = {canonicalize_name(each.metadata["Name"]): each.version for each in distributions()}
    at_the_lock = [name for name, version in here.items() if version in packages().get(name, ())]
    assert {name: (licences.licence(name), page[name]) for name in at_the_lock if licences.licence(name) != page[name]} == {}
    assert len(at_the_lock) > 30
    assert page["numpy"].startswith("BSD-3-Clause") and page["timm"] == "Apache-2.0" and "BSD-3-Clause" in page["torch"]


def test_no_licence_is_unknown_and_none_forbids_what_is_done_with_the_packages():
    """Copyleft that reaches whoever imports a package: GPL and AGPL; LGPL and MPL end at the package's own files."""
    page = licences.rows(PAGE)
    assert [name for name, said in page.items() if said == licences.UNKNOWN] == []
    assert [name for name, said in page.items() if re.search(r"(?<!L)GPL", said)] == []
    assert all("nvidia" in name or "cu" in name for name, said in page.items() if "NVIDIA" in said or said == licences.SILENT)


def test_every_file_of_the_checkout_has_an_origin_and_every_origin_has_files():
    files = [path for path in licences.tracked() if (ROOT / path).exists()]
    used = {licences.origin(path)["path"] for path in files}
    assert used == {entry["path"] for entry in licences.origins()}
    lines = [f"| `{entry['path']}` | {entry['SPDX-License-Identifier']} | {entry['SPDX-FileComment']} |" for entry in licences.origins()]
    assert [line for line in lines if line not in PAGE] == []


def test_files_that_a_machine_made_or_others_wrote_are_not_left_to_the_general_line():
    assert "CIFAR-10" in licences.origin("vitlib/teachers/weights/dino.safetensors")["SPDX-FileComment"]
    assert licences.origin("tests/oracles/rkd.npz")["path"] == "tests/oracles/*.npz"
    made = [path for path in licences.tracked() if path.endswith((".safetensors", ".npz", ".png", ".pdf", ".xz", ".ttf", ".woff2", ".so"))]
    places = {"vitlib/teachers/weights/**", "figures/**", "benchmarks/*.png", "tests/oracles/*.npz"}
    assert made and {licences.origin(path)["path"] for path in made} <= places


def answer(**dependencies):
    return {"dependencies": [{"name": name, **what} for name, what in dependencies.items()], "fixes": []}


HARM = {"version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
FINE = {"version": "1", "vulns": []}
SKIPPED = {"skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        ({"pypi": answer(a=FINE)}, 0, "1 of 1 packages asked about"),
        ({"pypi": answer(a=FINE, b=HARM)}, 1, "b 1: PYSEC-1; mended in 2"),
        ({"pypi": answer(a=FINE, b=SKIPPED)}, 3, "NOT AUDITED: b"),
        ({"pypi": answer(a=SKIPPED), "osv": answer(a=FINE)}, 0, "OSV, the Open Source"),
        ({"pypi": answer(a=SKIPPED)}, 3, "no database of advisories was reached"),
        ({}, 3, "no database of advisories was reached"),
    ],
)
def test_what_nobody_could_be_asked_about_does_not_count_as_audited(answers, status, said, capsys):
    assert advisories.report(answers.get) == status
    assert said in capsys.readouterr().out


def test_without_a_network_nothing_is_audited_and_the_command_says_so(capsys):
    if find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed")
    assert main("advisories") == 3 and "NOT AUDITED" in capsys.readouterr().out


def test_the_bill_of_materials_is_the_lock_and_the_same_bytes_every_time(tmp_path):
    if find_spec("cyclonedx_py") is None:
        pytest.skip("cyclonedx-bom is not installed")
    assert bill.write(tmp_path / "one.json") == sum(map(len, packages().values())) == bill.write(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    made = json.loads((tmp_path / "one.json").read_bytes())
    assert made["bomFormat"] == "CycloneDX" and made["metadata"]["component"]["name"] == "vitlib"
    named = {(each["name"], each["version"]) for each in made["components"]}
    assert named == {(name, version) for name, versions in packages().items() for version in versions}
    assert all(each["licenses"] and each["externalReferences"][0]["hashes"] for each in made["components"])


def test_another_word_is_refused(capsys):
    assert main("everything") == 2 and "allowed: advisories, licences, bill" in capsys.readouterr().err
