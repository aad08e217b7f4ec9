"""The fingerprint of code: it follows what is imported, wherever that stands, and does not see how code is written down."""

import pytest

from vitlib.runs import provenance

PLACES = [
    "{}",
    "def f():\n    {}",
    "class C:\n    def f(self):\n        {}",
    "try:\n    a = 1\nexcept ValueError:\n    {}",
    "try:\n    a = 1\nfinally:\n    {}",
    "if a:\n    b = 1\nelif c:\n    b = 2\nelse:\n    {}",
    "for a in b:\n    c = a\nelse:\n    {}",
    "match a:\n    case 1:\n        with b:\n            {}",
]


@pytest.fixture
def code_of(tmp_path, monkeypatch):
    """What is read of a module `vitlib.one` of that source, beside a module `vitlib.two`."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    (tmp_path / "__init__.py").touch()
    (tmp_path / "two.py").write_text("x = 1\n")

    def read(source):
        (tmp_path / "one.py").write_text(source)
        provenance._read.cache_clear()
        provenance._source.cache_clear()
        return provenance._read("vitlib.one")

    yield read
    provenance._read.cache_clear()
    provenance._source.cache_clear()


@pytest.mark.parametrize("place", PLACES)
def test_an_import_is_followed_wherever_it_stands(place, code_of):
    assert set(code_of(place.format("from vitlib.two import x"))[0]) == {"vitlib.two"}
    assert set(code_of(place.format("from vitlib import two"))[0]) == {"vitlib.two"}


@pytest.mark.parametrize("place", PLACES[:3])
def test_comments_docstrings_and_layout_are_left_out_and_nothing_else(place, code_of):
    plain = code_of(place.format("a = f(1, *b)"))[1]
    assert code_of("# a comment\n\n" + place.format("a = f(\n1,\n*b)  # another"))[1] == plain
    for other in ("a = f(2, *b)", "a = f(1, b)", "a = g(1, *b)", "b = f(1, *b)", "a += f(1, *b)"):
        assert code_of(place.format(other))[1] != plain
    one, two = (code_of(place.format(f'"""{words}"""'))[1] for words in ("It says this.", "And that."))
    assert one == two
