"""Parameters that are wrong, or that would be code where someone ran them: 300 from a table and 500 generated, all refused in time.

They come as papermill's parameters, as JSON overrides, as TOML files and as command lines. Settings that are only wrong are the business of
`tests/house/test_bad_inputs.py` and `test_generated_settings.py`.
"""

import ast
import itertools
import math
import time
import tomllib

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from papermill.translators import PythonTranslator

from tests.faults.malice.watch import Watch, watched
from tests.support import ROOT
from vitlib.__main__ import main
from vitlib.grid.changes import read_overrides, read_settings
from vitlib.runs.manifest import StoreError
from vitlib.spec import SpecError
from vitlib.studies.headless import batch
from vitlib.studies.loading import load_study

SECONDS = 2.0  # of processor time
SOURCE = ROOT / "notebooks" / "deit.ipynb"
CODE = [
    "__import__('os').system('touch {canary}')",
    "open('{canary}', 'w')",
    "'; open('{canary}', 'w'); '",
    '"; open("{canary}", "w"); "',
    '"""\nopen("{canary}", "w")\n"""',
    "x = 1\nopen('{canary}', 'w')",
    "{{open('{canary}', 'w')}}",
    "${{open('{canary}', 'w')}}",
    "$(touch {canary})",
    "`touch {canary}`",
    "!touch {canary}",
    "%system touch {canary}",
    "!!python/object/apply:os.system ['touch {canary}']",
    "\\'; open('{canary}', 'w') #",
    "lambda: open('{canary}', 'w')",
]
PARAMETERS = ["profile", "executor", "mode"]
SETTINGS = [
    "teacher",
    "recipe.optimizer",
    "recipe.lr",
    "recipe.epochs",
    "seeds",
    "data.source",
    "data",
    "students.tiny.depth",
    "strategies",
]


def nested(path: str, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def notebook(parameters):
    return batch.described(SOURCE, parameters)


def study(given):
    return load_study("deit", "smoke", overrides=given, device="cpu")


def tabled(canary, folder):
    """(what, call) for each of 300 and more: code as the name and as the value of everything that can be given."""
    texts = [text.format(canary=canary) for text in CODE]
    for text in texts:
        yield f"parameter of the name {text}", lambda text=text: notebook({text: 1})
        yield f"parameter of the name profile {text}", lambda text=text: notebook({f"profile {text}": "smoke"})
        yield f"overrides {text}", lambda text=text: notebook({"overrides": text})
        yield f"name of a setting {text}", lambda text=text: study({text: 1})
        yield f"name of an inner setting {text}", lambda text=text: study({"recipe": {text: 1}})
        yield f"JSON {text}", lambda text=text: read_overrides(text)
        yield f"TOML {text}", lambda text=text: read_settings(placed(folder, text))
        yield f"paper {text}", lambda text=text: load_study(text, "smoke")
    for text, name in itertools.product(texts, PARAMETERS):
        yield f"parameter {name} {text}", lambda text=text, name=name: notebook({name: text})
    for text, path in itertools.product(texts, SETTINGS):
        yield f"setting {path} {text}", lambda text=text, path=path: study(nested(path, text))
    for name, value in itertools.product([*PARAMETERS, "results_dir", "figures_dir", "data_dir"], [1, None, [], {}, True, math.nan]):
        yield f"parameter {name} of another type {value!r}", lambda name=name, value=value: notebook({name: value})


def placed(folder, text: str):
    (folder / "settings.toml").write_text(text, encoding="utf-8")
    return folder / "settings.toml"


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """`refused(call)`: refused in time, in a few lines; no kernel is started."""
    for name in ("RESULTS", "FIGURES", "DATA"):
        monkeypatch.setenv(f"VITLIB_{name}", str(tmp_path / name.lower()))
    monkeypatch.setattr(batch, "_executed", lambda *_: pytest.fail("a kernel was started"))
    study({})  # imports what is imported once

    def refused(call) -> str:
        begun = time.process_time()
        with pytest.raises((SpecError, StoreError, tomllib.TOMLDecodeError)) as error:
            call()
        assert time.process_time() - begun < SECONDS
        assert len(str(error.value)) < 5000
        return str(error.value)

    return refused


def test_three_hundred_parameters_that_are_code_are_refused_and_not_run(refused, tmp_path):
    count, wrong = 0, []
    with watched(Watch(tmp_path.resolve(), tmp_path.parent / "canary")):
        for what, call in tabled(tmp_path.parent / "canary", tmp_path):
            count += 1
            try:
                refused(call)
            except (Exception, pytest.fail.Exception) as error:
                wrong.append(f"{what}: {type(error).__name__} {error}"[:300])
    assert wrong == []
    assert count >= 300


# ------------------------------------------------------------------------------------------------ generated

texts = st.one_of(st.text(max_size=40), st.sampled_from([text.format(canary="canary") for text in CODE]))
values = st.recursive(
    st.one_of(
        texts,
        st.integers(),
        st.floats(),
        st.none(),
        st.booleans(),
        st.sampled_from([10**400, "x" * 10**5, b"x", {1}, object, print, range(3), 1j]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.one_of(texts, st.integers()), inner, max_size=3),
    max_leaves=5,
)
KNOWN = set(batch.default_parameters(SOURCE))


@settings(max_examples=250, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(texts.filter(lambda name: name not in KNOWN), values, min_size=1, max_size=2))
def test_generated_names_of_parameters_and_settings_are_refused(refused, tmp_path, given):
    with watched(Watch(tmp_path.resolve(), tmp_path.parent / "canary")):
        assert "unknown parameter" in refused(lambda: notebook(given))
        refused(lambda: study({f"{name}?": value for name, value in given.items()}))


@settings(max_examples=250, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(PARAMETERS),
    values.filter(lambda value: not isinstance(value, str) or value not in {"smoke", "quick", "inline", "local", "cached"}),
)
def test_generated_values_of_parameters_are_refused(refused, tmp_path, name, value):
    with watched(Watch(tmp_path.resolve(), tmp_path.parent / "canary")):
        refused(lambda: notebook({name: value}))


@pytest.mark.faults
@settings(max_examples=2000, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_two_thousand_more_are_refused(refused, tmp_path, data):
    name, value = data.draw(st.sampled_from(PARAMETERS)), data.draw(values.filter(lambda value: not isinstance(value, str)))
    with watched(Watch(tmp_path.resolve(), tmp_path.parent / "canary")):
        refused(lambda: notebook({name: value}))


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60),
    st.dictionaries(st.text(max_size=20), st.integers() | st.text(max_size=20), max_size=3),
)
def test_what_is_accepted_as_text_is_written_into_a_notebook_as_a_literal(place, changes):
    """A folder may be called `'; x`: what papermill writes for it reads back as that text, and is nothing but assignments of literals."""
    written = PythonTranslator.codify({"results_dir": place, "overrides": changes})
    found = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(written).body}
    assert found == {"results_dir": place, "overrides": changes}


@pytest.mark.parametrize("flag", ["--profile", "--executor", "--mode", "--device", "--budget", "--overrides", "--from"])
@pytest.mark.parametrize("text", CODE)
def test_code_on_the_command_line_is_refused_and_not_run(flag, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    canary = tmp_path.parent / "canary"
    with watched(Watch(tmp_path.resolve(), canary)):
        try:
            status = main(
                ["run", "deit", "--profile", "smoke", f"{flag}={text.format(canary=canary)}", "--results-dir", str(tmp_path / "r")]
            )
        except SystemExit as left:
            status = left.code
    assert status == 2
    assert "Traceback" not in capsys.readouterr().err
