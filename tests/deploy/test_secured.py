"""A worker, a join and the users stage on a Kafka and a Redis that ask for TLS and a password and allow
what deploy/ grants: that is enough, each right less is named, and no secret is shown.
"""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis import Redis

from tests.deploy.programs import Programs
from tests.deploy.secured import SecuredServers, script_rights
from tests.rig.environment import REQUEST_PARTITIONS, Environment
from tests.rig.metrics import ask
from tests.rig.outcome_runs import Plan, PostStream, outcomes_environment
from tests.rig.process import Process, until
from tests.rig.redis import free_port
from tests.rig.user_runs import wait_until_counted
from workers.streaming.rights import Resource, Right

MODELS = Path(__file__).resolve().parents[2] / "onnx_models"
COMMANDS = {
    "trimtab-worker": ("worker",),
    "trimtab-outcomes": ("outcomes", "join"),
    "trimtab-users": ("outcomes", "users"),
}
DOCTORS = {"trimtab-worker": "worker", "trimtab-outcomes": "join", "trimtab-users": "users"}
NOWHERE = "127.0.0.1:9"
COMMANDS_THAT_ONLY_READ = (
    ("doctor", "--for", "all"),
    ("doctor", "--for", "all", "--json"),
    ("topics", "check"),
    ("topics", "create", "--dry-run"),
    ("dead-letters", "list", "--json"),
    ("outcomes", "counts", "home"),
    ("experiment", "show", "home"),
    ("models", "status"),
)
COMMANDS_THAT_END = (
    ("doctor", "--for", "all"),
    ("topics", "check"),
    ("status",),
    ("weights", "show", "home"),
    ("weights", "set", "home", "quality=0.5", "--reason", "a test"),
    ("feeds", "tail", "--count", "1", "--from-beginning", "--timeout", "5"),
    ("dead-letters", "list"),
    ("offsets", "resume", "--partition", "0"),
)


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, programs: Programs
) -> Iterator[SecuredServers]:
    made = SecuredServers(tmp_path_factory.mktemp("secured"), cache, programs.redis_server)
    yield made
    made.end()


@pytest.fixture
def env(servers: SecuredServers, tmp_path: Path) -> Iterator[Environment]:
    """All topics, and the rights that deploy/acl-kafka.sh grants on them."""
    servers.redis.client.flushall()
    with outcomes_environment(servers.kafka.open, "", tmp_path, Plan(window_s=2)) as made:
        made.variables["TRIMTAB_MODELS"] = str(MODELS)
        made.create_outcome_topics()
        made.create_user_topics()
        servers.grant(script_rights(made))
        yield made


def start(env: Environment, servers: SecuredServers, user: str) -> Process:
    redis_user = "trimtab-outcomes" if user == "trimtab-users" else user
    servers.log_in(env, user, redis_user)
    return env.start(["-m", "workers.cli", *COMMANDS[user]])


def doctor_as(
    env: Environment, servers: SecuredServers, user: str
) -> subprocess.CompletedProcess[str]:
    """What the doctor says of a stage under its user."""
    servers.log_in(env, user, "trimtab-outcomes" if user == "trimtab-users" else user)
    return env.trimtab("doctor", "--for", DOCTORS[user])


def everything_in(redis: Redis) -> str:
    """All keys and values, as text."""
    shown = []
    readers: dict[str, Any] = {
        "string": redis.get,
        "hash": redis.hgetall,
        "stream": redis.xrange,
        "zset": lambda key: redis.zrange(key, 0, -1),
        "set": redis.smembers,
    }
    for key in redis.scan_iter():
        shown.append(f"{key} {readers[str(redis.type(key))](key)}")
    assert shown
    return "\n".join(shown)


