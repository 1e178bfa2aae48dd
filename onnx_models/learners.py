"""Two families of models: gradient-boosted trees and small MLPs.

A learner takes rows `[posts, features]`, a target `[posts]` and a seed. It returns the part of an
ONNX graph that computes the target from the rows. It runs on one thread, and everything random
comes from the seed, so the same input gives the same bytes.
"""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from onnx_models import graph
from onnx_models.communities import Numbers
from onnx_models.graph import Part, Rows

Learner = Callable[[Rows, Numbers, int], Part]

NETWORKS = 4
EPOCHS = 30


def boosted_trees(rows: Rows, target: Numbers, seed: int) -> Part:
    """150 trees of depth 2: few enough to take about a microsecond a candidate."""
    model = GradientBoostingRegressor(
        n_estimators=150,
        learning_rate=0.1,
        max_depth=2,
        min_samples_leaf=100,
        max_features=0.3,
        subsample=0.5,
        random_state=seed,
    )
    model.fit(rows, target)
    converted = convert_sklearn(
        model,
        initial_types=[(graph.INPUT, FloatTensorType([None, rows.shape[1]]))],
        target_opset={"": 17, "ai.onnx.ml": 1},
    )
    return graph.trees(converted)


def mean_of_mlps(rows: Rows, target: Numbers, seed: int) -> Part:
    """The mean of four networks with 16 hidden units each.

    The four networks and the scaling of their inputs are combined into one network with 64 hidden
    units.
    """
    centre = rows.mean(axis=0, dtype=np.float64)
    spread = rows.std(axis=0, dtype=np.float64)
    spread[spread == 0] = 1.0
    scaled = (rows - centre) / spread

    networks = [_mlp(scaled, target, seed + number) for number in range(NETWORKS)]
    w1 = np.hstack([network.coefs_[0] for network in networks]) / spread[:, None]
    b1 = np.hstack([network.intercepts_[0] for network in networks]) - centre @ w1
    w2 = np.vstack([network.coefs_[1] for network in networks]) / NETWORKS
    b2 = np.mean([network.intercepts_[1] for network in networks], axis=0)
    return graph.mlp(
        hidden=(_float32(w1), _float32(b1)),
        last=(_float32(w2), _float32(b2)),
    )


def _mlp(scaled: Numbers, target: Numbers, seed: int) -> MLPRegressor:
    network = MLPRegressor(
        hidden_layer_sizes=(16,),
        alpha=1.0,
        learning_rate_init=0.002,
        batch_size=256,
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # The number of epochs is the regularisation: training should end before it converges.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(scaled, target)


def _float32(values: NDArray[np.float64]) -> Rows:
    return values.astype(np.float32)
