"""The users of deploy/acl-redis*.conf: what each needs it may do, and no more."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from tests.builders import HOME
from tests.rig.redis import RedisServer, valkey_server
from tests.steering.conftest import Events, read_once_more
from workers.outcomes.plan import Plan
from workers.ranking.lookup import LookupQuery, LookupResult, SetKey
from workers.ranking.mix import Mix
from workers.ranking.weights import Weights
from workers.steering import Follower
from workers.steering.connection import ErrorReply, RedisLink, as_transaction
from workers.steering.content import encode_fields
from workers.steering.editor import SteeringEditor
from workers.steering.guard_rail import stop_arm
from workers.steering.history import (
    NewContent,
    ReadContent,
    read_entries,
    record_command,
    revision_after,
    write_command,
)
from workers.steering.lookups import Lookups
from workers.steering.stage_status import StageReport, StageStatusWriter

Steer = Callable[..., Follower]
DEPLOY = Path(__file__).parents[2] / "deploy"
NEVER = 3600.0
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})
SET = {"quality": "0.7", "engagement": "0.3"}
NOTHING = ReadContent("weights:home", "weights", {})
HSET, DEL = (
    "return{redis.call('HSET',KEYS[1],'quality','0.1')}",
    "return{redis.call('DEL',KEYS[1])}",
)
# What Redis 6 says of a script that was allowed and gave a command that was not, and what Redis 7 says.
_DENIED_IN_SCRIPT = ("user executing the script can't", "ACL failure in script")


@pytest.fixture(params=[6, 7])
def stopped_server(
    request: pytest.FixtureRequest, tmp_path: Path, make_redis: Callable[..., RedisServer]
) -> RedisServer:
    """A Redis 6, or a Valkey, which counts as a Redis 7, with the users of its version's file."""
    file = tmp_path / "users.acl"
    shutil.copy(DEPLOY / f"acl-redis{request.param}.conf", file)
    binary = valkey_server() if request.param == 7 else None
    return make_redis("--aclfile", str(file), binary=binary)


@pytest.fixture
def server(stopped_server: RedisServer) -> RedisServer:
    stopped_server.start()
    for user in ("trimtab-worker", "trimtab-outcomes", "trimtab-ops"):
        stopped_server.client.execute_command("ACL SETUSER", user, ">pw")  # type: ignore[no-untyped-call]
    return stopped_server


def url(server: RedisServer, user: str, database: int = 0) -> str:
    return f"redis://{user}:pw@127.0.0.1:{server.port}/{database}"


def client(server: RedisServer, user: str) -> Any:
    return Redis(port=server.port, username=user, password="pw", decode_responses=True)


def log(server: RedisServer) -> list[Any]:
    """Everything that Redis has denied to anybody."""
    return list(server.client.execute_command("ACL LOG"))  # type: ignore[no-untyped-call]


def read_only(server: RedisServer) -> bool:
    """Whether this Redis knows keys that may be read and not written."""
    return int(str(server.client.info("server")["redis_version"]).split(".", maxsplit=1)[0]) >= 7


def allowed(server: RedisServer, user: str, *commands: str) -> list[str]:
    """Those of the commands that Redis lets the user give."""
    given = client(server, user)
    return [command for command in commands if not _is_denied(given, command)]


def loaded(server: RedisServer, text: str) -> str:
    """The name of a script that Redis has."""
    return str(server.client.script_load(text))


def _is_denied(given: Any, command: str) -> bool:
    try:
        given.execute_command(*command.split())
    except NoPermissionError:
        return True
    except RedisError as error:
        return any(words in str(error) for words in _DENIED_IN_SCRIPT)
    return False


def test_nobody_logs_in_before_there_is_a_password(stopped_server: RedisServer) -> None:
    stopped_server.start()
    for user in ("trimtab-worker", "trimtab-outcomes", "trimtab-ops"):
        with pytest.raises(RedisError, match=r"WRONGPASS|invalid username-password"):
            client(stopped_server, user).ping()


