"""No command shows a password that it was given in a wrong place or in a wrong way.

What leaves a process that runs is searched in tests/deploy/test_secured.py.
"""

from pathlib import Path

import pytest

from tests.commands.running import trimtab, write_surfaces
from workers.commands.redis_access import RedisAt
from workers.settings import WorkerSettings
from workers.streaming.clients import Cluster
from workers.users.kafka_access import Sasl

SECRET = "hunter2"
COMMANDS_OF_KAFKA = (
    ("worker",),
    ("outcomes", "join"),
    ("outcomes", "users"),
    ("produce", "-"),
    ("feeds", "tail"),
    ("dead-letters", "list"),
    ("topics", "check"),
    ("topics", "create", "--dry-run"),
    ("offsets", "resume", "--partition", "0"),
    ("outcomes", "counts", "home"),
    ("doctor", "--for", "users"),
)
COMMANDS_OF_REDIS = (
    ("status",),
    ("weights", "show", "home"),
    ("weights", "set", "home", "quality=0.5", "--reason", "a test"),
    ("experiment", "show", "home"),
    ("models", "status"),
)
PROPERTIES = (
    f"sasl.password {SECRET}",
    f"sasl.password: {SECRET}",
    f"sasl.password: {SECRET}=",
    f'"sasl.password": "{SECRET}"',
    f"sasl.pasword={SECRET}",
    f"SASL.PASSWORD={SECRET}",
    f"sasl_password={SECRET}",
    f"sasl.password_cb={SECRET}",
    f"Sasl.Passwort_cb={SECRET}",
    f"ssl.key.passphrase={SECRET}",
    f"ssl.keystore.pasword=1{SECRET}",
    f'sasl.jaas.config=x required username="me" password="{SECRET}";',
    f'sasl.jaas.conf=x required username="me" password="{SECRET}";',
    f"security.protocol=SASL_SSL\nsasl.mechanism=PLAINER\nsasl.password={SECRET}",
    f"security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.password={SECRET}",
    f"security.protocol=SSL\nssl.key.password={SECRET}\nssl.key.location=nowhere.pem\nssl.certificate.location=nowhere.pem",
    f"security.protocol=SSL\nssl.key.location=-----BEGIN PRIVATE KEY-----{SECRET}",
    f"ssl.key.pem=-----BEGIN PRIVATE KEY-----\n{SECRET}{SECRET}{SECRET}/+\n{SECRET}==\n",
    f"sasl.oauthbearer.client.secret={SECRET}\nsasl.oauthbearer.method=other",
)
URLS = (
    f"redis://user:{SECRET}/x@127.0.0.1:1/0",
    f"redis://user:{SECRET}?x@127.0.0.1:1/0",
    f"redis://user:{SECRET}#x@127.0.0.1:1/0",
    f"redis://user:1?{SECRET}@127.0.0.1:1/0",
    f"redis://user:{SECRET}%@x@127.0.0.1:1/0",
    f"redis://user:%68unter2{SECRET}%zz@127.0.0.1:1/0",
    f"redis://user:{SECRET}@127.0.0.1:port/0",
    f"redis://user:{SECRET}@127.0.0.1:1/0?pasword={SECRET}",
    f"redis://127.0.0.1:1/0?password={SECRET}&socket_timeout=soon",
    f"redis://127.0.0.1:1/0?socket_timeout={SECRET}",
    f"rediss://127.0.0.1:1/0?ssl_keyfile=nowhere&ssl_pasword={SECRET}",
    f"rediss://user:{SECRET}@127.0.0.1:1/0?ssl_ca_certs=nowhere.pem",
    f"http://user:{SECRET}@127.0.0.1:1/0",
    f"REDIS://user:{SECRET}@127.0.0.1:1/0",
    f"user:{SECRET}@127.0.0.1:1",
    f'"redis://user:{SECRET}@127.0.0.1:1/0"',
    f"redis://user:{SECRET}@nowhere.invalid:1/0",
)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Settings of servers that are not there."""
    return {
        "TRIMTAB_KAFKA": "127.0.0.1:1",
        "TRIMTAB_REDIS": "redis://127.0.0.1:1/0",
        "TRIMTAB_HOME": str(tmp_path / "home"),
        "TRIMTAB_SURFACES": str(_with_outcomes(tmp_path)),
        "TRIMTAB_MODELS": str(tmp_path / "models"),
    }


def _with_outcomes(folder: Path) -> Path:
    surfaces = write_surfaces(folder)
    outcomes = """
