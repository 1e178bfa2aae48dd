"""A version of an objective with scikit-learn: gradient-boosted trees that predict comments.

pip install scikit-learn==1.9.1 skl2onnx==1.20.0 onnxruntime==1.32.0
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingRegressor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a file

from onnx_models.recipes.training_data import SEED, load_training_data, out_folder, write


def main(words: Sequence[str] | None = None) -> None:
    """Train, export, write."""
    out = out_folder(words)
    data = load_training_data()
    model = GradientBoostingRegressor(
        n_estimators=100,
        max_depth=3,
        min_samples_leaf=100,
        max_features=0.3,
        subsample=0.5,
        random_state=SEED,
    )
    model.fit(data.rows, data.target)
    exported = convert_sklearn(
        model,
        initial_types=[("features", FloatTensorType([None, data.rows.shape[1]]))],
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    write(out, exported, data, model.predict(data.unseen_rows))


if __name__ == "__main__":
    main()
