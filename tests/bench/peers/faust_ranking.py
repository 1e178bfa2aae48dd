"""A peer: the same ranking as a Faust agent.

At-least-once. It holds open requests in a dict, which costs less than a Table and is forgotten when
it ends: what is open then is lost. Otherwise it is as modest as the plain loop beside it.

    python -m tests.bench.peers.faust_ranking KAFKA GROUP CANDIDATES FEEDS MODELS
"""

import sys
from pathlib import Path
from typing import Any

import faust
import msgspec

from tests.bench.peers.ranking import Ranking

kafka, group, candidates, feeds, models = sys.argv[1:]
# Faust reads the command line, too.
del sys.argv[1:]

app = faust.App(
    group,
    broker=f"kafka://{kafka}",
    store="memory://",
    datadir=str(Path(models).parent / f"{group}-data"),
    topic_partitions=4,
    topic_replication_factor=1,
    broker_commit_interval=1.0,
    consumer_auto_offset_reset="earliest",
    stream_wait_empty=False,
    web_enabled=False,
)
source = app.topic(
    candidates, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw"
)
sink = app.topic(
    feeds, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw"
)
ranking = Ranking(models)


@app.agent(source)  # type: ignore[untyped-decorator]
async def rank(stream: Any) -> None:
    async for value in stream:
        request = ranking.take(msgspec.json.decode(value))
        if request is not None:
            feed = msgspec.json.encode(ranking.rank(request))
            await sink.send(key=request["request_id"].encode(), value=feed)


if __name__ == "__main__":
    faust.Worker(app, loglevel="warning", quiet=True).execute_from_commandline()
