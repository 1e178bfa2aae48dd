"""A peer: the same ranking as a Quix Streams application with exactly-once processing.

It holds open requests in a dict, which costs less than the framework's state and is forgotten when
it ends: what is open then is lost, exactly-once notwithstanding. Otherwise it is as modest as the
plain loop beside it.

    python quix_app.py KAFKA GROUP CANDIDATES FEEDS MODELS
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from quixstreams import Application  # type: ignore[import-not-found]  # lives in the peers' environment

WEIGHTS = {"quality": 0.5, "engagement": 0.5}
# By the default of 5 s a feed would wait for as long.
COMMIT_SECONDS = 0.02


class Ranking:
    def __init__(self, models: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = {
            o: onnxruntime.InferenceSession(f"{models}/{o}/1/model.onnx", options) for o in WEIGHTS
        }
        self.open: dict[str, dict[str, Any]] = {}

    def take(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        request = self.open.setdefault(event["request_id"], event)
        if request is not event:
            request["candidates"] += event["candidates"]
        if len(request["candidates"]) < request["expected"]:
            return []
        return [self.rank(self.open.pop(event["request_id"]))]

    def rank(self, request: dict[str, Any]) -> dict[str, Any]:
        matrix = np.array([c["features"] for c in request["candidates"]], np.float32)
        scores = {
            o: s.run(None, {"features": matrix})[0].ravel().tolist()
            for o, s in self.sessions.items()
        }
        items = [
            {
                "item_id": candidate["item_id"],
                "final_score": sum(weight * scores[o][place] for o, weight in WEIGHTS.items()),
                "scores": {o: scores[o][place] for o in WEIGHTS},
            }
            for place, candidate in enumerate(request["candidates"])
        ]
        items.sort(key=lambda item: (-item["final_score"], item["item_id"]))
        return {"request_id": request["request_id"], "user_id": request["user_id"], "items": items}


class App(Application):  # type: ignore[misc]  # see its import
    def _on_assign(self, consumer: Any, assigned: list[Any]) -> None:
        super()._on_assign(consumer, assigned)
        sys.stdout.write("ready\n" * len(assigned))
        sys.stdout.flush()


if __name__ == "__main__":
    kafka, group, candidates, feeds, models = sys.argv[1:]
    app = App(
        broker_address=kafka,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=COMMIT_SECONDS,
        auto_create_topics=False,
        state_dir=Path(models).parent / f"{group}-state",
    )
    frame = app.dataframe(app.topic(candidates, value_deserializer="json"))
    frame = frame.apply(Ranking(models).take, expand=True)
    frame.to_topic(app.topic(feeds, value_serializer="json"))
    app.run()
