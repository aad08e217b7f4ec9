"""What a call is given: photos with and without splits, models of every kind, recipes for them."""

import json
import os
from collections import Counter

import pytest
import timm
import torch

import vitlib
from tests.compress.conftest import network, write_photos
from vitlib.compress.given.models import teacher_of
from vitlib.compress.given.options import Options
from vitlib.compress.given.photos import placed
from vitlib.compress.given.recipes import adapters, fine_tuning, from_scratch
from vitlib.dumped import dump, rebuild
from vitlib.inputs.sources import Data, listing
from vitlib.papers.comparison.left.measured import Measured
from vitlib.spec import SpecError
from vitlib.teachers.teacher import Checkpoint, Timm, Untrained

SPLIT = {"test_share": 0.2, "seed": 0}


def snapshot(root):
    return {path: path.lstat().st_mtime_ns for path in root.rglob("*")}


def test_a_folder_is_split_by_class_and_left_as_it_is(photos, tmp_path):
    before = snapshot(photos)
    source, said = placed(photos, tmp_path, tmp_path, **SPLIT)
    data = Data(source=source, image_size=32)
    files = {split: [path.resolve() for path in listing(data, split, tmp_path)[0]] for split in ("train", "test")}
    assert sorted(files["train"] + files["test"]) == sorted(photos.resolve().glob("*/*.png"))
    assert Counter(file.parent.name for file in files["test"]) == {"ant": 2, "bee": 2, "cat": 2}
    assert snapshot(photos) == before and "6 of 30" in said
    listed = (tmp_path / f"{source.removeprefix('folder/')}.csv").read_text().splitlines()
    assert len(listed) == 31 and sum(line.endswith(",test") for line in listed) == 6


def test_a_split_is_the_same_wherever_the_folder_lies_and_another_by_another_seed(photos, tmp_path):
    copy = write_photos(tmp_path / "copy")
    inputs = [tmp_path / "one", tmp_path / "other"]
    (first, _), (second, _) = (placed(root, place, tmp_path, **SPLIT) for root, place in zip((photos, copy), inputs, strict=True))
    assert first == second
    assert placed(photos, inputs[0], tmp_path, test_share=0.2, seed=1)[0] != first
    assert placed(copy, inputs[0], tmp_path, **SPLIT)[0] == first  # moved: the links follow
    assert str(tmp_path / "copy") in os.readlink(next((inputs[0] / first.removeprefix("folder/")).glob("*/*/*.png")))


def test_a_photo_more_moves_few_others(tmp_path):
    root, tested = write_photos(tmp_path / "photos"), []
    for name in ("0.png", "new.png"):
        (root / "ant" / name).write_bytes((root / "ant" / "1.png").read_bytes())
        source, _ = placed(root, tmp_path / "in", tmp_path, **SPLIT)
        paths = listing(Data(source=source, image_size=32), "test", tmp_path / "in")[0]
        tested.append({path.name for path in paths if path.parent.name == "ant"})
    assert len(tested[0]) == len(tested[1]) == 2 and len(tested[0] & tested[1]) >= 1


def test_a_folder_with_splits_keeps_them(tmp_path):
    for split in ("train", "test"):
        write_photos(tmp_path / "own" / split, per_class=3)
    source, _ = placed(tmp_path / "own", tmp_path / "in", tmp_path, **SPLIT)
    paths = listing(Data(source=source, image_size=32), "test", tmp_path / "in")[0]
    assert len(paths) == 9 and {path.resolve().parent.parent for path in paths} == {tmp_path.resolve() / "own" / "test"}


def test_a_set_by_its_name_is_read_from_the_data_folder(tmp_path):
    for split in ("train", "val"):
        write_photos(tmp_path / "data" / "mine" / split, per_class=2)
    source, _ = placed("folder/mine", tmp_path / "in", tmp_path / "data", **SPLIT)
    assert source == "folder/mine" and len(listing(Data(source=source, image_size=32), "train", tmp_path / "in")[0]) == 6


