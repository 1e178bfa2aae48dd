"""Recipes: models of other trainers, exported in the form that `trimtab models new` takes.

onnx_models/README.md shows how to use them.
"""
