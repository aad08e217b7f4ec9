"""AFR pruning's runs: what is scored, that the pruned stays zero, what is stored and taken away."""

from collections import Counter
from contextlib import nullcontext
from itertools import combinations, product

import numpy as np
import pytest
import torch

from tests.papers.afr_pruning.support import scored, start
from tests.support import assert_same_arrays, context
from vitlib import load_study
from vitlib.computing import result_of
from vitlib.inputs.data import test_batches as batches_of
from vitlib.inputs.models import load_weights
from vitlib.inputs.sets.catalogue import balanced
from vitlib.inputs.sources import load
from vitlib.methods.pruning.masks import MASK, keep_masks, load_pruned, prunable, semi_structured, two_of_four
from vitlib.methods.pruning.saliency import linear_features, magnitude, refer
from vitlib.papers import afr_pruning
from vitlib.papers.afr_pruning.compute import pruning as compute
from vitlib.papers.afr_pruning.specs import Pruning
from vitlib.runs.workers.one import one_thread
from vitlib.spec import SpecError
from vitlib.training import remembered
from vitlib.training.evaluate import accuracy, labels_of, scores_of


@pytest.fixture(scope="session")
def spec(study):
    """AFR at 90 %, its weights kept."""
    return next(c.spec for c in study.cells if c.table == "generic" and c.point["criterion"] == "afr")


def computed(spec, tmp_path, **fields):
    with one_thread("cpu"):
        return result_of(spec, context(tmp_path, **fields))


def zeros_outside(weights):
    masks = {name: weights[name] for name in weights if name.startswith(MASK)}
    return all(not weights[name.removeprefix(MASK)][~mask].any() for name, mask in masks.items()) and masks


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


# ------------------------------------------------------------------------------------------------ samples


@pytest.mark.parametrize(("classes", "count"), [(2, 100), (10, 100), (38, 380), (397, 768)])
def test_samples_are_ten_a_class_clipped_to_100_and_768(classes, count):
    assert Pruning().samples(classes) == count


def test_balanced_images_are_spread_over_classes_as_evenly_as_can_be():
    labels = np.random.default_rng(0).choice(7, 300, p=[0.3, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02])
    available = np.bincount(labels)
    for count in (1, 7, 20, 100, 299, 1000):
        kept = balanced(labels, count, seed=1)
        counts = np.bincount(labels[kept], minlength=7)
        assert len(set(kept)) == len(kept) == min(count, 300) and list(kept) == sorted(kept)
        assert all(counts[label] >= min(available[label], counts.max() - 1) for label in range(7))


def test_balanced_images_depend_on_the_seed_alone():
    labels = np.repeat(np.arange(5), 30)
    first, again, other = (balanced(labels, 20, seed) for seed in (3, 3, 4))
    assert list(first) == list(again) != list(other)


def pictures_and_labels(spec, tmp_path, split="train"):
    """Bytes and labels of the images that a run measures the spread on."""
    images, labels = (torch.cat(column) for column in zip(*compute.balanced_images(spec, context(tmp_path), split).epoch(0), strict=True))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.data.mean, spec.data.std))
    return [image.tobytes() for image in ((images * std + mean) * 255).round().to(torch.uint8).numpy()], labels.tolist()


@pytest.mark.parametrize("split", ["train", "test"])
def test_pruning_samples_and_held_out_images_are_balanced_ones_of_their_split_as_they_are_evaluated(split, spec, tmp_path):
    found, labels = pictures_and_labels(spec, tmp_path, split)
    assert sorted(labels) == list(range(10))
    theirs = {image.tobytes(): label for image, label in zip(*load(spec.data, split, tmp_path), strict=True)}
    assert [theirs[image] for image in found] == labels


def test_held_out_images_are_as_many_as_the_pruning_samples_and_none_of_them(spec, tmp_path):
    spec = spec.changed(pruning=spec.pruning.changed(at_least=30))
    samples, held_out = (pictures_and_labels(spec, tmp_path, split)[0] for split in ("train", "test"))
    assert len(samples) == len(held_out) == 30 and not set(samples) & set(held_out)


