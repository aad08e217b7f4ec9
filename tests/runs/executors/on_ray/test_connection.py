"""The way to a cluster, as far as it goes without one: what is refused in a line, and who can read the token."""

import stat
import sys

import pytest

from tests.support import Number, computed
from vitlib.runs.execute import execute
from vitlib.runs.executors.on_ray import connection
from vitlib.spec import SpecError


def test_without_the_extra_a_line_says_what_to_install_before_anything_is_computed(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpecError, match=r"^executor: got 'ray', and the package ray is not installed here; .* pip install -e '\.\[ray\]'"):
        execute([Number(value=1)], place, executor="ray")
    assert computed(place) == []


def test_what_is_stored_needs_no_ray(place, monkeypatch):
    execute([Number(value=1)], place)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert len(execute([Number(value=1)], place, executor="ray")) == 1


def test_a_token_is_left_where_ray_looks_and_nobody_else_reads_it(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    connection._leave_token()
    token = tmp_path / ".ray" / "auth_token"
    first = token.read_text()
    assert len(first) == 64 and stat.S_IMODE(token.stat().st_mode) == 0o600
    token.chmod(0o644)
    connection._leave_token()
    assert token.read_text() == first and stat.S_IMODE(token.stat().st_mode) == 0o600


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_TOKEN", "abc"), ("RAY_AUTH_TOKEN_PATH", "/a/file"), ("RAY_AUTH_MODE", "disabled")])
def test_a_token_of_the_persons_own_or_none_is_left_to_them(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, value)
    connection._leave_token()
    assert list(tmp_path.iterdir()) == []
