"""Numbers in the prose of notebooks, README and docs/ that settings hold: sentences written here from the settings must stand there."""

import functools
import json

import pytest

from tests.renew_readme import PAGES
from tests.support import ROOT
from vitlib import load_study
from vitlib.inputs.sources import load
from vitlib.papers.afr_pruning.specs import Pruned
from vitlib.papers.dual_ssl_kd.specs import Joint, Taught, Tuned
from vitlib.teachers import shipped

DOCUMENTS = ("deit", "wecolora", "dual_ssl_kd", "afr_pruning", "multi_distillation")
WORDS = {3: "three", 10: "ten", 1000: "1,000"}


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
    smoke, quick, cifar, paper = (of("deit", profile) for profile in ("smoke", "quick", "cifar", "paper"))
    blocks = [model.depth for model in smoke.students.values()]
    yield f"| `smoke` | {digits(smoke.data)} digits, {min(blocks)}-{max(blocks)} blocks, {smoke.recipe.epochs} epochs"
    yield f"| `quick` | {digits(quick.data)} handwritten digits of {quick.data.image_size} × {quick.data.image_size} pixels"
    yield f"micro models, {seeds(quick)} |"
    (blocks,) = {model.depth for model in cifar.students.values()}
    yield f"CIFAR-10 at {cifar.data.image_size} px, DeiT-Ti and DeiT-S of {blocks} blocks, {seeds(cifar)} |"
    yield f"ImageNet-1k at {paper.data.image_size} and {paper.finetune_size} px, {paper.recipe.epochs} and {paper.long_epochs} epochs;"
    yield f"for {quick.recipe.epochs} epochs on {digits(quick.data)} digits"
    yield f"at `quick` digits from {quick.data.image_size} to {quick.finetune_size} px"
    long = f"{quick.long_factor:g} × the epochs at `quick`, {cifar.long_factor:g} × at `cifar`"
    yield f'"Longer" is {long}, and at `paper` {paper.long_epochs} epochs for {paper.recipe.epochs}, as published'
    yield f"| `temperature` = {paper.temperature} |"
    yield f"| `kd_weight` = {paper.soft_weight}; {paper.hard_weight} |"
    yield f"fine-tuning at {paper.finetune_size} px is the code's command: a constant {paper.finetune.lr:g}".replace("e-06", "e-6")
    assert paper.finetune.lr == paper.finetune.min_lr and paper.finetune.mode == "eval"
    assert list(quick.students) == ["tiny", "small", "base"] and list(cifar.students) == ["tiny", "small"]  # "Ti, S and B", "Ti and S"


def wecolora():
    smoke, quick, cifar, paper = (of("wecolora", profile) for profile in ("smoke", "quick", "cifar", "paper"))
    yield f"| `smoke` | {digits(smoke.data)} digits, {smoke.recipe.epochs} epochs:"
    probed = {digits(data) for data in quick.downstream.values()}
    yield f"{digits(quick.data)} of {whole(quick.data)} handwritten digits at {quick.data.image_size} px (probes: all {probed.pop()})"
    yield f"the shipped {depth('supervised')}-block teacher, {seeds(quick)} |"
    yield f"CIFAR-10 at {cifar.data.image_size} px, a ViT-Ti teacher pretrained there as one of the runs, {seeds(cifar)} |"
    yield f"{100 * paper.data.fraction:g} % of ImageNet-1k at {paper.data.image_size} px"
    stages = len(range(0, 12, paper.reductions[0])) - 1
    yield f"| {paper.staged_epochs} × {stages} + {paper.recipe.epochs - paper.staged_epochs * stages} epochs | `staged_epochs` |"
    yield f"(r = {quick.reductions[1]} at `quick`:"
    yield f"and {digits(quick.data)} handwritten digits stand for {100 * paper.data.fraction:g} % of ImageNet"
    yield f"smaller training set at `quick` ({digits(quick.timing_data)} digits)"
    assert paper.rank == 128 and not probed


def dual_ssl_kd():
    smoke, quick, cifar, paper = (of("dual_ssl_kd", profile) for profile in ("smoke", "quick", "cifar", "paper"))
    yield f"| `smoke` | {digits(smoke.data)} and {digits(smoke.downstream['few'])} digits at {smoke.data.image_size} px"
    sizes = f"at {quick.data.image_size} px (Figure 1: {quick.distance_data.image_size} px)"
    yield f"{digits(quick.data)} of {whole(quick.data)} handwritten digits {sizes}, the shipped {depth('dino')}-block teachers"
    yield f"a student of {quick.student.depth} blocks, {seeds(quick)} |"
    yield f"CIFAR-10 at {cifar.data.image_size} px, ViT-S teachers pretrained there first, a ViT-Ti student, {seeds(cifar)} |"
    yield f"ImageNet-1k at {paper.data.image_size} px, ViT-B/16 teachers, a ViT-Ti student, {seeds(paper)} |"
    runs = [run for run in study("dual_ssl_kd", "paper").specs.values() if isinstance(run, Tuned | Taught | Joint)]
    trainings = [run for run in runs if run.data.source == "folder/imagenet"]
    epochs = sorted({run.recipe.epochs for run in trainings})
    yield f"{len(trainings)} trainings on ImageNet-1k of {epochs[0]} or {epochs[1]} epochs"
    yield f"CL's share in the output term (1), {paper.lambda_1:g}; the rest is MIM's"
    yield f"CL's share in the attention term (3), {paper.lambda_2:g}; the rest is MIM's"
    few = quick.downstream["few"]
    yield f"at `quick` {few.per_class} a class, {digits(few)} in all, at `cifar` {cifar.downstream['few'].per_class} a class"
    yield f'"shifted" (`quick` alone) trains on {quick.downstream["shifted"].per_class} digits a class'
    yield f"at `quick` digits of {quick.distance_data.image_size} px, where all else has {quick.data.image_size}"
    yield f"At `quick` it has {quick.student.depth} blocks;"
    yield f"with layer-wise rates of {paper.finetune.layer_decay}"


