"""A peer: the same ranking as a Bytewax dataflow.

At-least-once, if recovery is configured. It is not here: it costs more. So what is open when it ends
is lost.

    python -m tests.bench.peers.bytewax_flow KAFKA GROUP CANDIDATES FEEDS MODELS
"""

import sys
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import (
    KafkaSinkMessage,
    KafkaSource,
)
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from tests.bench.peers.ranking import Ranking

kafka, group, candidates, feeds, models = sys.argv[1:]
ranking = Ranking(models)


def decode(message: Any) -> tuple[str, dict[str, Any]]:
    event: dict[str, Any] = msgspec.json.decode(message.value)
    return event["request_id"], event


def collect(
    request: dict[str, Any] | None, event: dict[str, Any]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The request so far, which is dropped when it is complete, and what is complete."""
    if request is None:
        request = event
    else:
        request["candidates"] += event["candidates"]
    if len(request["candidates"]) < request["expected"]:
        return request, []
    return None, [request]


def rank(keyed: tuple[str, dict[str, Any]]) -> Any:
    request_id, request = keyed
    feed = msgspec.json.encode(ranking.rank(request))
    return KafkaSinkMessage(key=request_id.encode(), value=feed)


flow = Dataflow("ranking")
messages = op.input("candidates", flow, KafkaSource([kafka], [candidates]))
events = op.map("decode", messages, decode)
requests = op.stateful_flat_map("collect", events, collect)
ranked = op.map("rank", requests, rank)
kop.output("feeds", ranked, brokers=[kafka], topic=feeds)

if __name__ == "__main__":
    cli_main(flow)
