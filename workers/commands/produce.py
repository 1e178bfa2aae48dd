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
from workers.commands.options import (
    BrokersAt,
    brokers_options,
    events_argument,
    example,
    format_option,
    json_option,
    settings,
)
from workers.streaming.clients import ADMIN, SENDER
from workers.streaming.send import Sender

_REMEMBERED = 200_000


class Stamps:
    """One new `requested_at` for all events of a request.

    At most 200,000 requests are remembered; then the oldest is forgotten.
    """

    def __init__(self) -> None:
        self._stamps: OrderedDict[str, int] = OrderedDict()

    def of(self, request_id: str) -> int:
        """The request's new time, ms since the epoch."""
        stamp = self._stamps.get(request_id)
        if stamp is None:
            stamp = time.time_ns() // 1_000_000
            self._stamps[request_id] = stamp
            if len(self._stamps) > _REMEMBERED:
                self._stamps.popitem(last=False)
        return stamp

    @property
    def requests(self) -> int:
        """How many requests are remembered."""
        return len(self._stamps)


class Pace:
    """Limits the rate of events. `rate` is in events a second; None: no limit."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = time.monotonic()

    def wait(self) -> None:
        """Wait until the next event may go."""
        if self._interval:
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next += self._interval


@click.command(
    epilog=example(
        "trimtab produce events.jsonl --rate 1000", "make_events.py ... | trimtab produce -"
    )
)
@brokers_options
@settings("topic_candidates")
@events_argument
@click.option(
    "--as-is",
    is_flag=True,
    help="Keep each requested_at. Without it, a request gets the time at which it is sent.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Send N events a second.  [default: as many as possible]",
)
@format_option
@json_option("Print the summary as JSON.")
def produce(
    brokers: BrokersAt,
    topic_candidates: str,
    file: BinaryIO,
    as_is: bool,
    rate: float | None,
    file_format: Format | None,
    as_json: bool,
) -> None:
    """Send the events of FILE to Kafka.

    FILE has JSON lines or length-delimited Protobuf, and may be - for standard input. The key of an
    event is the request_id. An event that cannot be read is sent unchanged, without a key if it has
    no request_id, and the worker answers with a dead letter. `trimtab validate` finds such events
    beforehand.
    """
    sender = Sender.to(brokers.cluster(ADMIN, SENDER), topic_candidates)
    stamps = None if as_is else Stamps()
    pace = Pace(rate)
    began = time.monotonic()
    requests: set[int] = set()  # hashes, because ids may be long
    unreadable = 0

    with _progress(file) as advance:
        for event in read_events(file, file_format):
            pace.wait()
            request_id = request_id_of(event.value, event.format)
            if request_id is None:
                unreadable += 1
            else:
                requests.add(hash(request_id))
            send_event(sender, event, request_id, stamps)
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
    if as_json:
        click.echo(json.dumps(summary))
    else:
        also = f", {unreadable} of them unreadable" if unreadable else ""
        click.echo(
            f"sent {sender.sent:,} events of {len(requests):,} requests to {topic_candidates}{also}"
            f" in {summary['seconds']:.1f} s ({summary['events_per_second']:,} events/s)"
        )


def send_event(
    sender: Sender, event: RawEvent, request_id: str | None, stamps: Stamps | None
) -> None:
    """Send one event with its key and content type. `stamps`: with a new `requested_at`."""
    value = event.value
    if stamps is not None and request_id is not None:
        value = restamp(value, event.format, stamps.of(request_id))
    key = None if request_id is None else request_id.encode("utf-8", "surrogatepass")
    sender.send(key, value, [("content-type", event.format.content_type)])


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[int], None]]:
    """A progress bar over the bytes of the file, if there is a terminal and the length is known."""
    length = file.seek(0, 2) if file.seekable() and sys.stderr.isatty() else 0
    if not length:
        yield lambda _: None
        return
    file.seek(0)
    with click.progressbar(length=length, label="sending", file=sys.stderr) as bar:
        yield bar.update
