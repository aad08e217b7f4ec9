"""python -m vitlib compress METHOD --model MODEL --data PHOTOS --out FOLDER: the front door from a shell."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitlib import paths
from vitlib.messages import brief

METHODS = {
    "afr": "prune weights: most of them become zero, the model keeps its shape",
    "wecolora": "drop blocks: every second one stays and learns what the dropped ones did; smaller and faster",
    "deit": "train a small model on labels and on one teacher's decisions",
    "one-teacher": "train a small model on labels and on what one teacher says of each photo",
    "two-teachers": "the same with two self-supervised teachers, contrastive first (DINO), masked-image second (MAE)",
    "multi": "train two small models that teach each other, without a teacher",
}
EXAMPLE = """\
example:
  python -m vitlib compress afr --model vit_small_patch16_224 --data photos --out out --sparsity 0.9

photos is a folder with a folder for each class, or with train/ and test/ that hold such folders; nothing in it is changed. out/ then has
model.safetensors (for timm), model.npz (packed, smaller where weights are zero), summary.md and .csv (before and after), and figure.png;
with --onnx and --int8 also model.onnx and model.int8.onnx (for ONNX Runtime).
A command that was interrupted goes on where it was when it is given again.
"""


def add_to(commands: Any) -> None:
    """Add the command to those of `python -m vitlib`."""
    parser = commands.add_parser("compress", help="Your model and your photos in, a smaller timm model and its numbers out.")
    methods = parser.add_subparsers(required=True, metavar="method", title="methods")
    for name, what in METHODS.items():
        told = {"help": what, "description": f"{what[0].upper()}{what[1:]}.", "epilog": EXAMPLE}
        method = methods.add_parser(name, **told, formatter_class=argparse.RawDescriptionHelpFormatter)
        method.set_defaults(act=compress, method=name)
        _common(method, "the small model, by timm's name" if name not in ("afr", "wecolora") else "a timm name or a checkpoint file")
        _own(method, name)


def compress(options: argparse.Namespace) -> int:
    """Compute, print the summary, and write model, summary and figure."""
    from vitlib.compress import doors
    from vitlib.deploy import needed
    from vitlib.report import figures, tables
    from vitlib.runs.store import require_writable

    out = options.out
    require_writable("out", out, "choose a folder you may write to")
    files = [name for name, wanted in {"model.onnx": options.onnx, "model.int8.onnx": options.int8}.items() if wanted]
    if files:
        needed.require()
    keywords = {name: value for name in KEYWORDS if (value := getattr(options, name)) is not None} | dict(options.set)
    keywords |= {"pretrained": not options.untrained}
    calls: dict[str, Callable[[], Any]] = {
        "afr": lambda: doors.prune(options.model, options.data, options.criterion, options.sparsity, **keywords),
        "wecolora": lambda: doors.weight_copy(options.model, options.data, options.reduction, options.start, options.schedule, **keywords),
    }
    distill = lambda: doors.distill(options.model, options.data, options.teacher, options.method, **keywords)  # noqa: E731
    compressed = calls.get(options.method, distill)()
    for name in ("model.safetensors", "model.npz"):
        compressed.save(out / name)
    for name in files:
        compressed.save_onnx(out / name, int8="int8" in name)
    told = [compressed.how_to_load(str(out / name)) for name in ("model.safetensors", *files)]
    loading = "\n".join(f"    {line}" for lines in told for line in lines.splitlines())
    tables.save(compressed.summary(), out / "summary", *compressed.notes, loading)
    photos = int(compressed.summary()["test photos"].iloc[-1])
    figures.save(compressed.figure(), out / "figure", f"{options.method}; {photos} test photos, one training of each model")
    print(f"{compressed}\n\n" + "\n".join(told))
    return 0


KEYWORDS = ("architecture", "image_size", "epochs", "seed", "device", "executor", "results_dir", "data_dir")


def _common(parser: argparse.ArgumentParser, model: str) -> None:
    parser.add_argument("--model", required=True, help=model)
    parser.add_argument("--data", required=True, help="folder of photos, or a set by its name (torchvision/dtd)")
    parser.add_argument("--out", required=True, type=path_given, help="folder that the results are written to")
    parser.add_argument("--architecture", help="of a checkpoint file: the timm name of the network whose weights it holds")
    parser.add_argument("--untrained", action="store_true", help="begin from random weights instead of released ones (models and teachers)")
    parser.add_argument("--image-size", type=int, help="pixels; default: the model's own size")
    parser.add_argument("--epochs", type=int, help="of training; default: by the number of photos")
    parser.add_argument("--seed", type=int, help="default: 0")
    parser.add_argument("--device", help="auto (default), cpu, cuda")
    parser.add_argument("--executor", help="inline (default), local: worker processes, several at once, or ray: a cluster")
    parser.add_argument("--onnx", action="store_true", help="also model.onnx, compared with the model on test photos; needs vitlib[deploy]")
    parser.add_argument("--int8", action="store_true", help="also model.int8.onnx, its weights of eight bits; the summary has its accuracy")
    parser.add_argument("--results-dir", type=_folder, help="where trainings are kept, so that nothing is computed twice")
    parser.add_argument("--data-dir", type=_folder, help="where sets lie that are given by name")
    more = "any other keyword, for instance lr=1e-4; repeatable"
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="NAME=VALUE", help=more)


def _own(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "afr":
        parser.add_argument("--sparsity", type=float, default=0.9, help="share of the weights that become zero; default: 0.9")
        parser.add_argument("--criterion", default="afr", help="afr (default), snip, refer, magnitude, random")
    elif name == "wecolora":
        parser.add_argument("--reduction", type=int, default=2, help="one of so many blocks stays; default: 2")
        parser.add_argument("--start", default="svd", help="of the adapters: svd (default), svd_shift, zero_b, random")
        parser.add_argument("--schedule", default="staged", help="staged (default): block after block; plain")
    else:
        parser.add_argument("--teacher", action="append", default=[], help="a timm name or a checkpoint file; twice for two teachers")


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"got {brief(text)}; allowed: NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def path_given(given: str) -> Path:
    """An argument that is a path; argparse says what is wrong with it."""
    try:
        return paths.from_shell(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"got {brief(given)}; allowed: a path ({error})") from None


def _folder(given: str) -> str:
    return str(path_given(given))
