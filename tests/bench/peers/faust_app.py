"""A peer: a Faust agent with a Table that counts the same outcomes, as modestly as it can be done.

At-least-once. The Table holds which items of a request were seen and taken, in memory and in a
changelog topic. The feeds themselves are in a dict, which costs less and is lost in a crash. It has
no window, so it never closes a request, and it publishes nothing.

    python -m tests.bench.peers.faust_app KAFKA GROUP INTERACTIONS
"""

import atexit
import sys
from datetime import UTC, datetime
from typing import Any

import faust
import msgspec

kafka, group, interactions = sys.argv[1:]

app = faust.App(
    group,
    broker=f"kafka://{kafka}",
    store="memory://",
    topic_partitions=4,
    topic_replication_factor=1,
    broker_commit_interval=1.0,
    consumer_auto_offset_reset="earliest",
    stream_wait_empty=False,
    web_enabled=False,
)
topic = app.topic(
    interactions, key_type=str, key_serializer="raw", value_type=bytes, value_serializer="raw"
)
outcomes = app.Table("outcomes", key_type=str, value_type=list, partitions=4)
decode = msgspec.json.Decoder().decode

feeds: dict[str, tuple[str, dict[str, int]]] = {}
totals = {"seen": 0, "takes": 0}


@app.agent(topic)  # type: ignore[untyped-decorator]
async def count(stream: Any) -> None:
    is_first = True
    async for value in stream:
        if is_first:
            log("ready")
            is_first = False
        record = decode(value)
        request_id = record["request_id"]
        item_ids = record.get("item_ids")
        if item_ids is not None:
            feeds[request_id] = (record["user_id"], {item: n for n, item in enumerate(item_ids)})
            continue

        feed = feeds.get(request_id)
        if feed is None or feed[0] != record["user_id"] or record["item_id"] not in feed[1]:
            continue
        bit = 1 << feed[1][record["item_id"]]
        seen, taken = outcomes.get(request_id) or (0, 0)
        is_take = record["kind"] == "dwell" and record["value"] >= 30
        if not (is_take or record["kind"] in {"view", "hide"}):
            continue
        now_taken = taken | bit if is_take else taken
        if (seen | bit, now_taken) != (seen, taken):
            totals["seen"] += not (seen & bit)
            totals["takes"] += now_taken != taken
            outcomes[request_id] = [seen | bit, now_taken]


def log(event: str, more: str = "") -> None:
    sys.stdout.write(f"timestamp={datetime.now(UTC).isoformat()} event={event}{more}\n")
    sys.stdout.flush()


def log_totals() -> None:
    log("totals", f" seen={totals['seen']} takes={totals['takes']}")


if __name__ == "__main__":
    atexit.register(log_totals)
    faust.Worker(app, loglevel="warning", quiet=True).execute_from_commandline()
