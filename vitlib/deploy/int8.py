"""An ONNX file whose weights are whole numbers of eight bits, quantised by ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vitlib.deploy.export import written_whole
from vitlib.deploy.needed import quiet, require


def quantise(file: Path | str, path: Path | str) -> Path:
    """Write a file's weights as int8, a scale for each output channel; activations are quantised as they come, by each image's range.

    No limit is set to what that does to logits: measure it, on the processor that it will run on.

    Raises:
        SpecError: if the extra `deploy` is not installed.
    """
    require()
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, written_whole(path) as unfinished, quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(prepared, unfinished, per_channel=True, weight_type=QuantType.QInt8)
    return Path(path)
