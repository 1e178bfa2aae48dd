"""The models of this repository: posts, their features, and the training of both objectives.

Nothing under `workers/` imports this package. A worker needs only the ONNX file of a model and its
manifest.
"""
