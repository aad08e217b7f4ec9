"""An ONNX file whose weights are whole numbers of eight bits, quantised by ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vitlib import durable
from vitlib.deploy.needed import quiet, require

LINEAR = ["MatMul", "Gemm"]  # convolutions stay float32: whole-number ones are slower, and some versions run them with other types alone


def quantise(file: Path | str, path: Path | str) -> Path:
    """Write the weights of a file's linear layers as int8, a scale for each output channel.

    Activations are quantised as they come, each batch by its own range. Convolutions and attention itself stay float32.

    No limit is set to what that does to logits: measure it, on the processor that it will run on.

    Raises:
        SpecError: if the extra `deploy` is not installed.
    """
    require()
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    durable.make(Path(path).parent)
    with tempfile.TemporaryDirectory() as folder, durable.whole(Path(path)) as unfinished, quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(prepared, unfinished, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=LINEAR)
    return Path(path)
