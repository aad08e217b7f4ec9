"""The command without its extra."""

import sys

from vitlib.__main__ import main
from vitlib.studies.crate import writing


def test_it_says_in_a_line_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(writing, "find_spec", lambda name: None if name == "rocrate" else sys)
    assert main(["crate", "--out", str(tmp_path / "crate")]) == 2
    assert capsys.readouterr().err == "refused: crate: rocrate not installed; allowed: after pip install 'vitlib[crate]'\n"
    assert not (tmp_path / "crate").exists()
