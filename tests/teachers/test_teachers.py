"""Teachers: four origins, and adaptation to another size and other classes."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch.testing import assert_close

from tests.support import assert_same_arrays, context, flip_a_byte
from tests.teachers.support import DATA, METHODS, MICRO, run_quality
from vitlib import load_study
from vitlib.dumped import dump, rebuild
from vitlib.inputs.models import Timm, build, weights_of
from vitlib.inputs.sources import Data
from vitlib.papers.teachers.specs import run_pretraining
from vitlib.spec import SpecError
from vitlib.teachers import shipped
from vitlib.teachers.teacher import Checkpoint, Shipped, Teacher


@pytest.fixture
def checkpoint(tmp_path):
    """A file of a micro model's weights, and the spec that names it."""
    module = build(MICRO, image_size=8, channels=1, num_classes=3)
    save_file(weights_of(module), tmp_path / "mine.safetensors")
    spec = Checkpoint(file="mine.safetensors", model=MICRO, image_size=8, mean=(0.3,), std=(0.4,))
    return module, spec.pinned(tmp_path)


# ------------------------------------------------------------------------------------------------ origins


@pytest.mark.parametrize("name", METHODS)
def test_a_shipped_teacher_predicts_on_the_images_it_was_made_for(name):
    teacher = Teacher(origin=Shipped(shipped=name))
    module = teacher.module(context(), image_size=teacher.image_size).eval()
    output = module(torch.zeros(2, 3, teacher.image_size, teacher.image_size))
    assert output.shape == (2, 10 if name in ("supervised", "convnet") else teacher.model.embed_dim)
    assert output.isfinite().all()


@pytest.mark.parametrize("name", ["supervised", "dino", "mae"])
def test_shipped_transformers_have_twelve_blocks_and_a_grid_of_eight_by_eight(name):
    teacher = Teacher(origin=Shipped(shipped=name))
    assert teacher.model.depth == 12
    assert teacher.image_size // teacher.model.patch_size == 8


def test_the_manifest_lists_the_weights_folder_and_fits_in_fifteen_megabytes():
    known = shipped.manifest()
    assert sorted(known) == sorted(METHODS)
    files = {path.name: path.stat().st_size for path in shipped.WEIGHTS.glob("*.safetensors")}
    assert files == {entry["file"]: entry["bytes"] for entry in known.values()}
    assert sum(files.values()) < 15e6
    for entry in known.values():
        assert {"run", "version", "seed", "commit", "device", "data", "measured", "untrained", "training_seconds"} <= entry.keys()
        assert "recipe" in entry or "method" in entry


@pytest.mark.parametrize("name", METHODS)
def test_the_manifest_names_the_run_and_its_version_that_the_profile_micro_cpu_still_describes(name, monkeypatch, tmp_path):
    """What was shipped can be made again: by today's settings, and by the code whose version the entry states."""
    entry, study = shipped.entry(name), load_study("teachers", "micro_cpu", results_dir=str(tmp_path), data_dir=str(tmp_path))
    spec = next(cell.spec for cell in study.cells if cell.table == "pretraining" and cell.point["method"] == name)
    made = spec.changed(data=Data.parse(entry["data"]), seed=entry["seed"])
    assert entry["version"] < made.version if "note" in entry else entry["version"] == made.version
    monkeypatch.setattr(type(made), "version", entry["version"])
    assert made.id == entry["run"]


def test_an_identity_follows_the_shipped_bytes_not_the_name_alone():
    filled = Teacher(origin=Shipped(shipped="dino"))
    assert filled.origin.sha256 == shipped.manifest()["dino"]["sha256"]
    other = Teacher(origin=Shipped(shipped="dino", sha256="0" * 64))
    assert filled.canonical() != other.canonical()
    with pytest.raises(SpecError, match="expected 000000000000"):
        other.module(context(), image_size=32)


def test_a_name_that_is_not_shipped_is_refused_with_the_nearest():
    with pytest.raises(SpecError, match="shipped: got 'dyno'; did you mean 'dino'"):
        Shipped.parse({"shipped": "dyno"})


def test_a_checkpoint_gives_the_outputs_of_the_model_it_was_saved_from(checkpoint, tmp_path):
    module, spec = checkpoint
    loaded = Teacher(origin=spec).module(context(tmp_path), image_size=8)
    images = torch.randn(3, 1, 8, 8)
    assert_close(loaded.eval()(images), module.eval()(images), rtol=0, atol=0)


def test_a_torch_checkpoint_is_read_too_whether_nested_or_not(checkpoint, tmp_path):
    module, _ = checkpoint
    for number, content in enumerate([module.state_dict(), {"model": module.state_dict(), "epoch": 3}]):
        torch.save(content, tmp_path / f"{number}.pth")
        spec = Checkpoint(file=f"{number}.pth", model=MICRO, image_size=8, mean=(0.3,), std=(0.4,)).pinned(tmp_path)
        assert_same_arrays(weights_of(Teacher(origin=spec).module(context(tmp_path), image_size=8)), weights_of(module))


def test_a_missing_checkpoint_says_where_it_was_looked_for_and_what_works_without(tmp_path):
    with pytest.raises(SpecError, match=r"mine\.pt: no such file; put the file there, .* the shipped teachers need no file"):
        Checkpoint(file="mine.pt", model=MICRO, image_size=8, mean=(0.3,), std=(0.4,)).pinned(tmp_path)


