"""Paper name: how its runs are computed."""

from __future__ import annotations

from vitlib.computing import Context, Result, computes
from vitlib.inputs.data import seed_everything, test_batches, training_batches
from vitlib.inputs.models import build
from vitlib.inputs.sources import class_names
from vitlib.papers.paper_name.specs import PaperNameTraining
from vitlib.training.evaluate import judged, labels_of, scores_of, validated
from vitlib.training.loop import cross_entropy, train


@computes(PaperNameTraining)
def train_on_labels(spec: PaperNameTraining, context: Context) -> Result:
    data, recipe, place = spec.data, spec.recipe, {"device": context.device, "data_dir": context.data_dir}
    classes = len(class_names(data, context.data_dir))
    seed_everything(spec.seed, context.device)
    sizes = {"image_size": data.image_size, "channels": data.channels, "num_classes": classes}
    model = build(spec.model, drop_path=recipe.drop_path, **sizes).to(context.device)
    trained = train(
        model,
        training_batches(data, recipe, seed=spec.seed, **place),
        cross_entropy,
        recipe,
        num_classes=classes,
        context=context,
        evaluate=lambda model: validated(model, data, context),
    )
    test = test_batches(data, **place)
    metrics, by_image = judged(scores_of(model, test), labels_of(test))
    return Result(metrics | trained.metrics, trained.history, by_image, measured=trained.measured)
