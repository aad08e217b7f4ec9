"""The front door from a shell."""

import sys

import pandas as pd
import pytest
import timm
from safetensors.torch import save_file

from tests.compress.conftest import SIZES, network
from vitlib.__main__ import main


@pytest.fixture
def file(pruned, tmp_path):
    """A file that was saved here, which says its own architecture."""
    return pruned.save(tmp_path / "mine.safetensors")


def test_a_file_and_a_folder_become_a_model_a_summary_and_a_figure(file, photos, places, tmp_path, capsys):
    given = ["--model", str(file), "--data", str(photos), "--results-dir", str(places["results_dir"]), "--device", "cpu"]
    given += ["--out", str(tmp_path / "out"), "--sparsity", "0.5", "--epochs", "1", "--set", "batch_size=6", "--onnx", "--int8"]
    assert main(["compress", "afr", *given]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.safetensors", "model.npz", "model.onnx", "model.int8.onnx",
        "summary.csv", "summary.md", "figure.png", "figure.pdf", "figure.csv",
    }  # fmt: skip
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert list(summary["model"]) == ["before", "afr 50 %"]
    assert summary["ONNX largest |Δlogit|"].iloc[-1] < 1e-4 and summary["int8 top-1 %"].notna().tolist() == [False, True]
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **SIZES, checkpoint_path=str(tmp_path / "out" / "model.safetensors"))
    assert len(model.blocks) == 4
    said = capsys.readouterr().out
    assert "timm.create_model(" in said and said.count("onnxruntime.InferenceSession(") == 2


def test_a_machine_without_the_extra_is_told_before_anything_is_computed(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    given = ["--model", "vit_tiny_patch16_224", "--data", str(photos), "--results-dir", str(tmp_path / "results")]
    assert main(["compress", "afr", *given, "--out", str(tmp_path / "out"), "--onnx"]) == 2
    assert capsys.readouterr().err == "refused: onnx: onnx not installed; allowed: after pip install 'vitlib[deploy]'\n"
    assert not (tmp_path / "results").exists()


def test_a_bad_call_is_refused_with_status_2(photos, tmp_path, capsys):
    save_file(network().state_dict(), tmp_path / "mine.safetensors")
    given = ["--model", str(tmp_path / "mine.safetensors"), "--data", str(photos), "--results-dir", str(tmp_path / "results")]
    assert main(["compress", "wecolora", *given, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "refused: model: mine.safetensors does not say which network its weights are of; allowed: with "
        "architecture='vit_small_patch16_224', or another name that timm has for it\n"
    )


@pytest.mark.parametrize("method", ["afr", "wecolora", "deit", "one-teacher", "two-teachers", "multi"])
def test_help_has_an_example_and_says_what_is_written(method, capsys):
    with pytest.raises(SystemExit):
        main(["compress", method, "--help"])
    said = capsys.readouterr().out
    assert "example:" in said and "model.safetensors" in said
