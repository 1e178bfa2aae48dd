"""The models of this repository: real posts, their features, and the training of both objectives.

Nothing under `workers/` imports this package: a worker knows a model by its ONNX file and manifest
alone.
"""
