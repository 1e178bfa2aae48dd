"""`trimtab produce`: send a file of candidate events as an upstream producer would."""

import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from workers.codec.event_files import RawEvent, read_events, request_id_of, restamp
from workers.codec.formats import Format
from workers.commands.options import KAFKA, cluster_of, example, settings
from workers.settings import FORMATS
from workers.streaming.clients import ADMIN, SENDER
from workers.streaming.send import Sender

_REMEMBERED = 200_000


class Stamps:
    """One new `requested_at` for all events of a request; the oldest request is forgotten past a
    bound.
    """

    def __init__(self) -> None:
        self._stamps: OrderedDict[str, int] = OrderedDict()

    def of(self, request_id: str) -> int:
        """The request's new time, ms since the epoch."""
        stamp = self._stamps.get(request_id)
        if stamp is None:
            stamp = self._stamps[request_id] = time.time_ns() // 1_000_000
            if len(self._stamps) > _REMEMBERED:
                self._stamps.popitem(last=False)
        return stamp

    @property
    def requests(self) -> int:
        """How many requests are remembered."""
        return len(self._stamps)


class Pace:
    """Lets through so many events a second; None: as many as come."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = time.monotonic()

    def wait(self) -> None:
        if self._interval:
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next += self._interval


@click.command(
    epilog=example(
        "trimtab produce events.jsonl --rate 1000", "make_events.py ... | trimtab produce -"
    )
)
@settings(*KAFKA, "topic_candidates")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--as-is",
    is_flag=True,
    help="Keep each requested_at; otherwise a request gets the time of sending.",
)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Events a second.  [default: unlimited]"
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Format of FILE.  [default: found by looking]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def produce(
    kafka: str | None,
    kafka_config: str | None,
    topic_candidates: str,
    file: BinaryIO,
    as_is: bool,
    rate: float | None,
    form: str | None,
    as_json: bool,
) -> None:
    """Send the events of FILE (JSON lines or length-delimited Protobuf; - is standard input).

    The key is the request_id. An event that cannot be read is sent unchanged, without a key where
    it has no request_id: the worker answers with a dead letter. `trimtab validate` tells
    beforehand.
    """
    sender = Sender.to(cluster_of(kafka, kafka_config, ADMIN, SENDER), topic_candidates)
    stamps, pace, began, requests = Stamps(), Pace(rate), time.monotonic(), set[int]()
    unreadable = 0
    with _progress(file) as advance:
        for event in read_events(file, None if form is None else Format(form)):
            pace.wait()
            request_id = request_id_of(event.value, event.format)
            unreadable += request_id is None
            if request_id is not None:
                requests.add(hash(request_id))
            send_event(sender, event, request_id, None if as_is else stamps)
            advance(len(event.value))
    sender.finish()
    seconds = time.monotonic() - began
    summary = {
        "events": sender.sent,
        "requests": len(requests),
        "unreadable": unreadable,
        "seconds": round(seconds, 3),
        "events_per_second": round(sender.sent / seconds) if seconds else 0,
    }
    click.echo(json.dumps(summary) if as_json else _sentence(summary, topic_candidates))


def send_event(
    sender: Sender, event: RawEvent, request_id: str | None, stamps: Stamps | None
) -> None:
    """Send one event with its key and content type, re-stamped if `stamps` are given."""
    value = event.value
    if stamps is not None and request_id is not None:
        value = restamp(value, event.format, stamps.of(request_id))
    key = None if request_id is None else request_id.encode("utf-8", "surrogatepass")
    sender.send(key, value, [("content-type", event.format.content_type)])


def _sentence(summary: dict[str, float], topic: str) -> str:
    unreadable = f", {summary['unreadable']} of them unreadable" if summary["unreadable"] else ""
    return (
        f"sent {summary['events']:,} events of {summary['requests']:,} requests to {topic}{unreadable} "
        f"in {summary['seconds']:.1f} s ({summary['events_per_second']:,} events/s)"
    )


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[int], None]]:
    """A progress bar over the file's bytes, where there is a terminal and a length to measure by."""
    length = file.seek(0, 2) if file.seekable() and sys.stderr.isatty() else 0
    if not length:
        yield lambda _: None
        return
    file.seek(0)
    with click.progressbar(length=length, label="sending", file=sys.stderr) as bar:
        yield bar.update
