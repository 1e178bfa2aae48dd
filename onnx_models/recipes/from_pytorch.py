"""A version of an objective with PyTorch: a small network that predicts comments.

pip install torch==2.15.0 onnxscript==0.7.2 onnxruntime==1.32.0
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a file

from onnx_models.recipes.training_data import (
    SEED,
    TrainingData,
    load_training_data,
    out_folder,
    write,
)

EPOCHS = 20
BATCH = 256


def train(data: TrainingData) -> nn.Module:
    """Train a network that scales the features itself, with one hidden layer, and a score from 0 to
    1.
    """
    rows = torch.from_numpy(data.rows)
    target = torch.from_numpy(data.target).float().unsqueeze(1)
    network = nn.Sequential(
        nn.BatchNorm1d(rows.shape[1]),
        nn.Linear(rows.shape[1], 32),
        nn.ReLU(),
        nn.Linear(32, 1),
        nn.Sigmoid(),
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.002, weight_decay=0.1)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.mse_loss(network(rows[batch]), target[batch]).backward()
            optimiser.step()

    # In inference mode. In training mode, BatchNorm would make a score depend on the candidates
    # beside it.
    return network.eval()


def main(words: Sequence[str] | None = None) -> None:
    """Train, export, write."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    out = out_folder(words)
    data = load_training_data()
    network = train(data)

    unseen = torch.from_numpy(data.unseen_rows)
    exported = torch.onnx.export(
        network,
        (unseen[:2],),
        input_names=["features"],
        output_names=["score"],
        dynamic_shapes=({0: torch.export.Dim("candidates")},),
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    with torch.no_grad():
        expected = network(unseen).numpy().reshape(-1)
    write(out, exported.model_proto, data, expected)


if __name__ == "__main__":
    main()
