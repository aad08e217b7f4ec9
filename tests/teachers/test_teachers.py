"""Teachers: four origins, adaptation, shipped weights and their check, pretraining that survives a kill, shipping."""

import importlib
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.stats import t
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch.testing import assert_close

from tests.support import assert_same_arrays, assert_same_result, flip_a_byte
from vitlib import load_study
from vitlib.inputs.models import Timm, Vit, build, weights_of
from vitlib.inputs.sources import Data
from vitlib.inputs.views import resized_crop
from vitlib.papers.teachers.specs import run_pretraining
from vitlib.runs.execute import execute, one_thread, preflight
from vitlib.runs.transfer import shipping
from vitlib.spec import Context, SpecError, dump, rebuild
from vitlib.teachers import shipped, training
from vitlib.teachers.pretrain import DinoMethod, DinoTeacher, MaeMethod, MaeTeacher, MultiCrop, SupervisedTeacher
from vitlib.teachers.teacher import Checkpoint, Shipped, Teacher
from vitlib.teachers.training import in_float32

MICRO = Vit(embed_dim=8, depth=2, num_heads=2, patch_size=2)
METHODS = ["supervised", "dino", "mae", "convnet"]


def context(data_dir=Path("."), scratch=None, tick=lambda *_: None, **options) -> Context:
    return Context("cpu", data_dir, scratch, parent=lambda run: None, tick=tick, **options)


@pytest.fixture(scope="session")
def smoke_teachers(tmp_path_factory):
    """The study of teachers at `smoke`, computed."""
    study = load_study("teachers", "smoke", results_dir=str(tmp_path_factory.mktemp("teachers")), device="cpu")
    study.execute()
    return study


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder for shipped weights of the test's own."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(shipped, "WEIGHTS", folder)
    return folder


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
    with pytest.raises(SpecError, match=r"vit_tiny_patch16_224.augreg_in21k.*by hand, or use the profiles smoke, quick or cifar"):
        teacher.module(context(), image_size=224)


def test_every_origin_is_rebuilt_from_what_the_store_writes(checkpoint, smoke_teachers):
    trained = run_pretraining(smoke_teachers.settings, method="dino", model="micro", seed=0)
    for origin in (Shipped(shipped="mae"), checkpoint[1], trained, Timm(name="vit_base_patch16_224.mae", pretrained=True)):
        quality = run_quality(origin)
        assert rebuild(json.loads(json.dumps(dump(quality)))) == quality
        assert quality.parents() == ([trained] if origin is trained else [])


def run_quality(origin):
    from vitlib.papers.teachers.measure import Quality

    return Quality(teacher=Teacher(origin=origin), data=Data(source="digits", image_size=8))


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


# ------------------------------------------------------------------------------------------------ shipped bytes


