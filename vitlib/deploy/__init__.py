"""A plain module as an ONNX file: written, compared with the module, made int8, timed beside it. Start from `export.export`.

Nothing here knows runs; onnx, onnxruntime and onnxscript come with the extra `deploy`, which `needed.require` asks for.
"""