def test_a_worker_does_all_that_it_does_and_nothing_is_denied(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer(redis_url=url(server, "trimtab-worker"), poll_seconds=NEVER)
    server.set("home", **SET)
    server.set("home:canary", quality=0.1)
    server.experiment("home", salt="s", canary="5")
    events.wait("experiment_applied", surface="home")
    for _ in range(2):
        read_once_more(server, events)
    assert steering.mix("home").weights == GOOD
    assert server.client.xlen("history:home") == 3
    assert server.client.exists("workers:status:w-1", "workers:live") == 2
    steering.stop()
    assert server.client.exists("workers:status:w-1", "workers:live") == 0
    for event in (
        "pushes_denied",
        "status_denied",
        "history_denied",
        "weights_refused",
        "experiment_refused",
    ):
        assert events.all(event) == []
    assert log(server) == []


def test_a_worker_looks_up_and_nothing_is_denied(server: RedisServer, events: Events) -> None:
    server.client.sadd("seen:u", "a")
    server.client.set("features:pair:a", b"value")
    seen, blocked = SetKey("seen", "u"), SetKey("blocked", "home")
    with Lookups(url(server, "trimtab-worker"), "", NEVER, events) as look_up:
        answers = look_up(LookupQuery({seen: ["a", "b"], blocked: ["a"]}, {"pair": ["a"]}))
    assert answers == LookupResult(
        {seen: frozenset("a"), blocked: frozenset()}, {"pair": {"a": b"value"}}
    )
    assert log(server) == []


def test_a_look_up_that_a_worker_has_no_right_to_is_denied_alone(
    server: RedisServer, events: Events
) -> None:
    muted, blocked = SetKey("muted", "u"), SetKey("blocked", "home")
    with Lookups(url(server, "trimtab-worker"), "", NEVER, events) as look_up:
        assert look_up(
            LookupQuery({muted: ["a"], blocked: ["a"]}, {"pair": ["a"]})
        ) == LookupResult({blocked: frozenset()}, {"pair": {}})
    assert "permission" in str(events.wait("lookup_denied", lookup="muted")["error"])


@pytest.mark.parametrize("user", ["trimtab-worker", "trimtab-ops"])
def test_another_database_may_be_chosen(server: RedisServer, user: str) -> None:
    with RedisLink(url(server, user, 1)) as link:
        assert link.execute(*as_transaction(("HGETALL", "weights:home"))) == [
            b"OK",
            b"QUEUED",
            [{}],
        ]
    assert log(server) == []


def test_a_worker_steers_nothing(server: RedisServer) -> None:
    server.set("home", **SET)
    tried = [
        "HSET weights:home quality 0.1",
        "HDEL weights:home quality",
        "HSET experiment:home salt s",
        "EVAL return{redis.call('HSET',KEYS[1],'quality','0.1')} 1 weights:home",
        f"EVALSHA {loaded(server, HSET)} 1 weights:home",
        "SET elsewhere 1",
        "HGETALL elsewhere",
        "SADD seen:u a",
        "SMEMBERS seen:u",
        "MGET elsewhere",
        "KEYS *",
        "FLUSHALL",
        "CONFIG GET dir",
        "ACL LIST",
        "CLIENT LIST",
        "SHUTDOWN",
    ]
    assert allowed(server, "trimtab-worker", *tried) == []
    assert server.client.hgetall("weights:home") == SET


def test_a_worker_can_overwrite_weights_only_if_redis_has_no_read_only_keys(
    server: RedisServer,
) -> None:
    server.set("home", **SET)
    tried = [
        "SET weights:home spoilt",
        f"EVALSHA {loaded(server, DEL)} 1 weights:home",
        "DEL weights:home",
    ]
    assert allowed(server, "trimtab-worker", *tried) == ([] if read_only(server) else tried)


def test_a_worker_cannot_write_with_the_tools_script(server: RedisServer) -> None:
    server.set("home", **SET)
    read = ReadContent("weights:home", "weights", encode_fields(SET))
    with RedisLink(url(server, "trimtab-worker")) as link:
        (reply,) = link.execute(
            write_command(
                "history:home", [(read, NewContent({"quality": "0.1"}))], 0, "mallory", ""
            )
        )
    assert isinstance(reply, ErrorReply)
    assert server.client.hget("weights:home", "quality") != "0.1"
    assert server.client.hexists("weights:home", "quality") == read_only(server)


def test_the_tools_write_and_read_documents_and_read_statuses(
    server: RedisServer,
) -> None:
    server.client.set("workers:status:w-1", "{}", px=60_000)
    server.client.zadd("workers:live", {"w-1": 1})
    with RedisLink(url(server, "trimtab-ops")) as link:
        done, recorded = link.execute(
            write_command(
                "history:home", [(NOTHING, NewContent(SET, GOOD.version))], 0, "ada", "why"
            ),
            record_command(
                "history:home", ReadContent("weights:home", "weights", encode_fields(SET))
            ),
        )
        (changes,) = link.execute(("XREVRANGE", "history:home", "+", "-", "COUNT", 10))
    assert (revision_after(done), revision_after(recorded)) == (1, 1)
    assert [entry.after for entry in read_entries(changes)] == [SET]
    own = client(server, "trimtab-ops")
    with own.pipeline() as pipeline:
        pipeline.watch("weights:home")
        assert pipeline.hgetall("weights:home") == SET
        pipeline.multi()
        pipeline.hset("weights:home", mapping={"quality": "0.2"})
        pipeline.hset("experiment:home", mapping={"salt": "s"})
        pipeline.execute()
    assert own.hget("weights:home", "quality") == "0.2"
    assert own.hdel("weights:home", "quality") == own.delete("experiment:home") == 1
    assert own.exists("weights:home") == own.xlen("history:home") == 1
    assert own.type("weights:home") == "hash"
    assert len(own.xrange("history:home")) == len(own.xread({"history:home": "0"})[0][1]) == 1
    assert own.get("workers:status:w-1") == "{}"
    assert own.mget("workers:status:w-1") == ["{}"]
    assert 0 < own.pttl("workers:status:w-1") <= 60_000
    assert own.zrange("workers:live", 0, -1, withscores=True) == [("w-1", 1.0)]
    assert own.client_id() > 0
    assert own.ping()
    # The Python client offers its name (CLIENT SETINFO), which not every Redis 7 knows: no file can
    # allow it.
    assert {entry["object"] for entry in log(server)} <= {"client", "client|setinfo"}


def test_the_tools_do_nothing_else(server: RedisServer) -> None:
    tried = [
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET dir",
        "KEYS *",
        "SHUTDOWN",
        "ACL LIST",
        "CLIENT LIST",
        "CLIENT KILL ID 1",
    ]
    tried += [
        "SCRIPT FLUSH",
        "SET weights:home 1",
        "HSET elsewhere a b",
        "GET elsewhere",
        "MONITOR",
        "CLIENT KILL ID 1",
    ]
    assert allowed(server, "trimtab-ops", *tried) == []
    status = ["DEL workers:status:w-1", "HSET workers:status:w-1 a b"]
    assert allowed(server, "trimtab-ops", *status) == ([] if read_only(server) else status)


def test_what_the_tools_change_reaches_a_worker(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    steering = steer(redis_url=url(server, "trimtab-worker"), poll_seconds=NEVER)
    client(server, "trimtab-ops").hset("weights:home", mapping=SET)
    events.wait("weights_applied", surface="home")
    assert steering.mix("home") == Mix(GOOD)


def test_the_stages_of_outcomes_write_their_status_and_stop_arms_and_nothing_is_denied(
    server: RedisServer, events: Events
) -> None:
    server.set("home:canary", quality=0.1)
    server.experiment("home", salt="s", canary="5")
    server.client.hset("plan:home", mapping={"salt": "s"})
    address = url(server, "trimtab-outcomes")

    writer = StageStatusWriter(
        address, "", events, stage="users", process="h-0", version="1", report=StageReport
    )
    with writer, SteeringEditor(address, "") as editor:
        events.wait("redis_connected")
        planned = editor.read_planned(HOME)
        assert planned.plan == Plan("s")
        assert stop_arm(editor, HOME, salt="s", arm="canary", reason="harm") is not None
        assert [*editor.read_phases(HOME).of_salt("s").values()] == [planned.experiment]

        with SteeringEditor(url(server, "trimtab-ops"), "") as tools:
            assert [stage.process for stage in tools.read_stages().processes] == ["h-0"]
    assert server.client.exists("outcomes:status:users:h-0", "outcomes:live") == 0
    assert log(server) == []
