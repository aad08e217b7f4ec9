"""Checkpoints in a study: taken as they come, pinned, described wrongly, absent."""

import hashlib
import logging

import pytest
import timm
import torch

from tests.inputs.checkpoints.support import drawn, prefixed
from tests.support import MICRO
from vitlib import load_study
from vitlib.inputs.checkpoints.reading import WeightsError
from vitlib.inputs.models import Timm
from vitlib.spec import SpecError
from vitlib.teachers.teacher import named


def study_of(origin, tmp_path, **settings):
    teachers = {name: {"origin": origin} for name in ("supervised", "dino")}
    places = {"data_dir": str(tmp_path), "results_dir": str(tmp_path / "results"), "device": "cpu"}
    return load_study("afr_pruning", "smoke", overrides={"teachers": teachers} | settings, **places)


FIELDS = {"file": "mine.pth", "model": MICRO.model_dump(), "image_size": 8, "mean": [0.3] * 3, "std": [0.4] * 3}


def test_a_study_starts_from_a_checkpoint_wrapped_as_it_comes(tmp_path, caplog):
    torch.save({"epoch": 3, "model_state_dict": prefixed("module.", drawn(channels=3).state_dict())}, tmp_path / "mine.pth")
    with caplog.at_level(logging.WARNING, logger="vitlib"):
        study = study_of(FIELDS, tmp_path)
    assert set(caplog.messages) == {"teacher.origin.file mine.pth: took 'model_state_dict'; without prefix 'module.'"}
    spec = study.cells[0].spec
    assert spec.teacher.origin.sha256 == hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()


def test_a_study_with_a_bad_checkpoint_is_refused_before_anything_is_computed_or_written(tmp_path):
    torch.save({"model": {"wrong.weight": torch.ones(3)}}, tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=r"mine\.pth: does not fit the model: 30 of 32 parameters are missing .* 1 are unknown"):
        study_of(FIELDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.pth"]


def test_stored_results_are_shown_where_the_checkpoint_is_absent_but_pinned(tmp_path):
    study = study_of(FIELDS | {"sha256": "0" * 64}, tmp_path)
    assert study.status()["state"].unique().tolist() == ["missing"]
    with pytest.raises(WeightsError, match="no such file; put the file there"):
        study_of(FIELDS, tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        study.execute()


def test_a_pinned_checkpoint_that_has_changed_is_refused_when_the_study_is_loaded(tmp_path):
    torch.save(drawn(channels=3).state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="expected 000000000000: the file was changed or damaged"):
        study_of(FIELDS | {"sha256": "0" * 64}, tmp_path)


def test_a_model_of_timm_may_be_text_and_brings_its_image_size_and_normalisation(tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), tmp_path / "mine.pth")
    sets = {"generic": {"digits": {"image_size": 16}}, "fine": {"few": {"image_size": 16}}}  # its patches have 16 px
    origin = study_of({"file": "mine.pth", "model": "test_vit"}, tmp_path, **sets).settings.teachers["dino"].origin
    assert origin.model == Timm(name="test_vit")
    assert (origin.image_size, origin.mean, origin.std) == (160, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    given = study_of({"file": "mine.pth", "model": {"name": "test_vit.r160_in1k"}, "mean": [0.1, 0.2, 0.3]}, tmp_path, **sets)
    assert given.settings.teachers["dino"].origin.mean == (0.1, 0.2, 0.3)
    run = {"model": {"name": "test_vit.r160_in1k"}, "data": {"source": "digits", "image_size": 8}}
    assert named(run) == run, "a pretraining run keeps its fields"
    untrained = study_of({"model": "test_vit", "image_size": 64}, tmp_path, **sets).settings.teachers["dino"].origin
    assert (type(untrained).__name__, untrained.image_size) == ("Untrained", 64)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"file": "mine.pth", "model": "test_vitt"}, "model.name: got 'test_vitt'; did you mean 'test_vit'?"),
        ({"file": "mine.pth", "model": {"name": "test_vit.nope"}}, "model.name: got 'test_vit.nope'"),
        (FIELDS | {"model": 3}, "teachers.dino.origin.model: got 3; Input should be an object"),
        (FIELDS | {"model": FIELDS["model"] | {"dpth": 3}}, "teachers.dino.origin.model.dpth: unknown field; did you mean 'depth'?"),
        (FIELDS | {"model": FIELDS["model"] | {"num_heads": 3}}, "teachers.dino.origin.model: num_heads=3 does not divide embed_dim=8"),
        (
            FIELDS | {"model": {"name": "test_vit.r160_in1k", "pretrained": True}},
            "teachers.dino.origin.model: pretrained = true beside a file",
        ),
        (FIELDS | {"file": "mine.onnx"}, "teachers.dino.origin.file: got 'mine.onnx'; allowed: a path below data_dir that ends in .saf"),
        ({"file": "mine.onnx", "model": "test_vit"}, "teachers.dino.origin.file: got 'mine.onnx'; allowed: a path below data_dir"),
        (FIELDS | {"keys": "ema"}, "teachers.dino.origin.keys: unknown field; did you mean 'key'? allowed: file, image_size, key, mean, "),
    ],
)
def test_a_checkpoint_described_wrongly_is_refused_for_what_is_wrong_alone(fields, said, tmp_path):
    with pytest.raises(SpecError) as refused:
        load_study("afr_pruning", "smoke", overrides={"teachers": {"dino": {"origin": fields}}}, data_dir=str(tmp_path))
    assert str(refused.value).startswith(said) and len(str(refused.value).splitlines()) == 1
