"""Objective models: verified before they are trusted, then run once for each micro-batch.

- Which versions there are: `folder` scans, `catalogue` holds what is known, `registry` keeps it up
  to date, `session_cache` holds what is loaded.
- Which version scores: `resolver`.
- Scoring: `scorer` groups requests, `failing_rows` finds rows that make a model fail, `model` runs.
- Verification: `verifier` starts `verifier_process`, which runs the steps of `verify`.
  `verification` is what it is asked, and its limits. `files`, `manifest` and `graph` read and check
  a version's files. `refusal` has the reasons. `reopen` opens what was verified.
- Models that were trained elsewhere: `new_version`, and `classifier` for one of several classes.

The only package that imports onnx and onnxruntime.
"""
