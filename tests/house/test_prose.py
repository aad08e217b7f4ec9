"""Numbers in the prose of notebooks, README and docs/ that settings hold: sentences written here from the settings must stand there."""

import functools
import json
import math

import pytest

from tests.renew_readme import PAGES
from tests.support import ROOT
from vitlib import load_study
from vitlib.inputs.sources import load
from vitlib.papers.afr_pruning.specs import Pruned
from vitlib.papers.dual_ssl_kd.specs import Joint, Taught, Tuned
from vitlib.teachers import shipped

DOCUMENTS = ("deit", "wecolora", "dual_ssl_kd", "afr_pruning", "multi_distillation")
WORDS = {3: "three", 8: "eight", 10: "ten", 0.1: "a tenth", 0.25: "a quarter", 0.5: "half"}


@functools.cache
def study(paper, profile):
    """Without a data set or a result in reach."""
    return load_study(paper, profile, results_dir="/nowhere", data_dir="/nowhere", figures_dir="/nowhere")


def of(paper, profile):
    return study(paper, profile).settings


@functools.cache
def digits(data):
    """Number of training images of an embedded set."""
    return len(load(data, "train", ROOT)[1])


def whole(data):
    return digits(data.changed(per_class=None))


def seeds(settings):
    return f"{len(settings.seeds)} seed{'s' * (len(settings.seeds) > 1)}"


def depth(name):
    return shipped.entry(name)["model"]["depth"]


def deit():
    smoke, quick, desk, tiny, paper = (of("deit", profile) for profile in ("smoke", "quick", "desk", "tiny", "paper"))
    blocks = [model.depth for model in smoke.students.values()]
    yield f"| `smoke` | {digits(smoke.data)} digits, {min(blocks)}-{max(blocks)} blocks, {smoke.recipe.epochs} epochs"
    yield f"| `quick` | {digits(quick.data)} handwritten digits of {quick.data.image_size} × {quick.data.image_size} pixels"
    yield f"micro models, {seeds(quick)} |"
    share = WORDS[tiny.data.fraction]
    yield f"{share} of Tiny-ImageNet at {tiny.data.image_size} px, DeiT-Ti of {tiny.students['tiny'].depth} blocks, {seeds(tiny)} |"
    yield f"ImageNet-1k at {paper.data.image_size} and {paper.finetune_size} px, {paper.recipe.epochs} and {paper.long_epochs} epochs;"
    yield f"for {desk.recipe.epochs} epochs on {digits(desk.data)} digits, `quick` for {quick.recipe.epochs};"
    yield f"at `quick` digits from {quick.data.image_size} to {quick.finetune_size} px"
    assert quick.long_factor == tiny.long_factor
    long = f"{quick.long_factor:g} × the epochs at `quick` and `tiny`"
    yield f'"Longer" is {long}, and at `paper` {paper.long_epochs} epochs for {paper.recipe.epochs}, as published'
    yield f"| `temperature` = {paper.temperature} |"
    yield f"| `kd_weight` = {paper.soft_weight}; {paper.hard_weight} |"
    yield f"fine-tuning at {paper.finetune_size} px is the code's command: a constant {paper.finetune.lr:g}".replace("e-06", "e-6")
    assert paper.finetune.lr == paper.finetune.min_lr and paper.finetune.mode == "eval"
    assert list(quick.students) == ["tiny", "small", "base"] and list(tiny.students) == ["tiny"]  # "Ti, S and B", "Ti alone"