def test_the_granted_rights_are_enough_from_event_to_sums_and_no_secret_is_shown(
    env: Environment, servers: SecuredServers
) -> None:
    base = free_port()
    env.variables["TRIMTAB_METRICS_PORT"] = str(base)
    worker = start(env, servers, "trimtab-worker")
    join = start(env, servers, "trimtab-outcomes")
    users = start(env, servers, "trimtab-users")
    worker.wait_for("event=restored")
    join.wait_for("event=restored")

    servers.log_in(env, "trimtab-ops")
    turned = env.trimtab(
        "weights", "set", "home", "quality=0.25", "engagement=0.75", "--reason", "a test"
    )
    assert turned.returncode == 0, turned.stderr
    with PostStream(env.sender(), Plan(rate=10.0)) as stream:
        env.wait_for_more_outcomes()
        until(lambda: env.written(env.user_outcomes, REQUEST_PARTITIONS) > 0, users.logged)
    until(lambda: len(env.feeds_by_now()) >= stream.requests, worker.logged)
    wait_until_counted(env, users)

    values = [feed["weights"]["values"] for feed in env.feeds_by_now() if feed["surface"] == "home"]
    assert {"quality": 0.25, "engagement": 0.75} in values
    status = env.trimtab("status")
    as_json = env.trimtab("status", "--json")
    assert "WORKER" in status.stdout
    history = env.trimtab("weights", "history", "home")
    assert history.returncode == 0, history.stderr
    tail = env.trimtab("feeds", "tail", "--count", "1", "--from-beginning", "--timeout", "5")
    doctors = [doctor_as(env, servers, user) for user in COMMANDS]
    servers.log_in(env, "trimtab-ops")
    others = [env.trimtab(*command) for command in COMMANDS_THAT_ONLY_READ]
    served = [
        ask(port, path)[1]
        for port in (base, base + 1000, base + 2000)
        for path in ("/metrics", "/status", "/livez", "/readyz", "/nowhere")
    ]
    assert all(served)

    for doctor in doctors:
        assert doctor.returncode == 0, doctor.stdout
    for process in (worker, join, users):
        assert process.terminate() == 0, process.logged()
        assert "right_missing" not in process.logged()
        assert "redis_denied" not in process.logged()
    shown = [process.logged() for process in (worker, join, users)]
    shown += [
        text
        for ended in (turned, status, as_json, history, tail, *doctors, *others)
        for text in (ended.stdout, ended.stderr)
    ]
    shown += served
    shown.append(everything_in(servers.redis.client))
    assert servers.secrets.found_in("\n".join(shown)) == []


@pytest.mark.parametrize("user", COMMANDS)
def test_each_right_that_is_missing_is_named(
    env: Environment, servers: SecuredServers, user: str
) -> None:
    """A right that another one implies is not missed: Read and Write imply Describe."""
    granted = script_rights_of(env, user)
    not_needed_at_start = {
        ("trimtab-worker", "Read", env.letters),
        ("trimtab-users", "Read", env.feed_outcomes),
    }
    missed = 0
    for right in sorted(granted, key=str):
        if (
            right.operation == "Describe"
            or (user, right.operation, right.name) in not_needed_at_start
        ):
            continue
        servers.kafka.allow(user, granted - {right})
        process = start(env, servers, user)
        try:
            doctor = doctor_as(env, servers, user)
            process.process.wait(60)
        finally:
            process.kill()
        said = process.logged()
        assert process.process.returncode == 1, said
        assert "Traceback" not in said
        named = f"{right.operation} on {right.resource.value.replace('-', ' ')} '{right.name}"
        assert named in said
        assert doctor.returncode == 1
        assert named in doctor.stdout
        assert f"--add --allow-principal User:{user} --operation" in said
        assert servers.secrets.found_in(said) == []
        missed += 1
    assert missed >= 7


def script_rights_of(env: Environment, user: str) -> set[Right]:
    folder = env.folder / f"{env.name}-acls"
    (folder / "granted").unlink()
    folder.rename(folder.with_suffix(".first"))
    rights = script_rights(env)[f"User:{user}"]
    assert {right.resource for right in rights} >= {Resource.TOPIC, Resource.GROUP}
    return rights


