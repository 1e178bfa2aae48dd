"""What a command prints with --json is what schemas/cli says."""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from redis import Redis
from referencing import Registry, Resource

from tests.commands.outcomes.building import FEED, KEY
from tests.commands.outcomes.reports import REPORTS
from tests.commands.running import json_lines, trimtab, write_lines, write_models, write_surfaces
from tests.commands.test_experiment_plan import TRAFFIC
from tests.docs.documents import ROOT
from tests.ranking.building import feed_of, mix
from tests.rig.environment import Environment
from tests.rig.process import until
from tests.rig.traffic import make_request, now_ms
from tests.scoring.building import add_model, mlp
from workers.codec.formats import Format
from workers.codec.outcomes import decode_request_outcomes, encode_request_outcomes, outcome_headers
from workers.commands.experiment_plan import plan_document, plan_shares
from workers.commands.outcomes.counts import counts_document
from workers.commands.outcomes.report_output import Reported, report_document
from workers.commands.weights.margin import margin_document
from workers.commands.weights.preview import preview_document
from workers.local import Stack
from workers.outcomes.counts import GroupBy, count_by
from workers.outcomes.records import SumsKey
from workers.outcomes.sums import Sums
from workers.ranking.feed import Feed
from workers.ranking.margin import margins_of
from workers.ranking.preview import preview

SCHEMAS = ROOT / "schemas"
OUTCOMES = """
[surfaces.search.outcomes]
window_s = 1800
seen = { kind = "view" }
take = { kind = "click" }
"""
CLI = sorted((SCHEMAS / "cli").glob("*.schema.json"))


def read(path: Path) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def closed(schema: Any) -> Any:
    """The schema with no room for a key that it does not name: what is printed must be described."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and "object" in schema.get("type", ""):
        inner.setdefault("additionalProperties", False)
    return inner


def validator(name: str) -> Draft202012Validator:
    """A validator for one command's output."""
    registry: Registry[Any] = Registry()
    published = [SCHEMAS / f"{name}.schema.json" for name in ("feed", "request-outcomes")]
    for path in [*CLI, *published]:
        schema = closed(read(path))
        registry = registry.with_resource(schema["$id"], Resource.from_contents(schema))
    return Draft202012Validator({"$ref": f"cli/{name}.schema.json"}, registry=registry)


def check(name: str, *printed: Mapping[str, Any]) -> None:
    """Fail unless something was printed, and all of it is as the schema says."""
    assert printed
    errors: list[str] = []
    for document in printed:
        for error in validator(name).iter_errors(document):
            errors.append(f"{error.json_path}: {error.message}")
    assert errors == []


def command_of(path: Path) -> str:
    """The command whose output a schema describes; a group and its command, or a command and its
    option, are joined in the file's name.
    """
    name = path.name.removesuffix(".schema.json")
    if name == "validate-interactions":
        return "validate --interactions"
    for group in ("dead-letters", "experiment", "feeds", "models", "outcomes", "topics", "weights"):
        if name.startswith(f"{group}-"):
            return f"{group} {name.removeprefix(f'{group}-')}"
    return name


@pytest.mark.parametrize("path", CLI, ids=lambda path: path.name)
def test_a_schema_is_valid_names_itself_and_its_command_and_describes_every_key(path: Path) -> None:
    schema = read(path)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"cli/{path.name}"
    assert schema["title"].startswith(f"trimtab {command_of(path)}")
    assert [key for key, value in _properties(schema) if not value.get("description")] == []


def _properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
        for value in schema.values():
            yield from _properties(value)


def test_a_key_that_is_not_described_is_found() -> None:
    described = ("events", "requests", "unreadable", "seconds", "events_per_second")
    printed = dict.fromkeys((*described, "more"), 1)
    with pytest.raises(AssertionError, match="'more' was unexpected"):
        check("produce", printed)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    surfaces, models = write_surfaces(tmp_path), write_models(tmp_path)
    return {"TRIMTAB_SURFACES": str(surfaces), "TRIMTAB_MODELS": str(models)}


def test_stack_status_of_a_stack_that_is_down(tmp_path: Path) -> None:
    ended = trimtab("stack", "status", "--json", TRIMTAB_HOME=str(tmp_path))
    assert ended.code == 1
    check("stack", json.loads(ended.out))


def test_stack_up_and_status_of_a_stack_that_is_up(stack: Stack, cache: Path) -> None:
    home = Path(stack.status().kafka.folder).parents[1]
    for command in ("up", "status"):
        ended = trimtab(
            "stack", command, "--json", TRIMTAB_HOME=str(home), TRIMTAB_CACHE=str(cache)
        )
        assert ended.code == 0
        check("stack", json.loads(ended.out))
        assert json.loads(ended.out)["up"] is True


def test_doctor(kafka: str, redis_url: str, settings: dict[str, str]) -> None:
    servers = {"TRIMTAB_KAFKA": kafka, "TRIMTAB_REDIS": redis_url}
    printed = json.loads(trimtab("doctor", "--json", **settings, **servers).out)
    check("doctor", printed)
    assert printed["checks"]