def wecolora():
    smoke, quick, tiny, paper = (of("wecolora", profile) for profile in ("smoke", "quick", "tiny", "paper"))
    yield f"| `smoke` | {digits(smoke.data)} digits, {smoke.recipe.epochs} epochs:"
    probed = {digits(data) for data in quick.downstream.values()}
    yield f"{digits(quick.data)} of {whole(quick.data)} handwritten digits at {quick.data.image_size} px (probes: all {probed.pop()})"
    yield f"the shipped {depth('supervised')}-block teacher, {seeds(quick)} |"
    (more,), (probes,) = tiny.shares, {data.fraction for data in tiny.downstream.values()}
    shares = f"{100 * tiny.data.fraction:g} and {100 * more:g} % of Tiny-ImageNet at {tiny.data.image_size} px"
    yield f"{shares} (probes: {WORDS[probes]} of it and of CIFAR-100), a ViT-Ti teacher pretrained there first, {seeds(tiny)} |"
    yield f"{100 * paper.data.fraction:g} % of ImageNet-1k at {paper.data.image_size} px"
    stages = len(range(0, 12, paper.reductions[0])) - 1
    yield f"| {paper.staged_epochs} × {stages} + {paper.recipe.epochs - paper.staged_epochs * stages} epochs | `staged_epochs` |"
    yield f"(r = {quick.reductions[1]} at `quick`:"
    yield f"and {digits(quick.data)} handwritten digits stand for {100 * paper.data.fraction:g} % of ImageNet"
    yield f"Timed on {digits(quick.timing_data)} digits at `quick`, {digits(of('wecolora', 'desk').timing_data)} at `desk`"
    assert paper.rank == 128 and not probed


def dual_ssl_kd():
    smoke, quick, tiny, paper = (of("dual_ssl_kd", profile) for profile in ("smoke", "quick", "tiny", "paper"))
    yield f"| `smoke` | {digits(smoke.data)} and {digits(smoke.downstream['few'])} digits at {smoke.data.image_size} px"
    sizes = f"at {quick.data.image_size} px (Figure 1: {quick.distance_data.image_size} px)"
    yield f"{digits(quick.data)} of {whole(quick.data)} handwritten digits {sizes}, the shipped {depth('dino')}-block teachers"
    yield f"a student of {quick.student.depth} blocks, {seeds(quick)} |"
    further = f"{WORDS[tiny.data.fraction]} of Tiny-ImageNet at {tiny.data.image_size} px and {WORDS[len(tiny.downstream)]} further sets"
    yield f"{further}, ViT-Ti teachers pretrained there first, a student of half their width, {seeds(tiny)} |"
    assert 2 * tiny.student.embed_dim == tiny.cl.model.embed_dim == tiny.mim.model.embed_dim
    yield f"ImageNet-1k at {paper.data.image_size} px, ViT-B/16 teachers, a ViT-Ti student, {seeds(paper)} |"
    runs = [run for run in study("dual_ssl_kd", "paper").specs.values() if isinstance(run, Tuned | Taught | Joint)]
    trainings = [run for run in runs if run.data.source == "folder/imagenet"]
    epochs = sorted({run.recipe.epochs for run in trainings})
    yield f"{len(trainings)} trainings on ImageNet-1k of {epochs[0]} or {epochs[1]} epochs"
    yield f"CL's share in the output term (1), {paper.lambda_1:g}; the rest is MIM's"
    yield f"CL's share in the attention term (3), {paper.lambda_2:g}; the rest is MIM's"
    few = quick.downstream["few"]
    yield f"at `quick` {few.per_class} a class, {digits(few)} in all."
    yield f'"shifted" (`quick` alone) trains on {quick.downstream["shifted"].per_class} digits a class'
    yield f"at `quick` digits of {quick.distance_data.image_size} px, where all else has {quick.data.image_size}"
    yield f"At `quick` it has {quick.student.depth} blocks;"
    yield f"with layer-wise rates of {paper.finetune.layer_decay}"


def afr_pruning():
    smoke, quick, tiny, paper = (of("afr_pruning", profile) for profile in ("smoke", "quick", "tiny", "paper"))
    sets = f"{digits(smoke.data)} and {digits(smoke.fine['few'])} digits at {smoke.data.image_size} px"
    yield f"| `smoke` | {sets}, {smoke.recipe.epochs} epoch, {seeds(smoke)}: structure only"
    yield f"| `quick` | {digits(quick.data)} of {whole(quick.data)} handwritten digits at {quick.data.image_size} px"
    yield f'"few": {digits(quick.fine["few"])} of them; the shipped {depth("dino")}-block teachers, {seeds(quick)} |'
    (share,) = {data.fraction for data in tiny.generic.values()}
    generic = f"{WORDS[share]} of CIFAR-10, CIFAR-100 and Tiny-ImageNet at {tiny.data.image_size} px"
    yield f"{generic}, {WORDS[len(tiny.fine)]} small sets; ViT-Ti pretrained on Tiny-ImageNet first, {seeds(tiny)} |"
    yield f"thirteen sets at {paper.data.image_size} px, ViT-B/16, {seeds(paper)} |"
    trainings = [run for run in study("afr_pruning", "paper").specs.values() if isinstance(run, Pruned)]
    (epochs,) = {run.recipe.epochs for run in trainings}
    yield f"| {len(trainings)} trainings of {epochs} epochs"
    pruning = paper.pruning
    bounds = f"at least {pruning.at_least}, at most {pruning.at_most}"
    yield f"{pruning.per_class} a class, {bounds} (`smoke`: {smoke.pruning.samples(10)} in all)"
    yield f'"few" (digits again, {WORDS[quick.fine["few"].per_class]} training images a class)'
    assert len(paper.sets) == 13 and quick.pruning.samples(10) >= digits(quick.fine["few"])  # 'all seeds have the same samples'