WRAPPED = {
    "as it is": lambda state: state,
    "model_state_dict": lambda state: {"model_state_dict": state, "epoch": 3},
    "of parallel training": lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_checkpoint_file_is_a_teacher_by_its_content(wrapped, tmp_path):
    model = timm.create_model("vit_tiny_patch16_224")
    torch.save(WRAPPED[wrapped](model.state_dict()), tmp_path / "mine.pth")
    teacher = teacher_of(str(tmp_path / "mine.pth"), tmp_path / "in", Options(architecture="vit_tiny_patch16_224"))
    assert isinstance(teacher.origin, Checkpoint) and len(teacher.origin.sha256) == 64
    weights = teacher.origin.fitted(tmp_path / "in").weights
    assert all((weights[name] == tensor.numpy()).all() for name, tensor in model.state_dict().items())


def test_a_module_is_named_by_its_weights(tmp_path):
    one, same, other = (teacher_of(model, tmp_path, Options()) for model in (network(), network(), network(num_classes=4)))
    assert one == same != other and one.origin.model.depth == 4 and one.image_size == 32


def test_a_module_with_registers_is_timms(tmp_path):
    model = timm.create_model("vit_wee_patch16_reg1_gap_256", img_size=32)
    teacher = teacher_of(model, tmp_path, Options())
    assert teacher.model == Timm(name="vit_wee_patch16_reg1_gap_256")


def test_a_changed_module_is_refused_rather_than_taken_for_timms(tmp_path):
    model = network()
    model.blocks[0].mlp.act = torch.nn.ReLU()
    with pytest.raises(SpecError, match="neither timm's vit_tiny_patch16_224 nor a plain Vision Transformer"):
        teacher_of(model, tmp_path, Options())


def test_a_bare_name_has_timms_default_weights_and_an_untrained_one_is_asked_for(tmp_path):
    assert teacher_of("vit_tiny_patch16_224", tmp_path, Options()).origin.name == "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert isinstance(teacher_of("vit_tiny_patch16_224", tmp_path, Options(pretrained=False)).origin, Untrained)
    with pytest.raises(SpecError, match=r"no released weights; .* pretrained=False"):
        teacher_of("vit_base_patch16_gap_224", tmp_path, Options())


def test_weights_that_cannot_be_had_are_said_in_a_line(photos, places, monkeypatch):
    create = timm.create_model

    def offline(*names, pretrained=False, **options):
        if pretrained:
            raise OSError("no network")
        return create(*names, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(SpecError, match=r"could not be had \(OSError: no network\); .* pretrained=False") as refused:
        vitlib.prune("vit_tiny_patch16_224.augreg_in21k_ft_in1k", photos, image_size=32, **places)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("images", [10, 150, 3_000, 30_000, 500_000])
def test_recipes_fit_the_number_of_photos(images):
    found = [fine_tuning(images, 5_000_000, is_trained=trained, named={}) for trained in (True, False)]
    found += [from_scratch(images, {}), adapters(images, 5, {})]
    assert all(2 <= recipe.batch_size <= max(2, images // 2) and recipe.batch_size % 2 == 0 for recipe in found)
    assert found[0].lr < found[1].lr and found[0].layer_decay != 1
    assert fine_tuning(images, 5_000_000, is_trained=True, named={"lr": 0.5, "epochs": 3}).lr == 0.5


def test_a_module_in_half_precision_or_compiled_is_taken_as_what_it_is(tmp_path):
    plain, half, wrapped = (teacher_of(model, tmp_path, Options()) for model in (network(), network().bfloat16(), torch.compile(network())))
    assert plain == wrapped and half.origin.sha256 != plain.origin.sha256 and half.model == plain.model


def test_workers_are_told_what_is_measured(pruned):
    spec = Measured(model=pruned.run)
    assert rebuild(json.loads(json.dumps(dump(spec)))) == spec
