"""What the peers in Python share: the models, and one request ranked by itself.

The feed holds what a feed of the worker holds: every objective's score of each item, the weights
and the versions of the models.
"""

import time
from typing import Any

import numpy as np
import onnxruntime

WEIGHTS = {"quality": 0.5, "engagement": 0.5}
MODELS = {"quality": 1, "engagement": 1}


class Ranking:
    """Two sessions, and the requests that are open. They are forgotten when the process ends."""

    def __init__(self, models: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = {
            objective: onnxruntime.InferenceSession(
                f"{models}/{objective}/{version}/model.onnx", options
            )
            for objective, version in MODELS.items()
        }
        self.open: dict[str, dict[str, Any]] = {}

    def take(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Add the candidates of an event to its request. Return the request if it is complete."""
        request = self.open.get(event["request_id"])
        if request is None:
            request = self.open[event["request_id"]] = event
        else:
            request["candidates"] += event["candidates"]
        if len(request["candidates"]) < request["expected"]:
            return None
        return self.open.pop(event["request_id"])

    def rank(self, request: dict[str, Any]) -> dict[str, Any]:
        """The feed of a request."""
        matrix = np.array([c["features"] for c in request["candidates"]], np.float32)
        scores = {
            objective: session.run(None, {"features": matrix})[0].ravel().tolist()
            for objective, session in self.sessions.items()
        }
        items = []
        for place, candidate in enumerate(request["candidates"]):
            own = {objective: scores[objective][place] for objective in WEIGHTS}
            final_score = sum(weight * own[objective] for objective, weight in WEIGHTS.items())
            items.append(
                {"item_id": candidate["item_id"], "final_score": final_score, "scores": own}
            )

        items.sort(key=lambda item: (-item["final_score"], item["item_id"]))
        for position, item in enumerate(items):
            item["position"] = position
        return {
            "request_id": request["request_id"],
            "surface": request["surface"],
            "user_id": request["user_id"],
            "requested_at": request["requested_at"],
            "ranked_at": time.time_ns() // 1_000_000,
            "completion": "full",
            "weights": WEIGHTS,
            "models": MODELS,
            "items": items,
        }
