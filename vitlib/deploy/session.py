"""An ONNX file in ONNX Runtime, on the CPU, with a stated number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

IMAGES, LOGITS = "images", "logits"  # names of what goes in and what comes out
BATCH = 64


class OnnxModel:
    """A file that takes `images` (N, C, H, W) float32 and gives `logits` (N, classes), N being any number."""

    def __init__(self, path: Path | str, threads: int = 1):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to others
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def once(self, images: np.ndarray) -> np.ndarray:
        """Logits of one batch."""
        return self._session.run([LOGITS], {IMAGES: images})[0]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits of any number of images, 64 at a time."""
        return np.concatenate([self.once(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])