[surfaces.home.outcomes]
window_s = 60
seen = "above"
take = { kind = "click" }
"""
    surfaces.write_text(surfaces.read_text() + outcomes)
    return surfaces


def refused(words: tuple[str, ...], settings: dict[str, str]) -> str:
    """What a command says that refuses its settings."""
    ended = trimtab(*words, **settings)
    assert ended.code == (1 if words[0] == "doctor" else 2), ended
    text = ended.out + ended.err
    assert "expected" in text
    return text


@pytest.mark.parametrize("properties", PROPERTIES)
def test_a_wrong_file_of_kafka_properties_shows_no_secret(
    settings: dict[str, str], tmp_path: Path, properties: str
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(f"client.id=me\n{properties}\n")
    for words in COMMANDS_OF_KAFKA:
        text = refused(words, settings | {"TRIMTAB_KAFKA_CONFIG": str(file)})
        assert str(file) in text, words
        assert SECRET not in text, words


@pytest.mark.parametrize(
    "wrong",
    [
        {"TRIMTAB_KAFKA": f"redis://user:{SECRET}@127.0.0.1:1/0"},
        {"TRIMTAB_KAFKA": f"kafka://user:{SECRET}@127.0.0.1:1,127.0.0.1:2"},
        {"TRIMTAB_KAFKA": f"127.0.0.1:1?password={SECRET}"},
        {"TRIMTAB_KAFKA_CONFIG": f"sasl.password={SECRET}"},
    ],
    ids=str,
)
def test_a_password_in_the_place_of_another_setting_is_not_shown(
    settings: dict[str, str], wrong: dict[str, str]
) -> None:
    for words in COMMANDS_OF_KAFKA:
        text = refused(words, settings | wrong)
        assert "kafka: got" in text or "kafka_config: got" in text, words
        assert SECRET not in text, words


@pytest.mark.parametrize("url", URLS)
def test_a_wrong_redis_url_shows_no_secret(settings: dict[str, str], url: str) -> None:
    for words in COMMANDS_OF_REDIS:
        ended = trimtab(*words, **settings | {"TRIMTAB_REDIS": url})
        assert ended.code in (1, 2), words
        assert SECRET not in ended.out + ended.err, words


@pytest.mark.parametrize(
    "endpoint",
    [
        f"user:{SECRET}@127.0.0.1:1",
        f"grpc://user:{SECRET}@127.0.0.1:1",
        f"http://user:{SECRET}/x@127.0.0.1:1",
        f"http://user:1?{SECRET}@127.0.0.1:1",
        f"authorization=Bearer {SECRET}",
    ],
)
def test_a_wrong_address_of_a_collector_shows_no_secret(
    settings: dict[str, str], endpoint: str
) -> None:
    assert SECRET not in refused(("worker",), settings | {"TRIMTAB_TRACE_ENDPOINT": endpoint})
    assert SECRET not in refused(("worker",), settings | {"TRIMTAB_TRACE_RATIO": endpoint})


def test_what_holds_a_secret_does_not_show_it_when_it_is_printed() -> None:
    url = f"redis://user:{SECRET}@h"
    given = dict.fromkeys(WorkerSettings.__annotations__, "")
    given |= {"redis": url, "trace_endpoint": url}
    holders = (
        WorkerSettings(**given),  # type: ignore[arg-type]
        RedisAt(url, "", 1.0),
        Cluster("h:1", {"sasl.password": SECRET}),
        Sasl("PLAIN", "me", SECRET),
    )
    for holder in holders:
        assert SECRET not in f"{holder!r} {holder}"
