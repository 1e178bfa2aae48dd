"""Configuration: every mistake is named with its file, its key, its value and what was expected."""

import os
import pwd
from pathlib import Path

import pytest

from workers.ranking.diversify import Diversity
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.surface import DropSet, SetOwner
from workers.settings import SETTINGS, ConfigurationError, folder_of, need, read_properties
from workers.surfaces import load_surfaces

GOOD = """\
[feature_sets.posts]
names = ["age", "words"]
defaults = { age = 1.5 }
bounds = { words = [0, 300] }

[surfaces.home]
feature_set = "posts"
objectives = ["quality", "engagement"]
deadline_ms = 1500
horizon_ms = 60000
max_candidates = 200
top_k = 20
weights = { engagement = 0.25, quality = 1 }
weight_bounds = { quality = [0.0, 1.0] }
max_per_source = 3
drop = { seen = "user", blocked = "surface" }
lookup_features = true

[surfaces.home.diversity]
decay = 0.8
floor = 0.3

[surfaces.home.outcomes]
window_s = 1800
seen = { kind = "view" }
take = { kind = "dwell", at_least = 30 }
others = { hide = { kind = "hide" } }

[surfaces.search]
feature_set = "posts"
objectives = ["engagement"]
weights = { engagement = 1.0 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "surfaces.toml"


def complaint(file: Path, text: str) -> str:
    """The error of a file, without the name of the file that it begins with."""
    file.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_surfaces(file)
    name, message = str(refused.value).split(": ", 1)
    assert name == str(file)
    return message


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_every_key_of_the_file_is_in_the_frozen_values(file: Path) -> None:
    file.write_text(GOOD)
    surfaces = load_surfaces(file)
    home, search = surfaces["home"], surfaces["search"]
    assert list(surfaces) == ["home", "search"]
    assert home.feature_set is search.feature_set
    assert home.feature_set.names == ("age", "words")
    assert home.feature_set.defaults == {"age": 1.5}
    assert home.feature_set.bounds == {"words": (0.0, 300.0)}
    assert home.objectives == ("quality", "engagement")
    assert (home.deadline_ms, home.horizon_ms, home.max_candidates, home.top_k) == (
        1500,
        60_000,
        200,
        20,
    )
    assert home.weight_rules.bounds == {"quality": (0.0, 1.0)}
    assert (home.diversity, home.max_per_source) == (Diversity(0.8, 0.3), 3)
    assert home.drop == (DropSet("seen", SetOwner.USER), DropSet("blocked", SetOwner.SURFACE))
    assert home.lookup_features
    assert home.outcomes == OutcomeRules(
        window_s=1800,
        seen=OutcomeRule("view"),
        take=OutcomeRule("dwell", at_least=30.0),
        others={"hide": OutcomeRule("hide")},
    )


def test_every_item_above_may_count_as_seen(file: Path) -> None:
    file.write_text(changed('seen = { kind = "view" }', 'seen = "above"'))
    outcomes = load_surfaces(file)["home"].outcomes
    assert outcomes is not None
    assert outcomes.seen is None


def test_default_weights_stand_in_the_order_of_the_objectives_whatever_order_they_are_given_in(
    file: Path,
) -> None:
    file.write_text(GOOD)
    assert list(load_surfaces(file)["home"].weight_rules.defaults.items()) == [
        ("quality", 1.0),
        ("engagement", 0.25),
    ]


def test_what_is_not_given_takes_its_default(file: Path) -> None:
    file.write_text(GOOD)
    search = load_surfaces(file)["search"]
    assert (search.deadline_ms, search.horizon_ms, search.max_candidates, search.top_k) == (
        2000,
        30_000,
        1000,
        0,
    )
    assert (search.diversity, search.max_per_source, search.has_source_rules) == (None, 0, False)
    assert (search.drop, search.lookup_features, search.has_lookups) == ((), False, False)
    assert search.outcomes is None

    file.write_text(changed("floor = 0.3\n", ""))
    assert load_surfaces(file)["home"].diversity == Diversity(0.8, 0.0)


MISTAKES = {
    "a word for a number": (
        changed("deadline_ms = 1500", 'deadline_ms = "soon"'),
        "surfaces.home.deadline_ms: got 'soon', expected a whole number",
    ),
    "a drop set that is neither a user's nor a surface's": (
        changed('seen = "user"', 'seen = "item"'),
        "surfaces.home.drop.seen: got 'item', expected 'user' or 'surface'",
    ),
    "a drop set whose owner is a number": (
        changed('seen = "user"', "seen = 1"),
        "surfaces.home.drop.seen: got 1, expected 'user' or 'surface'",
    ),
    "a drop set with a colon in its name": (
        changed('seen = "user"', '"seen:it" = "user"'),
        "surfaces.home.drop.seen:it: expected a name without ':', which separates the parts of keys in Redis",
    ),
    "a drop set under a key that steers": (
        changed('seen = "user"', 'weights = "user"'),
        "surfaces.home.drop.weights: expected another name than experiment, features, history, model-error, "
        "models, not-scored, outcomes, plan, score-not-finite, source-limit, weights, worker-error, workers",
    ),
    "a drop set that is a user's here and a surface's there": (
        GOOD + 'drop = { seen = "surface" }\n',
        "surfaces.search.drop.seen: got 'surface', expected 'user' as on another surface",
    ),
    "drop as a list": (
        changed('drop = { seen = "user", blocked = "surface" }', 'drop = ["seen"]'),
        "surfaces.home.drop: got ['seen'], expected a table",
    ),
    "a word for true": (
        changed("lookup_features = true", 'lookup_features = "yes"'),
        "surfaces.home.lookup_features: got 'yes', expected true or false",
    ),
    "a feature set with a colon that items are looked up by": (
        GOOD.replace("feature_sets.posts", 'feature_sets."po:sts"').replace('"posts"', '"po:sts"'),
        "surfaces.home.feature_set: got 'po:sts', expected one without ':' to be looked up by",
    ),
    "a fraction of a millisecond": (
        changed("deadline_ms = 1500", "deadline_ms = 1500.5"),
        "surfaces.home.deadline_ms: got 1500.5, expected a whole number",
    ),
    "true for a number": (
        changed("top_k = 20", "top_k = true"),
        "surfaces.home.top_k: got True, expected a whole number",
    ),
    "no deadline": (
        changed("deadline_ms = 1500", "deadline_ms = 0"),
        "surfaces.home.deadline_ms: got 0, expected at least 1",
    ),
    "a negative horizon": (
        changed("horizon_ms = 60000", "horizon_ms = -1"),
        "surfaces.home.horizon_ms: got -1, expected at least 1",
    ),
    "no candidate allowed": (
        changed("max_candidates = 200", "max_candidates = 0"),
        "surfaces.home.max_candidates: got 0, expected at least 1",
    ),
    "less than all": (
        changed("top_k = 20", "top_k = -1"),
        "surfaces.home.top_k: got -1, expected at least 0",
    ),
    "a negative limit": (
        changed("max_per_source = 3", "max_per_source = -3"),
        "surfaces.home.max_per_source: got -3, expected at least 0",
    ),
    "diversity as a number": (
        changed("[surfaces.home.diversity]\ndecay = 0.8\nfloor = 0.3\n", "diversity = 0.8\n"),
        "surfaces.home.diversity: got 0.8, expected a table",
    ),
    "diversity without a decay": (
        changed("decay = 0.8\n", ""),
        "surfaces.home.diversity.decay: got nothing, expected a number",
    ),
    "a decay that is no share": (
        changed("decay = 0.8", "decay = 1.5"),
        "surfaces.home.diversity.decay: got 1.5, expected 0 to 1",
    ),
    "a floor that is no number": (
        changed("floor = 0.3", "floor = true"),
        "surfaces.home.diversity.floor: got True, expected a number",
    ),
    "outcomes without a window": (
        changed("window_s = 1800\n", ""),
        "surfaces.home.outcomes.window_s: got nothing, expected a whole number of seconds",
    ),
    "an outcome window of no time": (
        changed("window_s = 1800", "window_s = 0"),
        "surfaces.home.outcomes.window_s: got 0, expected 1 to 604800 seconds",
    ),
    "a word that says nothing about what was seen": (
        changed('seen = { kind = "view" }', 'seen = "below"'),
        "surfaces.home.outcomes.seen: got 'below', expected a table or 'above'",
    ),
    "outcomes that do not say what was seen": (
        changed('seen = { kind = "view" }\n', ""),
        "surfaces.home.outcomes.seen: got nothing, expected a table or 'above'",
    ),
    "outcomes without a take": (
        changed('take = { kind = "dwell", at_least = 30 }\n', ""),
        "surfaces.home.outcomes.take: got nothing, expected a table",
    ),
    "an outcome without a kind": (
        changed('hide = { kind = "hide" }', "hide = {}"),
        "surfaces.home.outcomes.others.hide.kind: got nothing, expected a string",
    ),
    "an outcome with an empty kind": (
        changed('hide = { kind = "hide" }', 'hide = { kind = "" }'),
        "surfaces.home.outcomes.others.hide.kind: got '', expected 1 to 64 characters",
    ),
    "an outcome with a threshold that no value has": (
        changed("at_least = 30", "at_least = inf"),
        "surfaces.home.outcomes.take.at_least: got inf, expected a finite number",
    ),
    "an outcome under a name that is given already": (
        changed('hide = { kind = "hide" }', 'take = { kind = "hide" }'),
        "surfaces.home.outcomes.others.take: expected a name of 1 to 64 of A-Z, a-z, 0-9, _ and -, "
        "other than 'seen' and 'take'",
    ),
    "more outcomes than an item can have": (
        changed(
            'others = { hide = { kind = "hide" } }',
            "others = { " + ", ".join(f'o{n} = {{ kind = "k{n}" }}' for n in range(7)) + " }",
        ),
        "surfaces.home.outcomes.others: got 7 outcomes, expected at most 6",
    ),
    "a key of diversity that is misspelt": (
        changed("floor = 0.3", "flor = 0.3"),
        "surfaces.home.diversity.flor: got 0.3, expected one of the keys: decay, floor",
    ),
    "a key that is misspelt": (
        changed("deadline_ms = 1500", "dead_line = 1500"),
        "surfaces.home.dead_line: got 1500, expected one of the keys: deadline_ms, diversity, drop, feature_set, "
        "horizon_ms, lookup_features, max_candidates, max_per_source, objectives, outcomes, top_k, "
        "weight_bounds, weights",
    ),
    "a key of a feature set that is misspelt": (
        changed("defaults = {", "default = {"),
        "feature_sets.posts.default: got {'age': 1.5}, expected one of the keys: bounds, defaults, names",
    ),
    "a table that is misspelt": (
        GOOD + "\n[surface.more]\n",
        "surface: got {'more': {}}, expected one of the keys: feature_sets, surfaces",
    ),
    "a feature set that is not described": (
        GOOD.replace('"posts"', '"users"'),
        "surfaces.home.feature_set: got 'users', expected one of: posts",
    ),
    "no feature set": (
        GOOD.replace('feature_set = "posts"\n', "", 1),
        "surfaces.home.feature_set: got nothing, expected a string",
    ),
    "no objectives": (
        changed('objectives = ["engagement"]', "objectives = []").replace(
            "weights = { engagement = 1.0 }", ""
        ),
        "surfaces.search.objectives: got [], expected at least one, each once",
    ),
    "an objective twice": (
        changed('objectives = ["engagement"]', 'objectives = ["engagement", "engagement"]'),
        "surfaces.search.objectives: got ['engagement', 'engagement'], expected at least one, each once",
    ),
    "objectives as one word": (
        changed('objectives = ["engagement"]', 'objectives = "engagement"'),
        "surfaces.search.objectives: got 'engagement', expected a list of strings",
    ),
    "a weight that is missing": (
        changed("weights = { engagement = 0.25, quality = 1 }", "weights = { quality = 1 }"),
        "surfaces.home.weights.engagement: got nothing, expected a weight for every objective",
    ),
    "a weight of no objective": (
        changed("engagement = 0.25", "engagment = 0.25"),
        "surfaces.home.weights.engagment: got 0.25, expected one of: quality, engagement",
    ),
    "a weight that is no number": (
        changed("engagement = 0.25", "engagement = '0.25'"),
        "surfaces.home.weights.engagement: got '0.25', expected a number",
    ),
    "a weight that is not finite": (
        changed("engagement = 0.25", "engagement = nan"),
        "surfaces.home.weights.engagement: got nan, expected a finite number",
    ),
    "a weight out of its bounds": (
        changed("quality = 1 ", "quality = 1.5 "),
        "surfaces.home.weights.quality: got 1.5, expected 0.0 to 1.0",
    ),
    "a weight no float can hold": (
        changed("quality = 1 ", f"quality = 1{'0' * 400} "),
        f"surfaces.home.weights.quality: got 1{'0' * 400}, expected a number",
    ),
    "bounds the wrong way round": (
        changed("[0.0, 1.0]", "[1.0, 0.0]"),
        "surfaces.home.weight_bounds.quality: got [1.0, 0.0], expected finite [low, high]",
    ),
    "bounds of no objective": (
        changed("weight_bounds = { quality", "weight_bounds = { speed"),
        "surfaces.home.weight_bounds.speed: not an objective of this surface",
    ),
    "bounds of one number": (
        changed("[0.0, 1.0]", "[0.0]"),
        "surfaces.home.weight_bounds.quality: got [0.0], expected [low, high]",
    ),
    "no feature": (
        changed('names = ["age", "words"]', "names = []").replace("defaults = { age = 1.5 }", ""),
        "feature_sets.posts.names: got no name, expected at least one",
    ),
    "a feature twice": (
        changed('names = ["age", "words"]', 'names = ["age", "words", "age"]'),
        "feature_sets.posts.names: 'age' is given more than once, expected each once",
    ),
    "a feature without a name": (
        changed('names = ["age", "words"]', 'names = ["age", ""]'),
        "feature_sets.posts.names: got ['age', ''], expected a list of strings",
    ),
    "a default of no feature": (
        changed("defaults = { age", "defaults = { aeg"),
        "feature_sets.posts.defaults.aeg: not a name of this feature set",
    ),
    "a default beyond float32": (
        changed("age = 1.5", "age = 1e39"),
        "feature_sets.posts.defaults.age: got 1e+39, expected a finite float32",
    ),
    "bounds of a feature the wrong way round": (
        changed("words = [0, 300]", "words = [300, 0]"),
        "feature_sets.posts.bounds.words: got [300.0, 0.0], expected finite [low, high]",
    ),
    "a name that would part the keys in Redis": (
        GOOD.replace("[surfaces.search]", '[surfaces."a:b"]'),
        "surfaces.a:b.name: got 'a:b', expected one without ':', which separates the parts of keys in Redis",
    ),
    "no surface": (
        "[feature_sets]\n[surfaces]\n",
        "surfaces: none is described, expected at least one",
    ),
    "an empty file": ("", "feature_sets: got nothing, expected a table"),
    "a list for a table": ("feature_sets = []\n", "feature_sets: got [], expected a table"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_with_file_key_value_and_what_was_expected(
    file: Path, text: str, message: str
) -> None:
    assert complaint(file, text) == message


def test_what_is_no_toml_is_named_with_its_line(file: Path) -> None:
    message = complaint(file, GOOD + "top_k == 3\n")
    assert f"at line {GOOD.count(chr(10)) + 1}" in message
    assert message.endswith("expected TOML")


def test_a_file_that_is_not_there_or_is_no_text_is_named(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"surfaces\.toml: cannot be read: .*No such file"):
        load_surfaces(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"surfaces\.toml: cannot be read: .*utf-8"):
        load_surfaces(file)


# librdkafka properties


def test_properties_are_lines_of_key_and_value(tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(
        "# TLS\nsecurity.protocol = SSL\n\nssl.ca.location=ca.pem\nsasl.password=a=b # c\n"
    )
    assert read_properties(file) == {
        "security.protocol": "SSL",
        "ssl.ca.location": "ca.pem",
        "sasl.password": "a=b # c",
    }


def test_without_a_properties_file_there_are_no_properties() -> None:
    assert read_properties(None) == {}


@pytest.mark.parametrize(
    "line",
    [
        "acks",
        "=all",
        "sasl.password hunter2",
        "sasl.password: hunter2",
        "sasl.password: hunter2=",
        "sasl.password hunter2=x",
        "hunter2",
        "hunter2hunter2hunter2==",
        '"sasl.password": "hunter2=",',
    ],
)
def test_a_line_of_properties_that_is_no_pair_is_named_by_its_number_and_not_shown(
    tmp_path: Path, line: str
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(f"# one\n{line}\n")
    with pytest.raises(ConfigurationError) as refused:
        read_properties(file)
    message = str(refused.value)
    assert message.startswith(f"{file}: line 2: got a line that is not shown")
    assert "expected key=value" in message
    assert "hunter2" not in message


def test_a_properties_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere: cannot be read"):
        read_properties(tmp_path / "nowhere")


@pytest.mark.parametrize("given", ["sasl.password=hunter2", "a\nsasl.password hunter2\n"])
def test_properties_in_the_place_of_their_file_are_not_shown(given: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_properties(Path(given))
    assert str(refused.value).startswith("kafka_config: got a value that is not shown")
    assert "hunter2" not in str(refused.value)


def test_a_properties_file_with_an_equals_sign_in_its_name_is_read(tmp_path: Path) -> None:
    file = tmp_path / "env=prod.properties"
    file.write_text("client.id=me")
    assert read_properties(file) == {"client.id": "me"}


# Settings


def test_a_setting_has_one_flag_and_one_variable() -> None:
    setting = SETTINGS["group_protocol"]
    assert (setting.flag, setting.variable) == ("--group-protocol", "TRIMTAB_GROUP_PROTOCOL")
    assert (
        len({s.flag for s in SETTINGS.values()})
        == len({s.variable for s in SETTINGS.values()})
        == len(SETTINGS)
    )


@pytest.mark.parametrize("value", [None, ""])
def test_a_setting_that_a_command_needs_is_named_with_what_helps(value: str | None) -> None:
    with pytest.raises(ConfigurationError) as refused:
        need("kafka", value)
    for part in (
        "kafka: not set",
        "host:port",
        "trimtab stack up --export",
        "--kafka",
        "TRIMTAB_KAFKA",
    ):
        assert part in str(refused.value)


def test_a_setting_that_is_given_is_passed_on() -> None:
    assert need("redis", "redis://h/0") == "redis://h/0"


# Folders


@pytest.mark.parametrize("name", ["home", "cache"])
def test_for_a_user_without_a_home_the_error_names_the_setting_of_the_folder(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs under a number that is nobody's."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    default = str(SETTINGS[name].default)
    with pytest.raises(ConfigurationError) as refused:
        folder_of(name, default)
    why = f"no HOME is set, and user id {os.getuid()} has no home"
    hint = f"Give another with --{name} or TRIMTAB_{name.upper()}"
    assert str(refused.value) == f"{name}: got {default!r}, expected a folder; {why}. {hint}"
    assert folder_of(name, "/data") == Path("/data")


def test_the_home_of_a_user_that_is_not_there_is_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"home: got '~nobody-such/x', .* there is no user 'nobody-such'"
    ):
        folder_of("home", "~nobody-such/x")