@pytest.mark.parametrize(
    "wrong",
    [
        "password of Kafka",
        "authority of Kafka",
        "address of Kafka",
        "name of a property",
        "value of a property",
        "key password",
        "password of Redis",
        "authority of Redis",
        "address of Redis",
        "URL that is not escaped",
        "option of the URL",
    ],
)
def test_no_error_shows_a_secret(
    env: Environment, servers: SecuredServers, tmp_path: Path, wrong: str
) -> None:
    servers.log_in(env, "trimtab-ops")
    _make_wrong(env, servers, tmp_path, wrong)
    # Side by side: each waits long for a server that does not answer.
    with ThreadPoolExecutor(len(COMMANDS_THAT_END)) as pool:
        ended = pool.map(lambda command: env.trimtab(*command), COMMANDS_THAT_END)
        said = [text for command in ended for text in (command.stdout, command.stderr)]
    processes = [env.start(["-m", "workers.cli", *words]) for words in COMMANDS.values()]
    for process in processes:
        until(lambda process=process: _has_met_it(process), process.logged)  # type: ignore[misc]
    for process in processes:
        process.kill()
        said.append(process.logged())
    text = "\n".join(said)
    assert text.strip()
    assert servers.secrets.found_in(text) == []
    assert servers.secrets.found_in(everything_or_nothing(servers.redis.client)) == []


def everything_or_nothing(redis: Redis) -> str:
    return everything_in(redis) if redis.dbsize() else ""


def _has_met_it(process: Process) -> bool:
    """Whether it has ended, or has logged something of the servers."""
    return not process.is_running() or "event=" in process.logged()


def _make_wrong(env: Environment, servers: SecuredServers, folder: Path, wrong: str) -> None:
    user = "trimtab-ops"
    another_authority = folder / "another.pem"
    trustme.CA().cert_pem.write_to_path(str(another_authority))
    secret = servers.secrets.make("wrong")
    changes: dict[str, str] = {}
    if wrong == "password of Kafka":
        changes["sasl_password"] = secret
    elif wrong == "authority of Kafka":
        changes["ssl_ca_location"] = str(another_authority)
    elif wrong == "address of Kafka":
        env.variables["TRIMTAB_KAFKA"] = NOWHERE
    elif wrong == "name of a property":
        changes["sasl_pasword"] = secret
    elif wrong == "value of a property":
        changes["sasl_mechanisms"] = "SCRAM-SHA-513"
    elif wrong == "key password":
        changes["ssl_key_location"] = str(_encrypted_key(folder, servers.secrets.make("key")))
        changes["ssl_key_password"] = secret
    elif wrong == "password of Redis":
        env.variables["TRIMTAB_REDIS"] = servers.redis_url(user, secret)
    elif wrong == "authority of Redis":
        env.variables["TRIMTAB_REDIS"] = servers.redis_url(
            user, ssl_ca_certs=str(another_authority)
        )
    elif wrong == "address of Redis":
        url = servers.redis_url(user).replace(f":{servers.redis_tls_port}/", ":9/")
        env.variables["TRIMTAB_REDIS"] = url
    elif wrong == "URL that is not escaped":
        env.variables["TRIMTAB_REDIS"] = f"rediss://{user}:{secret}/x@127.0.0.1:6379/0"
    else:
        env.variables["TRIMTAB_REDIS"] = servers.redis_url(user, ssl_pasword=secret)
    env.variables["TRIMTAB_KAFKA_CONFIG"] = str(servers.kafka_file(folder, user, **changes))


def _encrypted_key(folder: Path, password: str) -> Path:
    from cryptography.hazmat.primitives import serialization

    certificate = trustme.CA().issue_cert("client")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    file = folder / "client-key.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
    )
    return file
