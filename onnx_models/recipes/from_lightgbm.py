"""A version of an objective with LightGBM: gradient-boosted trees that predict comments.

pip install lightgbm==4.7.0 onnxmltools==1.16.0 onnxruntime==1.32.0
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import lightgbm
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a file

from onnx_models.recipes.training_data import SEED, load_training_data, out_folder, write

SETTINGS = {
    "objective": "regression",
    "num_leaves": 15,
    "learning_rate": 0.1,
    "min_data_in_leaf": 100,
    "seed": SEED,
    "num_threads": 1,
    "deterministic": True,
    "verbosity": -1,
}


def main(words: Sequence[str] | None = None) -> None:
    """Train, export, write."""
    out = out_folder(words)
    data = load_training_data()
    model = lightgbm.train(SETTINGS, lightgbm.Dataset(data.rows, data.target), num_boost_round=100)
    exported = convert_lightgbm(
        model,
        initial_types=[("features", FloatTensorType([None, data.rows.shape[1]]))],
        target_opset=15,
    )
    write(out, exported, data, model.predict(data.unseen_rows))


if __name__ == "__main__":
    main()