@pytest.mark.parametrize("command", ["create", "check"])
def test_topics(kafka: str, settings: dict[str, str], command: str) -> None:
    # Topics that are missing: create says what it would do, and check what is wrong.
    names = {"TRIMTAB_TOPIC_CANDIDATES": "absent.candidates", "TRIMTAB_TOPIC_FEEDS": "absent.feeds"}
    words = ["topics", command, "--json"]
    if command == "create":
        words.append("--dry-run")
    printed = json.loads(trimtab(*words, **settings, **names, TRIMTAB_KAFKA=kafka).out)
    check(f"topics-{command}", printed)
    assert printed["findings" if command == "check" else "commands"]


def test_rank(tmp_path: Path, settings: dict[str, str]) -> None:
    (event,) = make_request("r", 5, random.Random(1), batch=5)
    (short,) = make_request("short", 2, random.Random(1), batch=2, expected=3)
    ended = trimtab(
        "rank", write_lines(tmp_path / "events.jsonl", [event, short]), "--json", **settings
    )
    check("rank", *json_lines(ended.out))


def test_validate(tmp_path: Path, settings: dict[str, str]) -> None:
    (event,) = make_request("r", 2, random.Random(1), batch=2)
    event["candidates"][0]["features"] = {"f0": 1, "g0": 2}
    (unfinished,) = make_request("open", 1, random.Random(1), expected=2)
    file = write_lines(tmp_path / "events.jsonl", [event, unfinished, "nonsense"])
    printed = json.loads(trimtab("validate", file, "--json", **settings).out)
    check("validate", printed)
    assert all(
        printed[key] for key in ("refused", "unknown_features", "missing_features", "unfinished")
    )


def test_validate_interactions(tmp_path: Path) -> None:
    surfaces = write_surfaces(tmp_path, search=True)
    with surfaces.open("a") as file:
        file.write(OUTCOMES)
    sound: dict[str, Any] = {"request_id": "r", "item_id": "i", "user_id": "u", "at": 1}
    sound["surface"] = "search"
    elsewhere = sound | {"kind": "click", "surface": "home"}
    lines: list[dict[str, Any] | str] = [sound | {"kind": "scroll"}, elsewhere, "nonsense"]
    file_of_lines = write_lines(tmp_path / "interactions.jsonl", lines)
    ended = trimtab(
        "validate", "--interactions", file_of_lines, "--json", TRIMTAB_SURFACES=str(surfaces)
    )
    found = json.loads(ended.out)
    check("validate-interactions", found)
    assert all(found[key] for key in ("refused", "unnamed_kinds", "without_outcomes"))


@pytest.mark.parametrize("group_by", GroupBy)
def test_outcomes_counts(group_by: GroupBy) -> None:
    sums = Sums()
    sums.add(FEED)
    rows = count_by(group_by, [(KEY, sums)])
    found = counts_document("home", group_by, None, rows, {0: 1_763_899_200_000, 1: None})
    assert rows
    check("outcomes-counts", json.loads(json.dumps(found, allow_nan=False)))


@pytest.mark.parametrize("seen_per_day", [400_000.0, None])
def test_experiment_plan(seen_per_day: float | None) -> None:
    traffic = TRAFFIC._replace(seen_per_day=seen_per_day)
    measured = plan_shares("home", traffic, lift=0.03, tuned_for=None, shares=[0.05, 0.5])
    check("experiment-plan", json.loads(json.dumps(plan_document(measured), allow_nan=False)))


@pytest.mark.parametrize("shown", REPORTS.values(), ids=REPORTS)
def test_outcomes_report(shown: Reported) -> None:
    check("outcomes-report", json.loads(json.dumps(report_document(shown), allow_nan=False)))


@pytest.mark.parametrize("key", [KEY, KEY._replace(experiment="0123456789ab")], ids=str)
@pytest.mark.parametrize("form", list(Format))
def test_outcomes_tail(form: Format, key: SumsKey) -> None:
    value = encode_request_outcomes(FEED._replace(key=key), form)
    outcomes = decode_request_outcomes(value, outcome_headers(form))
    check("outcomes-tail", json.loads(msgspec.json.encode(outcomes)))


def test_models_list_and_verify(settings: dict[str, str]) -> None:
    models = Path(settings["TRIMTAB_MODELS"])
    for version in ("2", "3"):
        (models / "quality" / version).mkdir()
    (models / "quality" / "2" / "manifest.json").write_text(
        (models / "quality" / "1" / "manifest.json").read_text()
    )
    for command in ("list", "verify"):
        printed = json.loads(trimtab("models", command, "--json", **settings).out)
        assert len(printed["models"]) == 4
        check(f"models-{command}", printed)


def test_models_new(settings: dict[str, str]) -> None:
    source = Path(settings["TRIMTAB_MODELS"]) / "quality" / "1" / "model.onnx"
    names = ",".join(f"f{n}" for n in range(32))
    ended = trimtab(
        "models", "new", "quality", "--from", source, "--features", names, "--json", **settings
    )
    assert ended.code == 0, ended.err
    check("models-new", json.loads(ended.out))


