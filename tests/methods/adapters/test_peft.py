"""Adapter files: against the model that they came from, dense algebra, and PEFT itself where it is installed."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import Block
from torch import nn
from torch.testing import assert_close

from tests.methods.adapters.support import STARTS
from vitlib import load_study
from vitlib.dumped import rebuild
from vitlib.inputs.models import load_weights
from vitlib.methods.adapters.lora import adapters, attach, merge
from vitlib.methods.adapters.peft import CONFIG, WEIGHTS, read_adapters, write_adapters
from vitlib.methods.adapters.weight_copy import weight_copy
from vitlib.papers import wecolora
from vitlib.papers.wecolora.compute.students import frozen_teacher
from vitlib.runs.plan import Place
from vitlib.spec import SpecError
from vitlib.studies.travel import leave

IMAGES = torch.randn(3, 5, 8)


def model():
    """Two timm blocks all of whose parameters are drawn at random."""
    module = nn.Sequential(*[Block(8, num_heads=2, qkv_bias=True) for _ in range(2)])
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval().requires_grad_(False)


def trained(plain, kind, scale=1.0):
    """Adapters of rank 2 whose factors have moved from where they started."""
    adapted = copy.deepcopy(plain)
    for block in adapted:
        attach(block, 2, kind, [model()[0]], scale)
    with torch.no_grad():
        for _, layer in adapters(adapted):
            layer.a += 0.1 * torch.randn_like(layer.a)
            layer.b += 0.1 * torch.randn_like(layer.b)
    return adapted


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_adapters_read_back_onto_the_plain_model_give_the_adapted_one(kind, scale, tmp_path):
    plain = model()
    adapted = trained(plain, kind, scale)
    again = copy.deepcopy(plain)
    read_adapters(again, write_adapters(adapted, tmp_path / "new" / "folder"))
    assert_close(again(IMAGES), adapted(IMAGES), rtol=1e-4, atol=1e-4)
    assert (plain(IMAGES) - adapted(IMAGES)).abs().max() > 0.01


@pytest.mark.parametrize("kind", STARTS)
def test_alpha_over_rank_times_b_a_is_what_the_layer_adds_to_its_weight(kind, tmp_path):
    plain = model()
    adapted = trained(plain, kind, 0.5)
    folder = write_adapters(adapted, tmp_path)
    tensors, config = load_file(folder / WEIGHTS), json.loads((folder / CONFIG).read_text())
    merge(adapted)
    for name in config["target_modules"]:
        a, b = (tensors[f"base_model.model.{name}.lora_{factor}.weight"] for factor in "AB")
        assert len(a) == config["rank_pattern"][name] == b.shape[1]
        added = adapted.get_submodule(name).weight - plain.get_submodule(name).weight
        assert_close(config["alpha_pattern"][name] / len(a) * b @ a, added, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", STARTS)
def test_peft_reads_the_folder(kind, tmp_path):
    peft = pytest.importorskip("peft")
    plain = model()
    adapted = trained(plain, kind, 0.25)
    read = peft.PeftModel.from_pretrained(copy.deepcopy(plain), write_adapters(adapted, tmp_path)).eval()
    assert_close(read(IMAGES), adapted(IMAGES), rtol=1e-4, atol=1e-4)


def test_a_model_without_adapters_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(SpecError, match="without adapters"):
        write_adapters(model(), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_an_adapter_that_mixes_q_k_and_v_is_refused(tmp_path):
    folder = write_adapters(trained(model(), "random"), tmp_path)
    tensors = load_file(folder / WEIGHTS)
    tensors["base_model.model.0.attn.qkv.lora_B.weight"][0, -1] = 1.0
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(SpecError, match=r"0\.attn\.qkv: its B mixes the 3 matrices"):
        read_adapters(model(), folder)


def test_adapters_of_another_model_are_refused_by_name_and_shape(tmp_path):
    folder = write_adapters(trained(model(), "random"), tmp_path)
    wider = nn.Sequential(*[Block(12, num_heads=2) for _ in range(2)])
    for other in (wider, model()[:1]):
        with pytest.raises(SpecError, match=r"adapter of \d\.\S+: A \(\d, \d+\), B \(\d+, \d\) does not fit"):
            read_adapters(other, folder)


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    """WeCoLoRA's smoke study, its distilled students alone."""
    folder = tmp_path_factory.mktemp("students")
    study = load_study("wecolora", "smoke", results_dir=str(folder / "r"), figures_dir=str(folder / "f"), device="cpu")
    only = tuple(cell for cell in study.cells if cell.table == "distilled" and cell.point["schedule"] == "staged")
    return type(study)(**{**vars(study), "cells": only}).execute()


@pytest.mark.parametrize("kind", STARTS)
def test_the_adapters_of_a_stored_student_make_it_of_weight_copy(kind, students, tmp_path):
    point = {"lora_init": kind, "schedule": "staged"}
    folder = wecolora.save_adapters(students, tmp_path, **point)
    run, context = students.run("distilled", **point), students.study.place.reading()
    spec = rebuild(run.spec)
    copied = weight_copy(frozen_teacher(spec.teacher, spec.data.image_size, context), spec.reduction)
    merged, adapted = copy.deepcopy(copied), copy.deepcopy(copied)
    load_weights(merged, run.weights)
    read_adapters(adapted, folder)
    images = torch.randn(4, 3, 16, 16)
    assert_close(adapted(images), merged(images), rtol=1e-4, atol=1e-4)
    assert (copied(images) - merged(images)).abs().max() > 0.01


def test_a_point_that_names_no_student_or_several_is_refused(students, tmp_path):
    for point, count in (({"lora_init": "zero"}, 0), ({"schedule": "staged"}, 4)):
        with pytest.raises(SpecError, match=f"names {count} stored runs of 'distilled'; allowed: one of .*svd_shift"):
            wecolora.save_adapters(students, tmp_path / "none", **point)
    assert not (tmp_path / "none").exists()


def test_a_student_whose_weights_stayed_elsewhere_is_refused(students, tmp_path):
    leave(students.study)
    there = replace(students.study, place=Place(tmp_path / "nothing", tmp_path))
    with pytest.raises(SpecError, match=r"weights of distilled-\w+: left out of the archive that it came from"):
        wecolora.save_adapters(there.execute(mode="read-only"), tmp_path / "none", lora_init="svd", schedule="staged")
    assert not (tmp_path / "none").exists()