def test_each_seed_has_pruning_samples_and_by_refer_a_mask_of_its_own(spec, tmp_path):
    refer = spec.changed(criterion="refer")
    runs = {seed: (refer.changed(seed=seed), pictures_and_labels(refer.changed(seed=seed), tmp_path)[0]) for seed in (0, 1, 2)}
    masks = {seed: keep_masks(scored("refer", run, tmp_path), 0.9) for seed, (run, _) in runs.items()}
    for one, other in combinations(runs, 2):
        assert set(runs[one][1]) != set(runs[other][1])
        assert not equal(masks[one], masks[other])
    assert pictures_and_labels(spec.changed(criterion="snip", seed=1), tmp_path)[0] == runs[1][1], "one seed, one set of samples"
    elsewhere = refer.changed(pruning=refer.pruning.changed(sample_seed=1))
    assert pictures_and_labels(elsewhere, tmp_path)[0] != runs[0][1]


# ------------------------------------------------------------------------------------------------ scores


def test_runs_of_a_process_share_what_a_seed_scores_and_find_what_each_alone_finds(spec, tmp_path, monkeypatch):
    computed_by = Counter()

    def counted(name, plain):
        def score(*given, **options):
            computed_by[name] += 1
            return plain(*given, **options)

        return score

    for name in ("snip", "refer"):
        monkeypatch.setattr(compute, name, counted(name, getattr(compute, name)))
    runs = [(criterion, spec.changed(seed=seed)) for seed, criterion in product((0, 1), ("refer", "snip", "afr"))]
    together = [scored(*run, tmp_path) for run in runs]
    assert computed_by == {"refer": 2, "snip": 2}
    for run, found in zip(runs, together, strict=True):
        remembered._KEPT.clear()
        assert equal(scored(*run, tmp_path), found)


@pytest.mark.parametrize("fields", [{"layers": "linears"}, {"rows": "images"}, {"center": True}, {"sample_seed": 1}], ids=str)
def test_runs_of_a_process_with_other_settings_share_no_scores(fields, spec, tmp_path):
    assert not equal(scored("refer", spec, tmp_path), scored("refer", spec.changed(pruning=spec.pruning.changed(**fields)), tmp_path))


def test_refer_of_linears_reads_the_output_of_every_matrix_that_can_be_pruned(spec, tmp_path):
    spec = spec.changed(pruning=spec.pruning.changed(layers="linears"))
    model, samples = start(spec, tmp_path)
    images = torch.cat([images for images, _ in samples.epoch(0)])
    expected = refer(model, lambda: [images], prunable(model), linear_features("class"))
    found = scored("refer", spec, tmp_path)
    assert all((found[name] - expected[name]).norm() < 1e-4 * expected[name].norm() for name in expected)


# ------------------------------------------------------------------------------------------------ runs


