"""The Faust app: what Faust calls, and what the stage asks of Kafka through Faust.

Faust brings the group, the partitions of the input beside those of the changelog, the Table and its
recovery. What is counted and when it is committed is in `stage.py`.
"""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Awaitable, Iterable, Mapping
from os import _exit
from typing import Any

import faust
from faust.auth import SASLCredentials, SSLCredentials

from workers.codec.user_outcomes import USER_OUTCOMES_HEADERS
from workers.log import log
from workers.outcomes.user_sums import UserSums, add_user_sums
from workers.streaming.topics import UsersTopics
from workers.users.experiments import Experiments
from workers.users.faults import StageFailed, UsersFault
from workers.users.kafka_access import KafkaAccess
from workers.users.library_logs import route_library_logs
from workers.users.stage import UserRecord, UsersStage
from workers.users.transport import UsersTransport

DRAIN_SECONDS = 8.0
"""How long the process may live after SIGTERM, whatever Faust does then."""
_LAST_CHECKPOINT_SECONDS = 4.0
_REBALANCE_CHECKPOINT_SECONDS = 2.0
_STOP_SECONDS = 3.0
_WATCH_SECONDS = 5.0
_LEAST_HEARD_SECONDS = 5.0


class UsersTable(faust.Table):
    """The Table of what is known of each user. Its entries are in the books of the stage, one for
    each partition. Faust keeps their states in the changelog, and reads them back.
    """

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Faust has read records of the changelog."""
        stage = self.app.stage
        for event in batch:
            message = event.message
            stage.restore(message.partition, message.key, message.value)

    async def on_rebalance(self, assigned: set[Any], *_changes: Any) -> None:
        """Partitions are ours, and will be recovered."""
        topic = self.app.stage.topics.changelog
        self.app.stage.open_books(tp.partition for tp in assigned if tp.topic == topic)

    async def on_recovery_completed(self, *_partitions: Any) -> None:
        """The changelog is read to the end that it had after the rebalance."""
        self.app.stage.restored()


class UsersApp(faust.App):
    """The Faust app of the users stage. `stage` is set before it is started.

    `turned_at`: when the event loop last turned, in monotonic seconds.
    """

    stage: UsersStage
    turned_at: float

    @property
    def turned_s(self) -> float:
        """Seconds since the event loop last turned. For any thread."""
        return time.monotonic() - self.turned_at

    @property
    def is_broker_heard(self) -> bool:
        """Whether a broker has answered within the last three heartbeats. For any thread."""
        if self._consumer is None:  # Faust would make it in this thread
            return False
        limit = max(_LEAST_HEARD_SECONDS, 3 * self.conf.broker_heartbeat_interval)
        return bool(self._consumer.heard_s() < limit)

    def _new_transport(self) -> UsersTransport:
        return UsersTransport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> UsersTransport:
        return UsersTransport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        """Faust would make a folder for its data. Nothing is kept on disk."""

    def _crash(self, reason: BaseException) -> None:
        """A service of Faust's has failed."""
        self.stage.fail(StageFailed(f"Faust has stopped: {reason!r}"))
        super()._crash(reason)

    async def _on_partitions_revoked(self, revoked: set[Any]) -> None:
        """A rebalance begins. All books are closed, and Faust forgets how far it had recovered, so
        that it reads the changelog of every partition again.
        """
        await super()._on_partitions_revoked(revoked)
        await self.stage.close_books(_REBALANCE_CHECKPOINT_SECONDS)
        for tp in list(self.tables.recovery.active_offsets):
            self.tables.recovery.revoke(tp)


