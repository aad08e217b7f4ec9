"""AFR pruning's runs: what is scored, that the pruned stays zero, what is stored and taken away, its tables, figures and findings."""

from collections import Counter
from contextlib import nullcontext
from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support import assert_same_arrays
from vitlib import load_study
from vitlib.inputs.data import test_batches as batches_of
from vitlib.inputs.models import load_weights
from vitlib.inputs.sets.catalogue import balanced
from vitlib.inputs.sources import load
from vitlib.methods.pruning.masks import MASK, keep_masks, load_pruned, prunable, semi_structured, two_of_four
from vitlib.methods.pruning.saliency import linear_features, magnitude, refer
from vitlib.papers import afr_pruning
from vitlib.papers.afr_pruning import compute
from vitlib.papers.afr_pruning.specs import Pruning
from vitlib.runs.execute import one_thread
from vitlib.spec import Context, SpecError
from vitlib.training import remembered
from vitlib.training.evaluate import accuracy, labels_of, scores_of


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return load_study("afr_pruning", "smoke", results_dir=str(tmp_path_factory.mktemp("afr")), device="cpu")


@pytest.fixture(scope="module")
def results(study):
    return study.execute()


@pytest.fixture(scope="module")
def spec(study):
    """AFR at 90 %, its weights kept."""
    return next(c.spec for c in study.cells if c.table == "generic" and c.point["criterion"] == "afr")


def context(tmp_path, **fields):
    return Context("cpu", tmp_path, **{"scratch": None, "parent": lambda run: None, **fields})


def computed(spec, tmp_path, **fields):
    with one_thread("cpu"):
        return spec.compute(context(tmp_path, **fields))


def zeros_outside(weights):
    masks = {name: weights[name] for name in weights if name.startswith(MASK)}
    return all(not weights[name.removeprefix(MASK)][~mask].any() for name, mask in masks.items()) and masks


def start(spec, tmp_path):
    """A run's model before it is pruned, and its pruning samples."""
    model = compute.with_fresh_head(spec.teacher, spec.data, spec.seed, context(tmp_path))
    return model, compute.balanced_images(spec, context(tmp_path))


def scored(criterion, spec, tmp_path):
    with one_thread("cpu"):
        return compute.scored(criterion, spec, *start(spec, tmp_path))


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


# ------------------------------------------------------------------------------------------------ tables


def test_every_row_of_the_document_is_in_its_table(results):
    for table, published, key in ((afr_pruning.table_1(results), 40, "teacher"), (afr_pruning.table_2(results), 27, "sparsity")):
        rows = table.dropna(subset="published")
        assert len(rows) == published and not rows.duplicated([key, "document's set", "criterion"]).any()
    two = afr_pruning.table_2(results).set_index(["sparsity", "document's set", "criterion"])["published"]
    assert two[0.98, "Tiny-ImageNet", "AFR"] == 50.24
    one = afr_pruning.table_1(results).set_index(["teacher", "document's set", "criterion"])["published"]
    assert one["dino", "Cars", "SNIP"] == 30.92


def test_gains_are_differences_of_the_same_seed_and_stand_beside_the_printed_ones(results):
    table = afr_pruning.table_gains(results).set_index("teacher")
    frame = results.frame("fine").set_index(["teacher", "criterion"])["top1"]
    for teacher, printed in (("supervised", 4.15), ("dino", 6.16)):
        assert table.loc[teacher, "measured"] == frame[teacher, "afr"] - frame[teacher, "snip"]
        assert table.loc[teacher, "published"] == printed


def test_the_printed_differences_are_those_of_the_printed_accuracies_but_for_pets(results):
    for name in ("table1a", "table1b"):
        rows = results.published(name).assign(value=lambda frame: frame["value"].astype(float))
        rows = rows.pivot(index="dataset", columns="method", values="value")
        odd = (rows["AFR"] - rows["SNIP"] - rows["AFR_minus_SNIP"]).abs() > 0.006
        assert list(rows.index[odd]) == (["Pets"] if name == "table1a" else [])


def test_diagnosis_counts_what_masks_would_keep(results):
    for _, run in results.runs("diagnosis"):
        sizes = np.tile([64 * 192, 64 * 64, 64 * 256, 64 * 256], 12)
        kept = run.arrays["densities"] @ sizes / sizes.sum()
        assert np.allclose(kept, [1.0, 0.1], atol=1e-5)


