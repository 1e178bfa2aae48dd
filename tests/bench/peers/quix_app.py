"""A peer: the same ranking as a Quix Streams application with exactly-once processing.

It holds open requests in a dict, which costs less than the framework's state and is forgotten when
it ends: what is open then is lost, exactly-once notwithstanding. Otherwise it is as modest as the
plain loop beside it.

    python -m tests.bench.peers.quix_app KAFKA GROUP CANDIDATES FEEDS MODELS
"""

import sys
from pathlib import Path
from typing import Any

from quixstreams import Application

from tests.bench.peers.ranking import Ranking

# By the default of 5 s a feed would wait for as long.
COMMIT_SECONDS = 0.02


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
    ranking = Ranking(models)

    def rank(event: dict[str, Any]) -> list[dict[str, Any]]:
        request = ranking.take(event)
        return [] if request is None else [ranking.rank(request)]

    frame = app.dataframe(app.topic(candidates, value_deserializer="json"))
    frame = frame.apply(rank, expand=True)
    frame.to_topic(app.topic(feeds, value_serializer="json"))
    app.run()
