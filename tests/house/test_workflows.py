"""What a forge runs for us: pinned actions, no rights but reading, an end to every job, and commands that exist."""

import json
import re

import pytest
import yaml

from tests.support import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([\w./-]+):(?!=)", MAKEFILE, re.MULTILINE))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request):
    return yaml.safe_load(request.param.read_text(encoding="utf-8"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def commands():
    """Everything that workflows and the container run."""
    lines = [step["run"] for path in WORKFLOWS for step in steps(yaml.safe_load(path.read_text(encoding="utf-8"))) if "run" in step]
    return [*lines, container()["postCreateCommand"]]


def container():
    return json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it(path):
    used = re.findall(r"^\s*(?:- )?uses: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used), used


def test_one_action_has_one_commit_in_all_workflows():
    used = {
        tuple(re.findall(r"uses: (\S+)@(\S+)", line)[0])
        for path in WORKFLOWS
        for line in path.read_text().splitlines()
        if "uses: a" in line
    }
    assert len({name for name, _ in used}) == len(used) >= 3


def test_nothing_may_be_written_and_no_credentials_stay_behind(workflow):
    assert workflow["permissions"] == {}
    assert all(job["permissions"] == {"contents": "read"} for job in workflow["jobs"].values())
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_job_ends(workflow):
    assert all(0 < job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


def test_nothing_given_from_outside_stands_inside_a_command(workflow):
    assert not any("${{" in step.get("run", "") for step in steps(workflow))


def test_every_target_and_module_that_is_run_exists():
    text = "\n".join(commands())
    wanted = set(re.findall(r"\bmake ([\w./-]+)", text))
    assert {"test", "lint", ".venv/.ready"} <= wanted <= TARGETS
    for module in re.findall(r"-p (tests\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    assert set(re.findall(r"tests/[\w/.]+", text)) <= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").iterdir()}


def test_the_notebooks_of_a_fork_are_compared_as_ours_are():
    """The options of nbval are those of `make test`."""
    (fork,) = [command for command in commands() if "--nbval " in command]
    for option in re.findall(r"--nbval[\w-]*(?: \d+| [\w/.]+)?", MAKEFILE):
        assert option in " ".join(fork.replace("\\\n", " ").split()), option


def test_the_container_has_a_python_that_the_package_allows():
    name, version = re.fullmatch(r"(python):(\d+\.\d+)\.\d+-bookworm(?:@sha256:[0-9a-f]{64})?", container()["image"]).groups()
    assert (name, tuple(map(int, version.split("."))) >= (3, 11)) == ("python", True)