def afr_pruning():
    smoke, quick, cifar, paper = (of("afr_pruning", profile) for profile in ("smoke", "quick", "cifar", "paper"))
    sets = f"{digits(smoke.data)} and {digits(smoke.fine['few'])} digits at {smoke.data.image_size} px"
    yield f"| `smoke` | {sets}, {smoke.recipe.epochs} epoch, {seeds(smoke)}: structure only"
    yield f"| `quick` | {digits(quick.data)} of {whole(quick.data)} handwritten digits at {quick.data.image_size} px"
    yield f'"few": {digits(quick.fine["few"])} of them; the shipped {depth("dino")}-block teachers, {seeds(quick)} |'
    few = WORDS[10 * cifar.fine["few"].per_class]
    yield f'CIFAR-10 at {cifar.data.image_size} px, "few": {few} images of it; ViT-Ti pretrained there first, {seeds(cifar)} |'
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
    smoke, quick, cifar, paper = (of("multi_distillation", profile) for profile in ("smoke", "quick", "cifar", "paper"))
    runs = {profile: len(study("multi_distillation", profile).specs) for profile in ("smoke", "quick", "cifar", "paper")}
    yield f"| {digits(smoke.data)} handwritten digits, {smoke.recipe.epochs} epoch: structure only"
    yield f"the numbers mean nothing | {runs['smoke']} runs"
    layers = 2 + 2 * sum(quick.model.blocks)
    size = f"{quick.data.image_size} × {quick.data.image_size} pixels"
    yield f"{digits(quick.data)} handwritten digits of {size}, ResNets of {layers} narrow layers"
    yield f"{quick.numbers} trials | {runs['quick']} runs"
    assert 2 + 2 * sum(paper.model.blocks) == 2 + 2 * sum(cifar.model.blocks) == 18
    yield f"CIFAR-10 at {cifar.data.image_size} px, ResNet18, {cifar.recipe.epochs} epochs"
    yield f"{cifar.numbers} trials in bf16 | {runs['cifar']} runs"
    yield f"the same in fp32 | {runs['paper']} runs"
    assert paper.seeds_of_trials == cifar.seeds_of_trials
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
    quick, cifar, paper, deit_quick = of("afr_pruning", "quick"), of("deit", "cifar"), of("deit", "paper"), of("deit", "quick")
    sizes = [digits(data) for data in _embedded("quick")]
    yield f"{min(sizes)} to {max(sizes)} of scikit-learn's handwritten digits"
    yield f"micro models, {seeds(quick)} |"
    yield f"CIFAR-10 at {cifar.data.image_size} px, ViT-Ti/S of {cifar.students['tiny'].depth} blocks"
    yield f"sets at {paper.data.image_size} (and {paper.finetune_size}) px"
    yield from _of_desk()
    widths = [model.embed_dim for model in deit_quick.students.values()]
    yield f"| {deit_quick.recipe.epochs} epochs, widths {min(widths)} to {max(widths)} |"
    yield f"| {quick.generic['digits'].per_class} a class, for time |"
    two = of("dual_ssl_kd", "quick")
    yield f"| {two.recipe.epochs} epochs |"
    yield f"| {two.data.per_class} a class, for time |"
    yield f"| {of('multi_distillation', 'quick').data.per_class} a class; equal effective steps |"
    micro = shipped.entry("dino")["model"]
    grid = shipped.entry("dino")["input"]["image_size"] // micro["patch_size"]
    yield f"a {micro['depth']}-block micro ViT (width {micro['embed_dim']}, an {grid} × {grid} grid at 32 px)"
    epochs = {name: shipped.entry(name)["method"]["recipe"]["epochs"] for name in ("dino", "mae")}
    yield f"DINO saw {epochs['dino']} epochs, MAE {epochs['mae']}"


def _of_desk():
    desk = {paper: of(paper, "desk") for paper in DOCUMENTS}
    (count,) = {len(settings.seeds) for settings in desk.values()}
    yield f"Points: mean of {count} seeds; lines: 95 % interval"
    yield f"verdicts: as `quick`, {count} seeds |"
    yield f"`desk` has {len(desk['multi_distillation'].seeds_of_trials)} selections in multi-distillation"
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
