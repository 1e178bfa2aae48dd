"""Objective models: verified before they are trusted, then one onnxruntime call for each
micro-batch.

The only package that imports onnx and onnxruntime.
"""