@pytest.mark.parametrize("name", METHODS)
def test_any_changed_byte_of_a_shipped_file_is_refused(name, tmp_path, monkeypatch):
    """Also a truncated and a missing file."""
    generator, sha256, original = np.random.default_rng(0), shipped.entry(name)["sha256"], shipped.WEIGHTS
    for trial in range(5):
        folder = tmp_path / str(trial)
        shutil.copytree(original, folder)
        monkeypatch.setattr(shipped, "WEIGHTS", folder)
        shipped.read(name, sha256)
        flip_a_byte(folder / f"{name}.safetensors", generator)
        with pytest.raises(shipped.WeightsError, match=r"expected .* was changed or damaged; reinstall vitlib"):
            shipped.read(name, sha256)
    (folder / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(shipped.WeightsError, match="was changed or damaged"):
        shipped.read(name, sha256)
    (folder / f"{name}.safetensors").unlink()
    with pytest.raises(shipped.WeightsError, match="no such file"):
        shipped.read(name, sha256)


def test_weights_are_kept_in_half_precision_and_statistics_as_they_are(weights):
    arrays = {
        "layer.weight": np.linspace(-1, 1, 7, dtype=np.float32),
        "bn.running_var": np.full(3, 1e-6, np.float32),
        "bn.num_batches_tracked": np.array(70_000),
    }
    shipped.write("mine", arrays, {"seed": 1})
    found = shipped.read("mine", shipped.entry("mine")["sha256"])
    np.testing.assert_array_equal(found["layer.weight"], arrays["layer.weight"].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(found["bn.running_var"], arrays["bn.running_var"])
    assert found["bn.num_batches_tracked"] == 70_000
    assert found["layer.weight"].dtype == np.float32


# ------------------------------------------------------------------------------------------------ tables and figures


@pytest.mark.parametrize("paper", ["teachers", "wecolora"])
def test_every_table_and_figure_is_made_from_an_empty_store(paper, tmp_path):
    results = load_study(paper, "smoke", results_dir=str(tmp_path), device="cpu").execute(mode="read-only")
    made = [name for name in vars(module(paper)) if name.startswith(("table_", "figure_"))]
    assert len(made) >= 4
    for name in made:
        getattr(module(paper), name)(results)


def test_the_table_of_quality_has_a_row_for_each_teacher_and_each_untrained_network(smoke_teachers):
    table = module("teachers").table_quality(smoke_teachers.execute(mode="read-only"))
    assert table["method"].tolist() == ["supervised", "dino", "mae", "untrained", "convnet", "untrained"]
    assert table.set_index("method")["top-1"].notna().to_dict() == dict.fromkeys(table["method"], False) | {
        "supervised": True,
        "convnet": True,
    }


def test_deep_blocks_are_the_last_third_and_pairs_are_over_the_same_images(smoke_teachers):
    results = smoke_teachers.execute(mode="read-only")
    arrays = {point["method"]: run.arrays["distance"] for point, run in results.runs("distances")}
    row = module("teachers").table_deep_blocks(results).query("first == 'dino' and second == 'mae'").iloc[0]
    last = {name: array[:, 1].mean(axis=1) for name, array in arrays.items()}  # of two blocks
    difference = last["dino"] - last["mae"]
    assert row["difference, px"] == pytest.approx(difference.mean())
    half = t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / len(difference) ** 0.5
    assert row["±"] == pytest.approx(half)


def module(paper):
    return importlib.import_module(f"vitlib.papers.{paper}")


# ------------------------------------------------------------------------------------------------ shipping


def test_shipping_writes_what_was_trained_and_verifying_measures_it_again(smoke_teachers, weights):
    frame = shipping.ship(smoke_teachers, executor="inline")
    assert set(frame["teacher"]) == set(METHODS)
    assert (frame["difference"] == 0).all()
    for cell in (cell for cell in smoke_teachers.cells if cell.table == "pretraining"):
        name, entry = cell.point["method"], shipped.entry(cell.point["method"])
        assert (entry["run"], entry["version"]) == (cell.spec.id, cell.spec.version)
        trained = execute([cell.spec], smoke_teachers.place)[cell.spec.id].weights
        for key, array in shipped.read(name, entry["sha256"]).items():
            np.testing.assert_allclose(array, trained[key], rtol=1e-3, atol=1e-6)
        assert entry["untrained"].keys() == entry["measured"].keys() - {"top1"}
    again = shipping.verify(smoke_teachers.place, executor="inline")
    assert (again["difference"] == 0).all()
    shipped.amend("dino", {"measured": {"knn class": 100.0}})
    assert shipping.verify(smoke_teachers.place, executor="inline")["difference"].abs().max() > 0.2


def test_what_is_not_trained_is_not_shipped(tmp_path):
    study = load_study("teachers", "smoke", results_dir=str(tmp_path), device="cpu")
    with pytest.raises(SpecError, match=r"supervisedteacher-\w+ is not stored with its weights"):
        shipping.ship(study, executor="inline")


# ------------------------------------------------------------------------------------------------ pretraining

DATA = Data(source="digits", image_size=8, per_class=4, mean=(0.3,), std=(0.4,))
RECIPE = {"epochs": 3, "batch_size": 8, "lr": 1e-3, "warmup_epochs": 1, "eval_every": 1}
TRACKING = {"bank": 20, "queries": 10}
DINO = DinoMethod.parse(
    {
        "recipe": RECIPE,
        "views": {"global_size": 8, "local_size": 4, "local_views": 2},
        "hidden": 16,
        "bottleneck": 8,
        "prototypes": 32,
        "ema": 0.9,
        "frozen": 0.4,
        "teacher_temp": 0.07,
        "tracking": TRACKING,
    }
)
MAE = MaeMethod.parse({"recipe": RECIPE, "decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2, "tracking": TRACKING})
RUNS = {
    "dino": DinoTeacher(data=DATA, model=MICRO, method=DINO, seed=0),
    "mae": MaeTeacher(data=DATA, model=MICRO, method=MAE, seed=0),
    "supervised": SupervisedTeacher(data=DATA, model=MICRO, recipe=DINO.recipe, seed=0),
}


class Killed(BaseException):
    """Nothing of ours may catch this."""


@pytest.mark.parametrize("name", RUNS)
def test_pretraining_killed_at_several_steps_ends_in_the_same_bits(name, tmp_path):
    with one_thread("cpu"):
        whole = RUNS[name].compute(context())
        left = [2, 5, 6]  # steps until each kill: inside an epoch, at its end, across the thawing of the last layer

        def tick(*_):
            if left:
                left[0] -= 1
                if left[0] == 0:
                    left.pop(0)
                    raise Killed

        for _ in range(3):
            with pytest.raises(Killed):
                RUNS[name].compute(context(scratch=tmp_path, tick=tick, checkpoint_every=0.0))
        resumed = RUNS[name].compute(context(scratch=tmp_path, checkpoint_every=0.0))
    assert_same_result(resumed, whole)


@pytest.mark.parametrize("name", ["dino", "mae"])
def test_pretraining_lowers_its_loss_and_follows_the_accuracy(name):
    method = DINO if name == "dino" else MAE
    longer = method.changed(recipe=method.recipe.changed(epochs=12, lr=5e-3))
    history = RUNS[name].changed(method=longer).compute(context()).history
    assert len(history) == 12
    if name == "mae":
        assert history["loss"].iloc[-1] < 0.9 * history["loss"].iloc[0]
    assert history[["knn class", "knn mean"]].notna().all().all()


def test_the_weights_of_dino_are_the_teachers_which_follow_the_student_from_behind():
    """With momentum 1 the teacher never moves: it stays the network as it was drawn."""
    still = RUNS["dino"].changed(method=DINO.changed(ema=0.9999999))
    shorter, longer = (still.changed(method=still.method.changed(recipe=DINO.recipe.changed(epochs=epochs))) for epochs in (2, 3))
    one, other = (spec.compute(context()).weights for spec in (shorter, longer))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)
    moved = RUNS["dino"].compute(context()).weights
    assert max(np.abs(moved[name] - one[name]).max() for name in one) > 1e-4


@pytest.mark.parametrize("field", ["mixup", "cutmix", "label_smoothing"])
def test_recipes_without_labels_refuse_to_mix_them(field):
    with pytest.raises(SpecError, match=rf"recipe.{field}=0.5; allowed: 0"):
        MaeMethod.parse({"recipe": RECIPE | {field: 0.5}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder_dim": 10}, "decoder_dim=10; allowed: multiples of 4"),
        ({"decoder_heads": 3}, "decoder_heads=3 does not divide decoder_dim=8"),
        ({"mask_ratio": 1.0}, "mask_ratio: got 1.0"),
    ],
)
def test_decoders_that_cannot_be_built_are_refused(change, message):
    with pytest.raises(SpecError, match=message):
        MAE.changed(**change)


def test_models_with_a_second_prefix_token_and_crops_that_do_not_tile_are_refused():
    with pytest.raises(SpecError, match="distilled=True has a second prefix token"):
        RUNS["mae"].changed(model=MICRO.changed(distilled=True))
    with pytest.raises(ValueError, match="patch_size: got 2, which does not tile 5 px"):
        RUNS["dino"].changed(method=DINO.changed(views=MultiCrop(global_size=8, local_size=5)))


def test_preflight_refuses_a_damaged_shipped_file(weights, smoke_teachers):
    shipping.ship(smoke_teachers, executor="inline")
    quality = run_quality(Shipped(shipped="dino"))
    preflight([quality], smoke_teachers.place.data_dir)
    flip_a_byte(weights / "dino.safetensors", np.random.default_rng(1))
    with pytest.raises(SpecError, match="was changed or damaged"):
        preflight([quality], smoke_teachers.place.data_dir)


def test_views_are_coloured_in_dinos_order_and_the_second_global_one_is_solarised_last(monkeypatch):
    """Each change replaced by a sum that its place can be read from: DataAugmentationDINO is jitter, greyscale, solarise, normalise."""
    chances = {}

    def planted(name, change):
        def changed(images, probability, *_):
            chances[name] = probability
            return change(images)

        monkeypatch.setattr(training, name, changed)

    planted("colour_jitter", lambda x: x / 2)
    planted("greyscale", lambda x: x + 0.25)
    planted("solarised", lambda x: 1 - x)
    monkeypatch.setattr(training, "resized_crop", lambda images, *_: images)
    data = Data(source="digits", image_size=8, mean=(0.5,), std=(0.125,))
    pictures = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    views = training.Views(MultiCrop(global_size=8, local_size=8, local_views=2), data, "cpu")
    global_views, local_views = views((pictures - 0.5) / 0.125)
    plain = pictures / 2 + 0.25
    expected = torch.cat([plain, 1 - plain])
    assert_close(global_views * 0.125 + 0.5, expected, rtol=0, atol=1e-6)
    assert_close(local_views * 0.125 + 0.5, plain.repeat(2, 1, 1, 1), rtol=0, atol=1e-6)
    assert chances == {"colour_jitter": 0.8, "greyscale": 0.2, "solarised": 0.2}


def test_crops_are_as_fine_under_bf16_as_without_it():
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def crops(around):
        torch.manual_seed(1)
        with around:
            return resized_crop(images, 64, (0.2, 0.4))

    plain = crops(nullcontext())
    with torch.autocast("cpu", torch.bfloat16):
        guarded, unguarded = crops(in_float32(images)), crops(nullcontext())
    assert torch.equal(guarded, plain)
    assert (unguarded - plain).abs().max() > 0.01