def test_the_classifier_is_drawn_for_the_task_from_the_seed(spec, tmp_path):
    one, again, other = (compute.with_fresh_head(spec.teacher, spec.data, seed, context(tmp_path)) for seed in (0, 0, 1))
    assert torch.equal(one.head.weight, again.head.weight) and not torch.equal(one.head.weight, other.head.weight)
    assert one.head.weight.shape == (10, 64) and float(one.head.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert torch.equal(one.blocks[0].attn.qkv.weight, other.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize("criterion", ["snip", "refer", "afr", "magnitude", "random"])
def test_exactly_the_share_is_kept_and_the_rest_is_zero_after_fine_tuning(criterion, spec, tmp_path):
    result = computed(spec.changed(criterion=criterion), tmp_path)
    assert (result.metrics["prunable"], result.metrics["kept"]) == (589_824, 58_982)
    masks = zeros_outside(result.weights)
    assert sum(int(mask.sum()) for mask in masks.values()) == 58_982 and len(masks) == 48


@pytest.mark.parametrize("recipe", [{"optimizer": "sgd", "lr": 0.05}, {"ema_decay": 0.5}, {"weight_decay": 0.5, "clip_grad": 0.1}])
def test_the_pruned_stays_zero_under_momentum_averages_and_decay(recipe, spec, tmp_path):
    result = computed(spec.changed(recipe=spec.recipe.changed(epochs=2, **recipe)), tmp_path)
    assert zeros_outside(result.weights)
    dense = computed(spec.changed(sparsity=0.0), tmp_path).weights
    assert (result.weights["head.weight"] != dense["head.weight"]).any()


@pytest.mark.parametrize("without", ["masked_gradients", "set_to_zero"])
def test_masked_gradients_and_zeros_set_after_each_update_keep_the_pruned_at_zero_each_alone(without, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(compute, without, lambda *_: nullcontext())
    assert zeros_outside(computed(spec, tmp_path).weights)


def test_sparsity_zero_is_plain_fine_tuning_whatever_the_criterion(spec, tmp_path):
    one, other = (computed(spec.changed(sparsity=0.0, criterion=name), tmp_path) for name in ("magnitude", "random"))
    assert_same_arrays(one.weights, other.weights)
    assert one.metrics["kept"] == one.metrics["prunable"] and one.metrics["spread dense"] == one.metrics["spread pruned"]


def test_a_run_killed_in_the_middle_ends_as_one_that_was_not(spec, tmp_path):
    spec = spec.changed(recipe=spec.recipe.changed(epochs=3))
    whole = computed(spec, tmp_path)
    steps = []

    def tick(*_):
        steps.append(0)
        if len(steps) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        computed(spec, tmp_path, scratch=tmp_path / "scratch", checkpoint_every=0.0, tick=tick)
    resumed = computed(spec, tmp_path, scratch=tmp_path / "scratch")
    assert_same_arrays(whole.weights, resumed.weights)
    assert whole.metrics == resumed.metrics


def test_the_accuracy_and_the_spread_are_those_of_the_stored_model(spec, tmp_path):
    result = computed(spec, tmp_path)
    weights = {name: array for name, array in result.weights.items() if not name.startswith(MASK)}
    model = compute.with_fresh_head(spec.teacher, spec.data, 9, context(tmp_path)).eval()
    load_weights(model, weights)
    test = batches_of(spec.data, device="cpu", data_dir=tmp_path)
    assert result.metrics["top1"] == accuracy(scores_of(model, test).argmax(dim=1).numpy(), labels_of(test))
    for kind, split in (("", "train"), ("held-out ", "test")):
        assert result.metrics[f"{kind}spread tuned"] == pytest.approx(brute_force_spread(model, spec, split, tmp_path), rel=1e-4)


def brute_force_spread(model, spec, split, tmp_path):
    """Mean over blocks of the nuclear norm of the class tokens' matrix, over the number of images."""
    images = torch.cat([images for images, _ in compute.balanced_images(spec, context(tmp_path), split).epoch(0)])
    with torch.no_grad():
        streams = model.eval().forward_intermediates(images, intermediates_only=True, return_prefix_tokens=True, output_fmt="NLC")
    return np.mean([np.linalg.norm(prefix[:, 0].double().numpy(), "nuc") for _, prefix in streams]) / len(images)


def test_the_spread_before_training_is_that_of_the_dense_and_of_the_masked_start_on_both_sets_of_images(spec, tmp_path):
    result = computed(spec.changed(pruning=spec.pruning.changed(at_least=25)), tmp_path)
    model, _ = start(spec, tmp_path)
    spec = spec.changed(pruning=spec.pruning.changed(at_least=25))
    values = {}
    for state in ("dense", "pruned"):
        if state == "pruned":
            with torch.no_grad():
                for name, weight in prunable(model).items():
                    weight *= torch.from_numpy(result.weights[MASK + name])
        for kind, split in (("", "train"), ("held-out ", "test")):
            values[f"{kind}spread {state}"] = brute_force_spread(model, spec, split, tmp_path)
    assert {name: result.metrics[name] for name in values} == pytest.approx(values, rel=1e-4)
    assert len({round(value, 6) for value in values.values()}) == 4


@pytest.mark.parametrize("rows", ["class", "patch_mean", "tokens", "images"])
def test_a_spectrum_is_that_of_the_blocks_outputs_and_its_spread_a_sum_over_the_number_of_rows(rows, spec, tmp_path):
    model, samples = start(spec, tmp_path)
    found = compute.spectrum(model, samples, rows)
    with torch.no_grad():
        stream = model._pos_embed(model.patch_embed(torch.cat([images for images, _ in samples.epoch(0)])))
        streams = [stream := block(stream) for block in model.blocks]
    means = []
    for sigma, stream in zip(found.sigma.numpy(), streams, strict=True):
        matrices = {
            "class": stream[None, :, 0],
            "patch_mean": stream[None, :, 1:].mean(dim=2),
            "tokens": stream.reshape(1, -1, 64),
            "images": stream,
        }[rows].double()
        expected = [np.linalg.svd(matrix.numpy(), compute_uv=False) for matrix in matrices]
        np.testing.assert_allclose(sigma, np.mean(expected, axis=0), rtol=1e-3, atol=1e-4)
        means.append(np.mean([values.sum() / len(matrix) for values, matrix in zip(expected, matrices, strict=True)]))
    assert compute.spread(found) == pytest.approx(np.mean(means), rel=1e-4)


def test_refer_of_linears_prunes_otherwise_and_its_spectra_are_still_those_of_blocks(spec, tmp_path):
    one, other = (computed(spec.changed(pruning=spec.pruning.changed(layers=layers)), tmp_path) for layers in ("blocks", "linears"))
    assert any((mask != other.weights[name]).any() for name, mask in zeros_outside(one.weights).items())
    assert zeros_outside(other.weights) and other.metrics["kept"] == 58_982
    np.testing.assert_array_equal(one.arrays["spectrum dense"], other.arrays["spectrum dense"])


def test_two_of_four_keeps_half_of_every_four_neighbours(spec, tmp_path):
    halved = spec.changed(sparsity=0.5, pruning=spec.pruning.changed(threshold="2:4"))
    for mask in zeros_outside(computed(halved, tmp_path).weights).values():
        assert (mask.reshape(-1, 4).sum(axis=1) == 2).all()


def test_compressed_weights_are_refused_without_their_hardware_and_their_pattern(spec, tmp_path):
    model = compute.with_fresh_head(spec.teacher, spec.data, 0, context(tmp_path))
    fitting = two_of_four(magnitude(prunable(model)))
    with pytest.raises(SpecError, match=r"torch.float32 on cpu; allowed: float16 or bfloat16 on a CUDA device"):
        semi_structured(model, fitting)
    with pytest.raises(SpecError, match=r"keeps [34] of four neighbours; allowed: masks of two_of_four"):
        semi_structured(model, {name: torch.ones_like(mask) for name, mask in fitting.items()})


def test_a_threshold_for_each_matrix_gives_each_the_same_density(spec, tmp_path):
    result = computed(spec.changed(pruning=spec.pruning.changed(threshold="layer")), tmp_path)
    assert np.allclose(result.arrays["densities"], 0.1, atol=2e-3)


def test_settings_that_contradict_each_other_are_refused(spec, study):
    with pytest.raises(SpecError, match=r"sparsity=0.9 with pruning.threshold='2:4'; allowed: 0.5"):
        spec.changed(pruning=spec.pruning.changed(threshold="2:4"))
    halved = {"sparsities": [0.5], "fine_sparsity": 0.5, "curve": [0.0, 0.5], "pruning": {"threshold": "2:4"}}
    assert {cell.spec.pruning.threshold for cell in load_study("afr_pruning", "smoke", overrides=halved).cells} == {"2:4"}
    for odd, named in (({"sparsities": [0.9]}, "sparsities"), ({"fine_sparsity": 0.9}, "fine_sparsity"), ({"curve": [0.0, 0.9]}, "curve")):
        with pytest.raises(SpecError, match=f"{named}=0.9 with pruning.threshold='2:4'; allowed: 0.5"):
            load_study("afr_pruning", "smoke", overrides=halved | odd)
    diagnosis = next(cell.spec for cell in study.cells if cell.table == "diagnosis")
    with pytest.raises(SpecError, match=r"sparsities=0.9 with pruning.threshold='2:4'; allowed: 0.5"):
        diagnosis.changed(pruning=diagnosis.pruning.changed(threshold="2:4"))
    with pytest.raises(SpecError, match="at_most=5 is less than at_least=10"):
        spec.pruning.changed(at_most=5)
    with pytest.raises(SpecError, match="stands_for: other; allowed"):
        load_study("afr_pruning", "smoke", overrides={"stands_for": {"other": "CIFAR-10"}})


# ------------------------------------------------------------------------------------------------ taken away


def test_a_model_taken_away_computes_what_the_stored_one_does(results, tmp_path):
    path = afr_pruning.save_model(results, tmp_path / "new" / "pruned.safetensors", sparsity=0.9, dataset="digits")
    model, masks = load_pruned(path)
    run = results.run("generic", criterion="afr", sparsity=0.9)
    for name, weight in prunable(model).items():
        assert torch.equal(weight, torch.from_numpy(run.weights[name])) and not weight[~masks[name]].any()
    test = batches_of(results.study.specs[run.id].data, device="cpu", data_dir=tmp_path)
    assert accuracy(scores_of(model, test).argmax(dim=1).numpy(), labels_of(test)) == run.metrics["top1"]


def test_weights_that_were_not_kept_are_refused(results, tmp_path):
    with pytest.raises(SpecError, match=r"not kept; allowed: criterion='afr' and the first seed"):
        afr_pruning.save_model(results, tmp_path / "none.safetensors", criterion="snip", sparsity=0.9)
    assert not list(tmp_path.iterdir())