def test_skewness_and_rank_correlations_of_the_scores_are_those_of_their_definitions(results, tmp_path):
    (_, run), *_ = results.runs("diagnosis")
    spec = results.study.specs[run.id]
    scores = {name: scored(name, spec, tmp_path) for name in ("snip", "refer", "afr", "magnitude")}
    flat = {name: torch.cat([part.flatten() for part in parts.values()]).double().numpy() for name, parts in scores.items()}
    ranks = {name: pd.Series(values).rank() for name, values in flat.items()}
    for name, values in flat.items():
        z = (values - values.mean()) / values.std()
        assert run.metrics[f"skewness {name}"] == pytest.approx((z**3).mean(), rel=1e-5)
    for one, other in combinations(flat, 2):
        assert run.metrics[f"spearman {one} {other}"] == pytest.approx(np.corrcoef(ranks[one], ranks[other])[0, 1], abs=1e-9)
    for place, name in ((0, "blocks.0.attn.qkv.weight"), (-1, "blocks.11.mlp.fc2.weight")):
        one, other = (pd.Series(scores[criterion][name].flatten().numpy()).rank() for criterion in ("snip", "refer"))
        assert run.arrays["correlation by matrix"][place] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-9)
    drawn = np.linspace(0, len(flat["snip"]) - 1, 1500).astype(int)
    np.testing.assert_allclose(run.arrays["percentiles"], [100 * ranks[name][drawn] / len(flat[name]) for name in ("snip", "refer")])


def test_the_weights_kept_are_those_of_the_formula(results):
    (row,) = afr_pruning.table_cost(results).to_dict("records")
    assert row == {
        "sparsity": 0.9,
        "prunable": 589_824,
        "prunable, by formula": 589_824,
        "kept": 58_982,
        "kept, by formula": 58_982,
    }


def without_runs(profile, tmp_path, **overrides):
    study = load_study("afr_pruning", profile, overrides=overrides, results_dir=str(tmp_path), data_dir=str(tmp_path))
    return study.execute(mode="read-only")


def test_the_formula_counts_vit_b_as_the_method_sheet_does(tmp_path):
    table = afr_pruning.table_cost(without_runs("paper", tmp_path))
    assert set(table["prunable, by formula"]) == {84_934_656}
    assert table.set_index("sparsity")["kept, by formula"].to_dict() == {0.9: 8_493_466, 0.95: 4_246_733, 0.98: 1_698_693}


def test_the_formula_follows_the_settings_of_pruning(tmp_path):
    table = afr_pruning.table_cost(without_runs("smoke", tmp_path, pruning={"threshold": "layer", "include_patch_embed": True}))
    sizes = [3 * 4 * 4 * 64] + 12 * [192 * 64, 64 * 64, 256 * 64, 64 * 256]
    assert table["prunable, by formula"].tolist() == [sum(sizes)]
    assert table["kept, by formula"].tolist() == [sum(round(0.1 * size) for size in sizes)]


def test_shares_of_the_mean_singular_value_have_their_unit_in_the_head(results):
    table = afr_pruning.table_spread(results).set_index("criterion")
    for name, label in afr_pruning.NAMES.items():
        metrics = results.run("generic", criterion=name).metrics
        columns = {
            "after the mask, % of dense": ("held-out ", "pruned"),
            "on the pruning samples, %": ("", "pruned"),
            "after fine-tuning, % of dense": ("held-out ", "tuned"),
        }
        for column, (kind, state) in columns.items():
            assert table.loc[label, column] == pytest.approx(100 * metrics[f"{kind}spread {state}"] / metrics[f"{kind}spread dense"])


def test_the_claim_that_refer_keeps_more_is_about_images_that_no_mask_was_scored_on(results):
    claim = next(claim for claim in results.study.entry["claim"] if claim["table"] == "kept_spread")
    assert claim["metric"] == "kept" and "held-out images" in claim["sentence"]
    frame = afr_pruning.frame_kept_spread(results).set_index("criterion")
    for name in ("snip", "refer"):
        metrics = results.run("generic", criterion=name).metrics
        assert frame.loc[name, "kept"] == pytest.approx(100 * metrics["held-out spread pruned"] / metrics["held-out spread dense"])


