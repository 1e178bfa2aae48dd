"""PyTorch to a version of an objective: a small network that predicts comments.

pip install torch==2.15.0 onnxscript==0.7.2 onnxruntime==1.32.0
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a file

from onnx_models.recipes.lesson import SEED, Lesson, lesson, out_folder, write

EPOCHS, BATCH = 20, 256


def train(taught: Lesson) -> nn.Module:
    """The features scaled inside the network, one hidden layer, and a score from 0 to 1."""
    rows = torch.from_numpy(taught.rows)
    target = torch.from_numpy(taught.target).float().unsqueeze(1)
    network = nn.Sequential(
        nn.BatchNorm1d(rows.shape[1]),
        nn.Linear(rows.shape[1], 32),
        nn.ReLU(),
        nn.Linear(32, 1),
        nn.Sigmoid(),
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.002, weight_decay=0.1)
    for _ in range(EPOCHS):
        for places in torch.randperm(len(rows)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.mse_loss(network(rows[places]), target[places]).backward()
            optimiser.step()
    # For inference: a BatchNorm that still trains would make a score depend on the candidates
    # beside it.
    return network.eval()


def main(words: Sequence[str] | None = None) -> None:
    """Train, export, write."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    out, taught = out_folder(words), lesson()
    network = train(taught)
    unseen = torch.from_numpy(taught.unseen_rows)
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
    write(out, exported.model_proto, taught, expected)


if __name__ == "__main__":
    main()
