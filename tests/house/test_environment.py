"""pyproject.toml, environment.yml and requirements.lock name the same packages."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}
CONDA_ONLY = {"python", "make", "pip"}


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["dev"]])
    return {requirement.name: requirement for requirement in requirements}


def conda() -> dict[str, Requirement]:
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    requirements = map(Requirement, [line for line in lines if isinstance(line, str)])
    return {CONDA_NAMES.get(requirement.name, requirement.name): requirement for requirement in requirements}


def locked() -> dict[str, list[str]]:
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.+!-]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE):
        versions.setdefault(canonicalize_name(name), []).append(version)
    return versions


def test_conda_and_pip_get_the_same_packages_in_the_same_ranges():
    pip_ranges = {name: str(requirement.specifier) for name, requirement in declared().items()}
    conda_ranges = {name: str(requirement.specifier) for name, requirement in conda().items() if name not in CONDA_ONLY}
    assert conda_ranges == pip_ranges


def test_the_lock_holds_every_package_inside_its_range():
    versions = locked()
    for name, requirement in declared().items():
        assert canonicalize_name(name) in versions, name
        for version in versions[canonicalize_name(name)]:
            assert requirement.specifier.contains(version), (name, version)


def test_every_locked_package_has_hashes_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert text.count("--hash=sha256:") >= sum(map(len, locked().values()))
    assert "://" not in text


@pytest.mark.parametrize("extra", ["hub", "deploy"])
def test_those_who_develop_have_what_an_extra_adds(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(project[extra]) <= set(project["dev"])


def test_every_package_that_the_user_asked_for_is_declared():
    assert {"torch", "timm", "jupyterlab", "papermill", "matplotlib", "seaborn", "ipywidgets", "nbval"} <= declared().keys()