class FaustLog:
    """Kafka as the stage needs it (`stage.Log`), through the app."""

    def __init__(self, app: UsersApp, table: UsersTable, user_outcomes: Any) -> None:
        self._app = app
        self._table = table
        self._user_outcomes = user_outcomes

    def write_entry(self, partition: int, key: bytes, value: bytes | None) -> Awaitable[object]:
        """Write a state of an entry to the changelog of the Table."""
        delivery: Awaitable[object] = self._table.send_changelog(
            partition, key, value, key_serializer="raw", value_serializer="raw"
        )
        return delivery

    def publish(self, partition: int, key: bytes, value: bytes) -> Awaitable[object]:
        """Write a record to `user-outcomes`."""
        delivery: Awaitable[object] = self._user_outcomes.send_soon(
            key=key,
            value=value,
            partition=partition,
            headers=USER_OUTCOMES_HEADERS,
            key_serializer="raw",
            value_serializer="raw",
        )
        return delivery

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit the next offsets of partitions."""
        topic = self._app.stage.topics.request_outcomes
        is_committed: bool = await self._app.consumer.commit_offsets(topic, offsets)
        return is_committed

    def given_out(self, partition: int) -> int | None:
        """The offset behind the last record that aiokafka gave to Faust."""
        offset: int | None = self._app.consumer.given_out(partition)
        return offset

    def unread(self, partition: int) -> int | None:
        """How many offsets aiokafka has not given out."""
        topic = self._app.stage.topics.request_outcomes
        count: int | None = self._app.consumer.unread(topic, partition)
        return count

    async def read_again(self, partition: int, offset: int) -> None:
        """Read a partition of the input from this offset on."""
        await self._app.consumer.read_again(
            self._app.stage.topics.request_outcomes, partition, offset
        )


def build_app(
    access: KafkaAccess,
    topics: UsersTopics,
    *,
    group: str,
    name: str,
    partitions: int,
    days: int,
    port: int | None,
    experiments: Experiments,
) -> UsersApp:
    """Put the app together. It must be built in the event loop that runs it.

    `name` is the client id of this process, `port` where the live view is served, None for nowhere.
    """
    app = UsersApp(
        group,
        broker=";".join(f"kafka://{server}" for server in _servers(access.bootstrap)),
        broker_client_id=name,
        broker_credentials=credentials_of(access),
        broker_session_timeout=access.session_seconds,
        broker_heartbeat_interval=access.heartbeat_seconds,
        broker_rebalance_timeout=30.0,
        consumer_auto_offset_reset="earliest",
        store="memory://",
        # Faust would give each process the partitions of another one as well, to have read them when
        # they become its own. That doubles memory, and here each rebalance reads everything again.
        table_standby_replicas=0,
        topic_partitions=partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        web_enabled=port is not None,
        web_bind="127.0.0.1",
        web_host="127.0.0.1",
        web_port=port or 6066,
    )

    app.turned_at = time.monotonic()

    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw"}
    raw["value_serializer"] = "raw"
    # Without acknowledgements: the stage commits by itself.
    requests = app.topic(topics.request_outcomes, acks=False, allow_empty=True, **raw)
    user_outcomes = app.topic(topics.user_outcomes, acks=False, **raw)
    changelog = app.topic(
        topics.changelog,
        acks=False,
        allow_empty=True,
        internal=True,
        partitions=partitions,
        maxsize=131_072,  # as Faust makes it
        **raw,
    )

    table = app.tables.add(
        UsersTable(
            app,
            name="users",
            partitions=partitions,
            changelog_topic=changelog,
            key_type=bytes,
            value_type=bytes,
        )
    )

    app.stage = UsersStage(
        topics=topics,
        partitions=partitions,
        days=days,
        experiments=experiments,
        kafka=FaustLog(app, table, user_outcomes),
    )

    @app.agent(requests, name="users")
    async def count(stream: Any) -> None:
        """Give each record to the stage. A fault ends the stage, and no further record is taken."""
        async for event in stream.events():
            message = event.message
            record = UserRecord(
                partition=message.partition,
                offset=message.offset,
                covers_from=message.covers_from,
                value=message.value,
                headers=message.headers,
            )
            try:
                await app.stage.take(record)
            except UsersFault as fault:
                app.stage.fail(fault)
            except Exception as error:  # noqa: BLE001 - Faust would start the agent again
                app.stage.fail(StageFailed(f"{record[:2]}: our own fault: {error!r}"))

    if port is not None:
        _serve_live_view(app)
    return app


def _serve_live_view(app: UsersApp) -> None:
    @app.page("/")
    async def live(view: Any, _request: Any) -> Any:
        """The sums of this process, by surface, phase and arm."""
        document = {"is_recovering": app.stage.is_recovering, "sums": live_view(app.stage)}
        return view.bytes(json.dumps(document).encode(), content_type="application/json")

    app.web.init_server()


def live_view(stage: UsersStage) -> list[dict[str, object]]:
    """The sums of the partitions of this process over all hours, by surface, phase and arm."""
    parts: dict[tuple[str, str, str], list[UserSums]] = {}
    for books in stage.books.values():
        for key, sums in books.sums.items():
            parts.setdefault((key.surface, key.experiment or "", key.arm), []).append(sums)

    rows: list[dict[str, object]] = []
    for (surface, phase, arm), of_arm in sorted(parts.items()):
        row: dict[str, object] = {"surface": surface, "experiment": phase or None, "arm": arm}
        row |= add_user_sums(of_arm)._asdict()
        del row["last_offset"]
        rows.append(row)
    return rows


def _servers(bootstrap: str) -> list[str]:
    """The servers without what librdkafka allows before them, such as `PLAINTEXT://`."""
    return [
        server.strip().rpartition("://")[2] for server in bootstrap.split(",") if server.strip()
    ]


def credentials_of(access: KafkaAccess) -> SASLCredentials | SSLCredentials | None:
    """Name, password and certificates as Faust takes them. None for a connection in clear."""
    if access.sasl is not None:
        return SASLCredentials(
            username=access.sasl.username,
            password=access.sasl.password,
            mechanism=access.sasl.mechanism,
            ssl_context=access.tls,
        )
    return None if access.tls is None else SSLCredentials(access.tls)


# Running


async def run_app(app: UsersApp, beside: Iterable[Awaitable[None]] = ()) -> int:
    """Run until a signal or a fault. Returns the exit code.

    `beside` runs beside it until the end, such as the guard rails. If that fails, the stage ends.
    """
    route_library_logs()
    loop = asyncio.get_running_loop()
    stage = app.stage

    def drain(number: signal.Signals) -> None:
        log.info("draining", signal=number.name)

        timer = threading.Timer(DRAIN_SECONDS, _give_up)
        timer.daemon = True
        timer.start()
        stage.ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain, number)

    app.producer.buffer.max_messages = 10_000_000  # the stage limits what it writes by itself
    tasks = [
        asyncio.ensure_future(_must_run(app, each))
        for each in (
            app.start(),
            stage.run_checkpoints(),
            _watch_recovery(app),
            _note_turns(app),
            *beside,
        )
    ]
    await stage.ended.wait()

    if stage.failure is None and not stage.is_recovering:
        last = asyncio.ensure_future(stage.checkpoint())
        await asyncio.wait([last], timeout=_LAST_CHECKPOINT_SECONDS)

    for task in tasks:
        task.cancel()
    await asyncio.wait([asyncio.ensure_future(app.stop())], timeout=_STOP_SECONDS)

    if stage.failure is not None:
        log.error("stopped", error=str(stage.failure))
        return 1
    log.info("drained", feeds=stage.counts.feeds)
    return 0


async def _must_run(app: UsersApp, part: Awaitable[None]) -> None:
    """Run a part of the process. If it fails, the stage ends and says why."""
    try:
        await part
    except Exception as error:  # noqa: BLE001 - whatever it is, the stage cannot go on without it
        app.stage.fail(StageFailed(f"our own fault, or Faust's: {error!r}"))


def _give_up() -> None:
    log.error("not_drained", error=f"Faust did not stop within {DRAIN_SECONDS:g} s")
    _exit(1)


async def _note_turns(app: UsersApp) -> None:
    """Note once a second that the event loop turns."""
    while True:
        app.turned_at = time.monotonic()
        await asyncio.sleep(1.0)


async def _watch_recovery(app: UsersApp) -> None:
    """Log what a recovery waits for, and end one that waits for a record that is not there.

    Faust waits for the last offset of a changelog partition. Compaction may have removed its record.
    """
    recovery = app.tables.recovery
    waited_at: dict[Any, int] = {}
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if not app.stage.is_recovering:
            waited_at.clear()
            continue

        remaining = {tp: count for tp, count in recovery.active_remaining().items() if count > 0}
        log.info(
            "recovering",
            partitions=sorted(app.stage.books),
            restored=app.stage.counts.restored,
            remaining=sum(remaining.values()),
        )

        for tp in remaining:
            offset = recovery.active_offsets[tp]
            position = await app.consumer.position(tp)
            highwater = recovery.active_highwaters[tp]

            if waited_at.get(tp) == offset and position is not None and position > highwater:
                log.warning("changelog_end_missing", partition=tp.partition, offset=highwater)
                recovery.active_offsets[tp] = highwater

            waited_at[tp] = offset
