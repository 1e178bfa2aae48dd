"""A version of an objective with XGBoost: a classifier. Its score is the probability of many
comments.

pip install xgboost==3.2.0 onnxmltools==1.16.0 onnxruntime==1.32.0
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from xgboost import XGBClassifier

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a file

from onnx_models.recipes.one_score import probability_of
from onnx_models.recipes.training_data import SEED, load_training_data, out_folder, write


def main(words: Sequence[str] | None = None) -> None:
    """Train, export, keep one score, write."""
    out = out_folder(words)
    data = load_training_data()
    model = XGBClassifier(
        n_estimators=100, max_depth=3, learning_rate=0.1, subsample=0.5, random_state=SEED, n_jobs=1
    )
    model.fit(data.rows, data.target > 0.5)
    exported = convert_xgboost(
        model,
        initial_types=[("features", FloatTensorType([None, data.rows.shape[1]]))],
        target_opset=15,
    )
    write(out, probability_of(exported, 1), data, model.predict_proba(data.unseen_rows)[:, 1])


if __name__ == "__main__":
    main()
