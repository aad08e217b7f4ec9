"""What DESIGN promises about the library's shape: one way of imports, no needless torch, small files, unique runs."""

import ast
import graphlib
import importlib
import pkgutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

import vitlib
from vitlib.spec import RunSpec

ROOT = Path(vitlib.__file__).parent
ROOMS = [  # in order of import
    "messages", "spec", "dumped", "computing", "recipe", "distributed", "inputs", "methods", "training", "deploy", "teachers", "runs",
    "grid", "papers", "studies", "compress",
]  # fmt: skip
SHOWING = ("grid", "papers", "studies", "compress")
FREE = {"durable", "paths"}  # they import nothing of vitlib, and anyone may import them
LONGEST = 320
FULLEST = 7
SOURCES = sorted(ROOT.rglob("*.py"))


def module_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """The names of vitlib that a file imports anywhere in it, inside functions and for type checkers alone too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name.split(".")[0] == "vitlib")


def room(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def forbidden(importer, name):
    """Why a module of one room may not import that name, or an empty string."""
    here, there = room(importer), room(name)
    if here == there or here in {"", "__main__"} or there in FREE:
        return ""
    if here in FREE or here == "report":
        return f"{here} imports nothing of vitlib"
    if there == "report":
        return "" if here in SHOWING else f"only {', '.join(SHOWING)} show results"
    if here not in ROOMS or there not in [*ROOMS, ""]:
        return f"no such room: {here if here not in ROOMS else there}; add it to ROOMS in this test and to the design"
    if there == "":
        return "the package itself is for notebooks"
    return "" if ROOMS.index(there) < ROOMS.index(here) else f"the order is {' < '.join(ROOMS)}"


def test_imports_between_rooms_point_one_way():
    found = [
        f"{module_of(path)} imports {name}: {why}"
        for path in SOURCES
        for name in imported(path)
        if (why := forbidden(module_of(path), name))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("importer", "name", "allowed"),
    [
        ("vitlib.inputs.data", "vitlib.recipe.Recipe", True),
        ("vitlib.recipe", "vitlib.inputs.data", False),
        ("vitlib.methods.distillation.losses", "vitlib.training.loop.train", False),
        ("vitlib.papers.deit.tables", "vitlib.report.tables", True),
        ("vitlib.training.loop", "vitlib.report.tables", False),
        ("vitlib.papers.deit.tables", "vitlib.grid.results.Results", True),
        ("vitlib.papers.deit.tables", "vitlib.studies.study", False),
        ("vitlib.grid.results", "vitlib.papers.deit", False),
        ("vitlib.studies.loading", "vitlib.papers.teachers", True),
        ("vitlib.runs.provenance", "vitlib", False),
    ],
)
def test_the_rule_of_imports_tells_right_from_wrong(importer, name, allowed):
    assert (forbidden(importer, name) == "") is allowed


MODULES = {module_of(path): path for path in SOURCES}


def imported_modules(path):
    """The modules behind those names: what a name is looked up in is not told from a submodule by the statement."""
    return {name if name in MODULES else name.rpartition(".")[0] for name in imported(path)} - {module_of(path)}


def circle_in(graph):
    """The modules of a circle of imports, in order, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: imported_modules(path) for module, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 500
    assert circle_in(graph) is None


def test_a_circle_is_seen_through_functions_and_type_checking(tmp_path):
    (one, other) = (tmp_path / name for name in ("one.py", "other.py"))
    one.write_text("def f():\n    from vitlib.other import g\n")
    other.write_text("if TYPE_CHECKING:\n    import vitlib.one\n")
    assert [list(imported(path)) for path in (one, other)] == [["vitlib.other.g"], ["vitlib.one"]]
    assert set(circle_in({"one": {"other"}, "other": {"one"}, "third": {"one"}})) == {"one", "other"}


def heavy_modules_after(*modules):
    """Which of torch and timm a fresh Python has loaded after importing these modules."""
    code = f"import sys, {', '.join(modules)}; print(*{{'torch', 'timm'}} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return ran.stdout.split()


def test_importing_vitlib_imports_neither_torch_nor_timm():
    assert heavy_modules_after("vitlib") == []


def test_report_and_the_store_are_read_without_torch():
    shown = [module_of(path) for path in SOURCES if path.parent.name == "report" and path.stem != "widgets"]
    assert heavy_modules_after("vitlib.runs.store", *shown) == []


def test_describing_runs_needs_no_torch():
    """A bad field is refused in a second, before anything heavy is loaded."""
    papers = [f"vitlib.papers.{info.name}" for info in pkgutil.iter_modules([str(ROOT / "papers")])]
    assert papers
    assert heavy_modules_after("vitlib.recipe", "vitlib.inputs.models", "vitlib.inputs.sources", *papers) == []


def test_runs_are_computed_where_nothing_of_notebooks_is_installed(tmp_path):
    absent = ["IPython", "ipywidgets", "ipykernel", "papermill", "nbformat", "nbclient", "jupyter_client", "jupyterlab"]
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({absent})); "
        f"sys.argv = ['vitlib', 'run', 'teachers', '--profile', 'smoke', '--device', 'cpu', '--executor', 'inline', "
        f"'--results-dir', {str(tmp_path)!r}]; runpy.run_module('vitlib', run_name='__main__')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert len(list(tmp_path.glob("*/manifest.json"))) == 14


def test_the_check_for_heavy_modules_sees_them():
    assert heavy_modules_after("vitlib.methods.distillation.losses") == ["torch"]


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_no_module_is_longer_than_one_idea(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST


def crowded(folder):
    return len([path for path in folder.glob("*.py") if not path.stem.startswith("__")]) > FULLEST


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES} - {ROOT}), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_no_room_holds_more_than_seven_modules(folder):
    assert not crowded(folder), "split it by idea, as methods/ is"


def test_the_count_of_modules_sees_an_eighth(tmp_path):
    for number in range(FULLEST + 1):
        assert not crowded(tmp_path)
        (tmp_path / f"module{number}.py").touch()
        (tmp_path / "__init__.py").touch()
    assert crowded(tmp_path)


def test_names_of_run_classes_are_unique():
    """A run's folder is named by its class: two classes of one name would share it."""
    for info in pkgutil.walk_packages([str(ROOT)], "vitlib."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)
    classes = [cls for cls in descendants(RunSpec) if cls.__module__.startswith("vitlib.")]
    names = [cls.__name__.lower() for cls in classes]
    assert len(names) >= 5 and sorted(names) == sorted(set(names))


def descendants(cls):
    return set(chain(cls.__subclasses__(), *(descendants(child) for child in cls.__subclasses__())))