def multi_distillation():
    smoke, quick, tiny, paper = (of("multi_distillation", profile) for profile in ("smoke", "quick", "tiny", "paper"))
    runs = {profile: len(study("multi_distillation", profile).specs) for profile in ("smoke", "quick", "tiny", "paper")}
    yield f"| {digits(smoke.data)} handwritten digits, {smoke.recipe.epochs} epoch: structure only"
    yield f"the numbers mean nothing | {runs['smoke']} runs"
    layers = 2 + 2 * sum(quick.model.blocks)
    size = f"{quick.data.image_size} × {quick.data.image_size} pixels"
    yield f"{digits(quick.data)} handwritten digits of {size}, ResNets of {layers} narrow layers"
    yield f"{quick.numbers} trials | {runs['quick']} runs"
    assert 2 + 2 * sum(paper.model.blocks) == 2 + 2 * sum(tiny.model.blocks) == 18
    yield f"{100 * tiny.data.fraction:g} % of CIFAR-10 at {tiny.data.image_size} px, {WORDS[tiny.held_out]} of it for selection"
    yield f"ResNet18, {tiny.recipe.epochs} epochs, {tiny.numbers} trials in bf16 | {runs['tiny']} runs"
    yield f"all of CIFAR-10, ResNet18, {paper.recipe.epochs} epochs, {paper.numbers} trials in fp32 | {runs['paper']} runs"
    yield f"`tiny` has the networks, epochs and trials, on {100 * tiny.data.fraction:g} % of the images"
    assert paper.seeds_of_trials == tiny.seeds_of_trials
    assert (paper.model, paper.recipe.epochs, paper.numbers) == (tiny.model, tiny.recipe.epochs, tiny.numbers)
    trials = f"{quick.numbers} random trials of {len(quick.seeds_of_trials)} trainings each"
    yield f"At `quick` handwritten digits at {quick.data.image_size} px, narrow ResNets of {layers} layers"
    yield f"{trials}; half of the training images"
    assert quick.held_out == 0.5
    yield f"The prior-work row's {paper.prior_objective.label_weight:.2f} makes its learning rate a fifth"
    yield f"of $a = b = c = 1$, which is {paper.equal_step:g} in our reading"
    yield f"\\nabla {paper.equal_step:g}\\,CE"
    yield f"kd_loss, whose KL has temperature {paper.reading.kd_temperature:g}:"
    yield f"The deepest classifier teaches at temperature {paper.reading.exit_temperature:g}:"
    yield f"prior-work row ($h = {paper.prior.h}$)"
    yield f"SGD with momentum {paper.recipe.momentum};"