def test_a_changed_checkpoint_is_refused_before_anything_is_computed(checkpoint, tmp_path):
    _, spec = checkpoint
    flip_a_byte(tmp_path / "mine.safetensors", np.random.default_rng(0))
    with pytest.raises(SpecError, match="the file was changed or damaged"):
        Teacher(origin=spec).check(tmp_path)


def test_weights_of_another_architecture_are_refused(checkpoint, tmp_path):
    _, spec = checkpoint
    with pytest.raises(SpecError, match=r"mine\.safetensors: does not fit the model: 12 of 44 parameters are missing \(blocks\.2\."):
        Teacher(origin=spec.changed(model=MICRO.changed(depth=3))).module(context(tmp_path), image_size=8)


@pytest.mark.parametrize("file", ["/etc/passwd.pt", "../up.pt", "weights.npz"])
def test_a_checkpoint_lies_below_the_data_folder_in_a_format_that_is_read(file):
    with pytest.raises(ValueError, match="allowed: a path below data_dir"):
        Checkpoint(file=file, model=MICRO, image_size=8, mean=(0.3,), std=(0.4,))


def test_a_released_teacher_without_its_weights_is_refused():
    with pytest.raises(ValueError, match="pretrained = true"):
        Teacher(origin=Timm(name="vit_base_patch16_224.dino"))


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("vit_base_patch16_224.dino", (0.485, 0.456, 0.406)),
        ("vit_base_patch16_224.mae", (0.485, 0.456, 0.406)),
        ("vit_base_patch16_224.orig_in21k_ft_in1k", (0.5, 0.5, 0.5)),
        ("vit_base_patch16_224.augreg_in1k", (0.5, 0.5, 0.5)),
    ],
)
def test_the_normalisation_of_a_released_model_travels_with_it(name, mean):
    teacher = Teacher(origin=Timm(name=name, pretrained=True))
    assert teacher.normalised(Data(source="digits", image_size=224)).mean == mean
    assert teacher.image_size == 224


def test_a_download_that_is_not_to_be_had_says_what_was_wanted_and_which_profile_works(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    teacher = Teacher(origin=Timm(name="vit_tiny_patch16_224.augreg_in21k", pretrained=True))
    with pytest.raises(SpecError, match=r"vit_tiny_patch16_224.augreg_in21k.*by hand, or use the profiles smoke, quick or tiny"):
        teacher.module(context(), image_size=224)


def test_every_origin_is_rebuilt_from_what_the_store_writes(checkpoint):
    trained = run_pretraining(load_study("teachers", "smoke").settings, method="dino", model="micro", seed=0)
    for origin in (Shipped(shipped="mae"), checkpoint[1], trained, Timm(name="vit_base_patch16_224.mae", pretrained=True)):
        quality = run_quality(origin)
        assert rebuild(json.loads(json.dumps(dump(quality)))) == quality
        assert quality.parents() == ([trained] if origin is trained else [])


def test_an_untrained_network_is_the_one_that_its_seed_draws(checkpoint, tmp_path):
    _, spec = checkpoint
    teacher = Teacher(origin=spec)
    one, same, other = (weights_of(teacher.untrained(seed).module(context(tmp_path), image_size=8)) for seed in (1, 1, 2))
    assert_same_arrays(one, same)
    assert not np.array_equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])
    assert teacher.untrained().normalised(DATA) == teacher.normalised(DATA)


# ------------------------------------------------------------------------------------------------ adaptation


def test_positions_and_patches_are_resampled_as_timm_does(checkpoint, tmp_path):
    module, spec = checkpoint
    larger = Teacher(origin=spec).module(context(tmp_path), image_size=12)
    assert_close(larger.pos_embed, resample_abs_pos_embed(module.pos_embed, [6, 6], num_prefix_tokens=1))
    finer = Teacher(origin=spec).module(context(tmp_path), image_size=16, patch_size=4)
    assert_close(finer.patch_embed.proj.weight, resample_patch_embed(module.patch_embed.proj.weight, [4, 4]))
    assert_close(finer.pos_embed, module.pos_embed)


def test_a_classifier_of_another_size_is_fresh_and_everything_else_stays(checkpoint, tmp_path):
    module, spec = checkpoint
    for classes in (0, 3, 5):
        loaded = Teacher(origin=spec).module(context(tmp_path), image_size=8, num_classes=classes)
        assert loaded.num_classes == classes
        body = {name: array for name, array in weights_of(loaded).items() if not name.startswith("head.")}
        assert_same_arrays(body, {name: array for name, array in weights_of(module).items() if not name.startswith("head.")})
        assert (classes == 3) == (classes > 0 and torch.equal(loaded.head.weight[:3], module.head.weight))


def test_patches_that_do_not_tile_and_patch_sizes_of_a_convnet_are_refused():
    with pytest.raises(SpecError, match="patch_size: got 4, which does not tile 30 px"):
        Teacher(origin=Shipped(shipped="dino")).module(context(), image_size=30)
    with pytest.raises(SpecError, match="patch_size: got 4 for ResNet"):
        Teacher(origin=Shipped(shipped="convnet")).module(context(), image_size=32, patch_size=4)
