"""What is refused: in one line that says what is allowed, before anything is computed."""

from functools import partial

import pytest
import timm
import torch

import vitlib
from vitlib import attention_distance, distill, prune, weight_copy
from vitlib.spec import SpecError

NAME = "vit_tiny_patch16_224"
tiny = partial(timm.create_model, NAME, img_size=32, depth=1)
CALLS = {  # what is wrong: how, and what is said
    "Swin": (lambda photos, place: weight_copy("swin_tiny_patch4_window7_224", photos, **place), r"SwinTransformer.*WeCoLoRA needs"),
    "a sparsity": (lambda photos, place: prune(NAME, photos, sparsity=1.5, **place), r"sparsity: got 1.5; allowed"),
    "a sparsity of text": (lambda photos, place: prune(NAME, photos, sparsity="90%", **place), r"sparsity: got '90%'; allowed"),
    "a criterion": (lambda photos, place: prune(NAME, photos, "afrr", **place), r"criterion: got 'afrr'; did you mean 'afr'"),
    "a missing file": (lambda photos, place: prune("nothing.pth", photos, **place), r"no file nothing.pth; allowed"),
    "a missing folder": (lambda photos, place: prune(NAME, "/no/where", **place), r"/no/where is not there; allowed"),
    "a keyword": (lambda photos, place: prune(NAME, photos, epoch=1, **place), r"unknown keyword 'epoch'; did you mean 'epochs'"),
    "a knob": (lambda photos, place: prune(NAME, photos, epochs=0, **place), r"epochs: got 0"),
    "a batch": (lambda photos, place: prune(NAME, photos, batch_size=500, **place), r"batch_size: got 500.* 24 training images"),
    "a size": (lambda photos, place: prune(NAME, photos, **place | {"image_size": 33}), r"16, which does not tile 33 px"),
    "a name": (lambda photos, place: prune("vit_tiny_patch16_225", photos, **place), r"did you mean 'vit_tiny_patch16_224'"),
    "no model": (lambda photos, place: prune(torch.nn.Linear(2, 2), photos, **place), r"got Linear.*allowed: a timm name"),
    "no photos": (lambda photos, place: prune(NAME, 3, **place), r"photos: got 3; allowed"),
    "a reduction": (lambda photos, place: weight_copy(NAME, photos, reduction=1, **place), r"reduction: got 1; allowed"),
    "few epochs": (lambda photos, place: weight_copy(NAME, photos, epochs=3, **place), r"staged_epochs=1 leave none of 3 epochs"),
    "no table": (lambda photos, place: weight_copy(NAME, photos, finetune=3, **place), r"finetune: got 3; allowed"),
    "a table's knob": (lambda photos, place: weight_copy(NAME, photos, finetune={"epoch": 3}, **place), r"did you mean 'epochs'"),
    "three teachers": (lambda photos, place: distill(NAME, photos, ["a", "b", "c"], **place), r"teachers: got 3; allowed"),
    "no teacher": (lambda photos, place: distill(NAME, photos, method="deit", **place), r"teachers: got 0 .*allowed: 1"),
    "a student's weights": (lambda photos, place: distill("mine.pth", photos, **place), r"a student begins untrained"),
    "a student in memory": (lambda photos, place: distill(tiny(), photos, **place), r"got VisionTransformer.*a student begins untrained"),
    "a training": (lambda photos, place: attention_distance({"x": NAME}, photos, epochs=3, **place), r"'epochs'; nothing is trained"),
    "a list": (lambda photos, place: attention_distance([NAME], photos, **place), r"allowed: a table of models by name"),
}


@pytest.fixture
def place(tmp_path):
    return {"results_dir": tmp_path / "results", "pretrained": False, "image_size": 32}


def refusal(call, place):
    with pytest.raises(SpecError) as error:
        call()
    assert "\n" not in str(error.value)
    assert not list(place["results_dir"].glob("[!.]*"))  # nothing was computed
    return error


@pytest.mark.parametrize("what", CALLS)
def test_bad_calls_are_refused_in_a_line_before_anything_is_computed(what, photos, place):
    call, said = CALLS[what]
    refusal(lambda: call(photos, place), place).match(said)


@pytest.mark.parametrize(("folders", "said"), [((), "no class folder"), (("cats",), r"one class \('cats'\)")])
def test_a_folder_without_two_classes_is_refused(folders, said, photos, place, tmp_path):
    (tmp_path / "own").mkdir()
    for name in folders:
        (tmp_path / "own" / name).symlink_to(photos / "cat")
    refusal(lambda: vitlib.prune(NAME, tmp_path / "own", **place), place).match(said)


def own_photos(photos, folder, count):
    for name in ("bee", "cat"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.png").write_bytes((photos / name / f"{number}.png").read_bytes())
    return folder


def test_a_class_of_a_single_photo_is_refused(photos, place, tmp_path):
    own = own_photos(photos, tmp_path / "own", 1)
    refusal(lambda: vitlib.prune(NAME, own, **place), place).match("'bee' of .* has a single photo")


def test_a_file_that_is_no_picture_is_refused_by_its_name(photos, place, tmp_path):
    own = own_photos(photos, tmp_path / "own", 3)
    (own / "bee" / "1.png").write_text("text")
    refusal(lambda: vitlib.prune(NAME, own, **place), place).match("1.png")


def test_teachers_of_two_normalisations_are_refused(photos, place):
    teachers = ["vit_tiny_patch16_224", "deit_tiny_patch16_224"]
    refusal(lambda: vitlib.distill(NAME, photos, teachers, **place), place).match(r"normalised in two ways.* allowed: .*mean=")


def test_another_suffix_is_refused_when_saved(pruned, tmp_path):
    with pytest.raises(SpecError, match=r"got 'x.pt'; allowed: a name that ends in .safetensors"):
        pruned.save(tmp_path / "x.pt")