def test_the_models_that_come_with_the_checkout() -> None:
    for command in ("list", "verify"):
        ended = trimtab("models", command, ROOT / "onnx_models", "--json")
        assert ended.code == 0
        check(f"models-{command}", json.loads(ended.out))


QUALITY, ENGAGEMENT = mix(1, 0), mix(0, 1)
SEVERAL = [
    feed_of({f"i{n:02}": (1 - n / 32, 0.5) for n in range(12)} | {"i11": (0.25, 1.0)}, QUALITY),
    feed_of({"only": (0.5, 0.25)}, QUALITY),
]


@pytest.mark.parametrize("feeds", [SEVERAL, []], ids=["feeds", "no feed"])
def test_weights_preview(feeds: list[Feed]) -> None:
    document = preview_document(preview(feeds, QUALITY, ENGAGEMENT), "home", "control")
    check("weights-preview", json.loads(json.dumps(document, allow_nan=False)))
    assert bool(document["movers"]) == bool(feeds)


@pytest.mark.parametrize("feeds", [SEVERAL, []], ids=["feeds", "no feed"])
def test_weights_margin(feeds: list[Feed]) -> None:
    document = margin_document(margins_of(feeds, QUALITY), "home", "control")
    check("weights-margin", json.loads(json.dumps(document, allow_nan=False)))
    assert document["feeds"] == len(feeds)


def test_status_of_a_worker_that_refuses_something_beside_one_of_another_version(
    env: Environment,
) -> None:
    redis = Redis.from_url(env.redis)
    prefix = f"{env.name}:"
    assert trimtab("status", "--json", **env.settings).code == 1
    redis.hset(f"{prefix}weights:home", "quality", "much")
    redis.hset(f"{prefix}weights:home:b", "quality", "0.75")
    redis.hset(f"{prefix}experiment:home", mapping={"salt": "autumn", "b": "25"})
    redis.hset(f"{prefix}models:home", "quality", "9")
    redis.set(f"{prefix}workers:status:strange", "{}")
    redis.zadd(f"{prefix}workers:live", {"strange": now_ms()})
    env.start_worker().wait_for("event=restored")

    def shown() -> dict[str, Any]:
        status: dict[str, Any] = json.loads(trimtab("status", "--json", **env.settings).out)
        return status

    until(lambda: any(worker["lag"] for worker in shown()["workers"]), shown)
    status = shown()
    check("status", status)
    assert {worker["unreadable"] is None for worker in status["workers"]} == {True, False}
    home = status["surfaces"][0]
    assert all(home[key] for key in ("weights", "experiment", "arms", "models"))
    assert [refused["document"] for refused in home["refused"]] == ["weights", "models"]


def test_produce_feeds_tail_and_dead_letters_list(env: Environment) -> None:
    events = make_request("r", 5, random.Random(1))
    file = write_lines(env.folder / "events.jsonl", [*events, "nonsense"])
    env.start_worker()
    check("produce", json.loads(trimtab("produce", file, "--json", **env.settings).out))
    tail = trimtab(
        "feeds",
        "tail",
        "--from-beginning",
        "--count",
        1,
        "--timeout",
        60,
        "--json",
        **env.settings,
    )
    check("feeds-tail", *json_lines(tail.out))
    assert len(env.read_letters(1, settle=0.1)) == 1
    check(
        "dead-letters-list",
        *json_lines(trimtab("dead-letters", "list", "--json", **env.settings).out),
    )


def test_the_commands_that_steer(env: Environment) -> None:
    def run(*words: str) -> dict[str, Any]:
        ended = trimtab(*words, "--json", **env.settings)
        assert ended.code == 0, ended.err
        printed = json_lines(ended.out)
        check("-".join(words[:2]), *printed)
        return printed[-1]

    add_model(env.folder / "models", mlp(seed=7), "quality", version=2)
    env.start_worker().wait_for("event=restored")
    run("weights", "show")
    run("weights", "set", "home", "quality=0.7", "--reason", "x")
    run("weights", "set", "home", "--arm", "canary", "quality=0.2", "--reason", "x")
    run("experiment", "show", "home")
    for words in (("start", "home", "canary=5"), ("ramp", "home", "canary=10"), ("stop", "home")):
        run("experiment", *words)
    run("experiment", "start", "home", "canary=5")
    run("weights", "show", "home")
    run("experiment", "promote", "home", "canary")
    run("weights", "rollback", "home")
    run("weights", "unset", "home")
    run("weights", "diff", "home", "1", "now")
    run("weights", "wait", "home", "--timeout", "15")
    run("models", "activate", "quality", "1", "--wait", "15")
    run("models", "activate", "quality", "latest")
    run("models", "rollback", "quality", "--surface", "home")
    run("models", "status")
    assert run("weights", "history", "home")["document"] == "models"
    check(
        "weights-watch",
        *json_lines(trimtab("weights", "history", "home", "--json", **env.settings).out),
    )