# ------------------------------------------------------------------------------------------------ figures


def test_criteria_stand_beside_each_other_near_the_sparsity_that_they_were_measured_at(results):
    (axes,) = afr_pruning.figure_accuracy(results).axes
    places = [container.lines[0].get_xdata()[0] for container in axes.containers]
    assert len(set(places)) == len(places) == 5 and places[0] < 0 < places[-1]
    assert max(places) - min(places) < 0.1  # of the distance to the next sparsity


def test_every_curve_of_the_correlations_is_named_and_teachers_differ_by_their_lines(results):
    right = afr_pruning.figure_correlation(results).axes[-1]
    styles = {line.get_label(): line.get_linestyle() for line in right.get_lines()}
    assert styles["supervised"] != styles["DINO"]
    for name in ("supervised", "DINO"):
        assert {styles[f"{family} ({name})"] for family in ("qkv", "proj", "fc1", "fc2")} == {styles[name]}
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["qkv", "proj", "fc1", "fc2", "supervised", "DINO"]


# ------------------------------------------------------------------------------------------------ findings


def shown(**frames):
    """Results of hand-made frames."""
    return SimpleNamespace(frame=lambda table: frames[table].copy())


def generic(**gains):
    """Three seeds at two sparsities: SNIP 50 and 40, ReFer 54 and 48, magnitude 45, and AFR above SNIP by `high` and `low` and the seed."""
    rows = [
        {
            "criterion": criterion,
            "dataset": "digits",
            "sparsity": sparsity,
            "seed": seed,
            "top1": base + (seed if criterion == "afr" else 0),
        }
        for seed in range(3)
        for sparsity, snip, refer, gain in ((0.9, 50.0, 54.0, gains["high"]), (0.98, 40.0, 48.0, gains["low"]))
        for criterion, base in (("snip", snip), ("refer", refer), ("afr", snip + gain), ("magnitude", 45.0))
    ]
    return shown(generic=pd.DataFrame(rows))


def test_the_finding_of_table_2_says_who_is_above_whom_with_the_interval():
    found = afr_pruning.finding_generic(generic(high=4.0, low=4.0))
    # AFR - SNIP is 4, 5, 6 by seed: 5 ± t(0.975, 2 degrees of freedom) / sqrt(3) = 5 ± 4.303 / 1.732
    assert "AFR is above SNIP (+5.0 points, 95 % interval +2.5 to +7.5, n = 3 seeds)" in found
    # AFR - ReFer is 0 + seed and -4 + seed, on average -1
    assert "AFR and ReFer are not told apart (-1.0 points, 95 % interval -3.5 to +1.5, n = 3 seeds)" in found
    assert found.endswith("AFR has the highest mean in 1 of 2 conditions; elsewhere another has it: ReFer for digits at 98 %.")


def test_the_finding_of_table_2_speaks_against_the_document_where_the_numbers_do():
    found = afr_pruning.finding_generic(generic(high=-9.0, low=-9.0))
    assert "AFR is below SNIP (-8.0 points, 95 % interval -10.5 to -5.5, n = 3 seeds)" in found
    assert "AFR has the highest mean in 0 of 2 conditions" in found and "ReFer for digits at 90 %, ReFer for digits at 98 %" in found


def test_a_seed_that_misses_a_run_does_not_count_in_a_finding():
    results = generic(high=4.0, low=4.0)
    frame = results.frame("generic")
    frame.loc[(frame["criterion"] == "snip") & (frame["seed"] == 2) & (frame["sparsity"] == 0.98), "top1"] = np.nan
    # 4 and 5 by seed: 4.5 ± t(0.975, 1 degree of freedom) / sqrt(2) * sqrt(1 / 2) = 4.5 ± 12.706 / 2
    said = "AFR and SNIP are not told apart (+4.5 points, 95 % interval -1.9 to +10.9, n = 2 seeds)"
    assert said in afr_pruning.finding_generic(shown(generic=frame))