def pages():
    quick, tiny, paper, deit_desk = of("afr_pruning", "quick"), of("deit", "tiny"), of("deit", "paper"), of("deit", "desk")
    sizes = [digits(data) for data in _embedded("quick")]
    yield f"{min(sizes)} to {max(sizes)} of scikit-learn's handwritten digits"
    yield f"micro models, {seeds(quick)} |"
    sets = "Tiny-ImageNet, CIFAR-10 and -100 and ten small sets"
    yield f"{sets} at {tiny.data.image_size} px, ViT-Ti of {tiny.students['tiny'].depth} blocks"
    yield f"sets at {paper.data.image_size} (and {paper.finetune_size}) px"
    yield from _of_desk()
    widths = [model.embed_dim for model in deit_desk.students.values()]
    yield f"| {deit_desk.recipe.epochs} epochs, widths {min(widths)} to {max(widths)} |"
    yield f"| {of('afr_pruning', 'desk').generic['digits'].per_class} a class, for time |"
    two = of("dual_ssl_kd", "desk")
    yield f"| {two.recipe.epochs} epochs |"
    yield f"| {two.data.per_class} a class, for time |"
    yield f"| {of('multi_distillation', 'desk').data.per_class} a class; equal effective steps |"
    micro = shipped.entry("dino")["model"]
    grid = shipped.entry("dino")["input"]["image_size"] // micro["patch_size"]
    yield f"a {micro['depth']}-block micro ViT (width {micro['embed_dim']}, an {grid} × {grid} grid at 32 px)"
    epochs = {name: shipped.entry(name)["method"]["recipe"]["epochs"] for name in ("dino", "mae")}
    yield f"DINO saw {epochs['dino']} epochs, MAE {epochs['mae']}"
    yield from _of_attention(shipped.entry("dino")["attention"])


def _of_attention(found):
    """DINO's among untrained networks'."""
    uneven, far = found["unevenness"], found["distance"]
    yield f"with {WORDS[found['untrained networks']]} networks as they are drawn, on {found['images']} test images"
    low, high = (round(100 * uneven[end]) for end in ("low", "high"))
    yield f"{round(100 * uneven['trained'])} % of it would have to move (untrained networks: {low} to {high} %"
    yield f"its distance, {far['trained']:.1f} px, lies below theirs of {far['low']:.1f} to {far['high']:.1f} px"
    assert uneven["told apart"] and far["told apart"] and far["trained"] < far["low"]


def _of_desk():
    desk = {paper: of(paper, "desk") for paper in DOCUMENTS}
    (count,) = {len(settings.seeds) for settings in desk.values()}
    yield f"Points: mean of {count} seeds; lines: 95 % interval"
    yield "verdicts: the same images and models, twice as many epochs (multi-distillation half as many again,"
    yield f"WeCoLoRA as many on twice the digits), {count} seeds |"
    for paper, settings in desk.items():  # "half of the epochs (multi-distillation two thirds ..., WeCoLoRA half of the images)"
        quick, epochs = of(paper, "quick"), settings.recipe.epochs
        share = {"wecolora": 1, "multi_distillation": 2 / 3}.get(paper, 1 / 2)
        assert quick.recipe.epochs == math.ceil(share * epochs)
        twice = 2 if paper == "wecolora" else 1
        assert settings.data == quick.data.changed(per_class=quick.data.per_class and twice * quick.data.per_class)
        assert paper not in ("deit", "wecolora") or settings.throughput_batch == 2 * quick.throughput_batch
    search = desk["multi_distillation"]
    yield f"`desk` has {len(search.seeds_of_trials)} selections of {search.numbers} trials in multi-distillation"
    yield f"{desk['wecolora'].timing_repeats} alternating rounds where WeCoLoRA measures times"
    assert desk["deit"].teacher_seeds == "each"  # "DeiT's teachers trained anew for each seed"


def _embedded(profile):
    """Every embedded set that a document trains on."""
    for paper in DOCUMENTS:
        settings = of(paper, profile)
        further = [getattr(settings, name, {}).values() for name in ("downstream", "generic", "fine")]
        yield from (data for data in (settings.data, *(each for sets in further for each in sets)) if data.source == "digits")


TEXTS = {each.__name__: each for each in (deit, wecolora, dual_ssl_kd, afr_pruning, multi_distillation, pages)}


def text_of(name):
    """Prose and parameters of a notebook, or README and docs/, lines joined."""
    if name == "pages":
        return " ".join(" ".join(page.read_text(encoding="utf-8") for page in PAGES).split())
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return " ".join(" ".join("".join(cell["source"]) for cell in cells).split())


@pytest.mark.parametrize("name", TEXTS)
def test_numbers_in_the_prose_are_those_of_the_settings(name):
    text = text_of(name)
    missing = [sentence for sentence in TEXTS[name]() if sentence not in text]
    assert not missing, f"{name} does not say: {missing}"
