"""Operations that an update asks of a device: by formula against those that torch dispatches."""

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support import context
from vitlib.computing import result_of
from vitlib.inputs.models import ResNet, Vit
from vitlib.inputs.sources import Data
from vitlib.recipe import Augment, Recipe
from vitlib.studies.costs.amounts import amounts_of
from vitlib.teachers.pretrain import SupervisedTeacher
from vitlib.training.work.registry import Sets

DIGITS = Data(source="digits", image_size=8, per_class=12)
VIT, RESNET = Vit(embed_dim=16, depth=4, num_heads=2, patch_size=2), ResNet(width=8, blocks=(1, 1, 1, 1))
PLAIN = {"batch_size": 40, "lr": 1e-3, "eval_every": 9}
FREE = {  # views, which compute nothing, and names under which torch dispatches what it then dispatches again by another
    "alias", "as_strided", "detach", "diagonal", "expand", "lift_fresh", "movedim", "permute", "reshape", "select", "slice",
    "split", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view", "_unsafe_view", "split_with_sizes", "empty",
    "new_empty", "batch_norm", "conv2d", "dropout", "layer_norm", "linear", "matmul", "scaled_dot_product_attention", "to",
    "_record_function_enter_new", "_record_function_exit", "zero_",
}  # fmt: skip


class Counting(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation.overloadpacket.__name__ not in FREE
        return operation(*args, **kwargs or {})


def dispatched(spec):
    with Counting() as counting:
        result_of(spec, context())
    return counting.count


@pytest.mark.parametrize("model", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mixup": 0.8, "augment": Augment(crop=1, flip=0.5)},
        {"ema_decay": 0.9, "clip_grad": 1.0},
        {"optimizer": "momentum", "weight_decay": 1e-4},
    ],
    ids=str,
)
def test_operations_of_an_update_by_formula_are_those_that_torch_dispatches(model, fields):
    """Of the second epoch alone: what two epochs ask for, less what one does."""
    short, long = (SupervisedTeacher(data=DIGITS, model=model, recipe=Recipe(epochs=epochs, **PLAIN | fields), seed=0) for epochs in (1, 2))
    by_formula = [amounts_of(spec, Sets(context().data_dir)).kernels for spec in (short, long)]
    assert by_formula[1] - by_formula[0] == pytest.approx(dispatched(long) - dispatched(short), rel=0.3)