def fine(dino):
    """Two seeds: AFR 5 above SNIP with the supervised teacher, `dino` above it with DINO; magnitude 60, SNIP 50."""
    rows = [
        {"criterion": criterion, "teacher": teacher, "dataset": "few", "seed": seed, "top1": top1 + seed * step * (criterion == "afr")}
        for seed in (0, 1)
        for teacher, gain, step in (
            ("supervised", 4.95, 0.1),
            ("dino", dino - 0.075, 0.15),
        )  # means: 5 and `dino`
        for criterion, top1 in (("snip", 50.0), ("afr", 50.0 + gain), ("magnitude", 60.0))
    ]
    return shown(fine=pd.DataFrame(rows))


@pytest.mark.parametrize(("dino", "said"), [(8.0, "is above that with"), (1.0, "is below that with")])
def test_the_finding_of_table_1_says_with_which_teacher_the_gain_is_larger(dino, said):
    found = afr_pruning.finding_fine(fine(dino))
    assert f"The gain over SNIP with DINO {said} the supervised teacher ({dino - 5:+.1f} points" in found
    assert "With the DINO teacher AFR is above SNIP" in found
    assert found.count("AFR is below magnitude pruning") == 2


def test_the_finding_of_the_scores_names_whom_afr_follows_and_the_shorter_tail():
    rows = {"spearman snip refer": 0.5, "spearman snip afr": 0.7, "spearman refer afr": 0.9, "skewness snip": 3.0, "skewness refer": 2.0}
    rest = {"spearman snip magnitude": 0.1, "spearman refer magnitude": 0.1, "skewness afr": 1.0, "skewness magnitude": 1.0}
    frame = pd.DataFrame([{"teacher": "dino", **rows, **rest}, {"teacher": "supervised", **rows, **rest, "spearman snip afr": 0.95}])
    found = afr_pruning.finding_scores(shown(diagnosis=frame))
    assert (
        "With the DINO teacher SNIP's and ReFer's ranks correlate by 0.50; AFR's ranks lie closer to ReFer's (SNIP 0.70, ReFer 0.90)"
        in found
    )
    assert "With the supervised teacher" in found and "closer to SNIP's (SNIP 0.95, ReFer 0.90)" in found
    assert found.count("ReFer's scores have the shorter tail (skewness SNIP 3.0, ReFer 2.0)") == 2


@pytest.mark.parametrize(("refer", "said"), [(30.0, "ReFer is above SNIP (+10.0"), (10.0, "ReFer is below SNIP (-10.0")])
def test_the_finding_of_the_singular_values_is_in_percent_of_the_dense_model(refer, said):
    rows = [
        {
            "criterion": name,
            "dataset": "digits",
            "sparsity": 0.9,
            "seed": seed,
            "spread dense": 2.0,
            "spread pruned": (share - 5) / 50,
            "held-out spread dense": 5.0,
            "held-out spread pruned": share / 20,
            "held-out spread tuned": 4.0,
        }
        for seed, step in enumerate((-0.1, 0.1))
        for name, share in (("snip", 20.0), ("refer", refer + step))
    ]
    found = afr_pruning.finding_singular_values(shown(generic=pd.DataFrame(rows)))
    assert said in found and f"{refer - 20:+.1f} at 90 %" in found
    assert f"SNIP 20.0 and 80.0; ReFer {refer:.1f} and 80.0" in found and found.count(said) == 2


FINDINGS = ("finding_generic", "finding_fine", "finding_scores", "finding_singular_values")


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_without_runs_says_so_and_one_with_runs_does_not(name, results, tmp_path):
    assert getattr(afr_pruning, name)(without_runs("smoke", tmp_path)) == "Not measured yet."
    assert "easured yet" not in getattr(afr_pruning, name)(results)


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


def test_the_explorer_draws_every_criterion(results):
    accuracy_table = pd.DataFrame({"dataset": ["digits"], "criterion": ["afr"], "sparsity": [0.9], "measured": [50.0], "±": [1.0]})
    _, run = results.runs("diagnosis")[0]
    for criterion in ("snip", "random"):
        figure = afr_pruning.draw_sparsity(run, accuracy_table, "supervised", criterion, 0.9)
        kept = np.mean([line.get_ydata() for line in figure.axes[0].get_lines()], axis=0)
        assert figure.axes[0].get_title().endswith("at 90 %") and kept.shape == (12,)
