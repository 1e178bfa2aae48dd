"""Which experiment a phase was under: every phase that a worker had is found in the history."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import PAIR, surface
from tests.rig.redis import RedisServer
from workers.ranking.experiment import Experiment
from workers.ranking.mix import Mix
from workers.ranking.pins import ANY_VERSION, AvailableModels
from workers.ranking.weights import WeightRules, Weights
from workers.steering import last_good
from workers.steering.connection import Events, RedisLink, as_transaction, transaction_replies
from workers.steering.documents import (
    EXPERIMENT,
    WEIGHTS,
    DocumentId,
    ReadContext,
    document_ids,
)
from workers.steering.editor import Change, SteeringEditor
from workers.steering.history import UnrecordedChanges
from workers.steering.keys import Keys
from workers.steering.phases import Phases
from workers.steering.surface_state import SurfaceStates

HOME = surface("home")
NAMES = frozenset(PAIR.names)
DEFAULT = HOME.weight_rules.default()
_prefixes = count()


@pytest.fixture
def editor(server: RedisServer) -> Iterator[SteeringEditor]:
    with SteeringEditor(server.url, f"{next(_prefixes)}:") as editor:
        yield editor


class SteppedWorker:
    """The steering of a worker without its thread: it reads and records when the test says so."""

    def __init__(self, link: RedisLink, keys: Keys, folder: Path) -> None:
        self._link = link
        self._keys = keys
        self._folder = folder
        self.quality_versions = {1, 2}
        self.start_again(with_last_good=False)

    def start_again(self, *, with_last_good: bool) -> None:
        self._states = SurfaceStates(
            {"home": HOME}, Events(_ignore), now=lambda: 0, available=self._models
        )
        self._unrecorded = UnrecordedChanges(self._keys)
        if with_last_good:
            kept = last_good.load(self._folder, "home", HOME, self._models())
            if kept is not None:
                self._states.restore({"home": kept.values})

    def read(self) -> None:
        """One round: read everything, with the arms that the experiment names, then record."""
        (experiment,) = self._link.execute(("HGETALL", self._keys.document("home", EXPERIMENT)))
        arms = self._states.current["home"].arms_to_read(experiment)
        documents = document_ids(arms)
        keys = [self._keys.document("home", kind, arm) for kind, arm in documents]
        replies = transaction_replies(
            self._link.execute(*as_transaction(*(("HGETALL", key) for key in keys)))
        )
        assert replies is not None

        contents = {"home": dict(zip(documents, replies, strict=True))}
        self._states.judge(contents, None)
        self._unrecorded.note(self._states.current, contents)
        commands = self._unrecorded.commands()
        self._unrecorded.answered(self._link.execute(*commands) if commands else [])

        values = self._states.current["home"].values
        last_good.save(self._folder, last_good.file_of("home", values, DEFAULT))

    @property
    def mix(self) -> Mix:
        return self._states.mixes["home"]

    def _models(self) -> AvailableModels:
        versions = dict.fromkeys(self.quality_versions, NAMES)
        return AvailableModels({"quality": versions, "engagement": {1: NAMES}, "extra": versions})


def _ignore(event: str, /, **fields: object) -> None:
    """Nobody reads these logs."""


WEIGHTS_OR_NOT = st.sampled_from(
    [
        {"quality": "0.1"},
        {"quality": "0.2"},
        {"quality": "0.3", "extra": "1"},
        {"quality": "9"},
        {"nonsense": "1"},
        {},
    ]
)
PINS_OR_NOT = st.sampled_from(
    [{"quality": "1"}, {"quality": "2"}, {"quality": "3"}, {"quality": "latest"}, {"x": "?"}, {}]
)
EXPERIMENT_OR_NOT = st.sampled_from(
    [
        {"salt": "a", "x": "10"},
        {"salt": "a", "x": "20", "y": "5"},
        {"salt": "b", "x": "0", "y": "5"},
        {"salt": "b", "x": "0"},
        {"salt": "b", "y": "101"},
        {"x": "5"},
        {},
    ]
)
DOCUMENTS = {document.name: document for document in document_ids(("x", "y"))}
CONTENTS = st.one_of(
    st.tuples(st.sampled_from(["weights", "weights:x", "weights:y"]), WEIGHTS_OR_NOT),
    st.tuples(st.sampled_from(["models", "models:x", "models:y"]), PINS_OR_NOT),
    st.tuples(st.just("experiment"), EXPERIMENT_OR_NOT),
)
WORKER = st.sampled_from([0, 1])
STEPS = st.one_of(
    st.tuples(st.just("by hand"), CONTENTS),
    st.tuples(st.just("by a tool"), st.lists(CONTENTS, min_size=1, max_size=2)),
    st.tuples(st.just("reads"), WORKER),
    st.tuples(st.just("starts again"), WORKER),
    st.tuples(st.just("starts again without a disk"), WORKER),
    st.tuples(st.just("gets a model"), WORKER),
)


@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example has its own keys
)
@given(st.lists(STEPS, min_size=12, max_size=30))
def test_every_phase_that_a_worker_had_is_found_with_its_experiment(
    server: RedisServer, tmp_path_factory: pytest.TempPathFactory, steps: Sequence[Any]
) -> None:
    prefix = f"{next(_prefixes)}:"
    folder = tmp_path_factory.mktemp("workers")
    with RedisLink(server.url) as link, SteeringEditor(server.url, prefix) as editor:
        keys = Keys(prefix)
        workers = [SteppedWorker(link, keys, folder / str(number)) for number in range(2)]
        seen: dict[str, Experiment] = {}

        # The second of two changes by hand hides the first, if nobody has recorded that.
        unrecorded = set[DocumentId]()
        # Everybody begins with weights for the arms, as `experiment start` asks for.
        for arm in ("x", "y"):
            _write_by_hand(server, keys, DocumentId(WEIGHTS, arm), {"quality": "0.4"})
        _write_by_tool(editor, {DocumentId(EXPERIMENT): {"salt": "a", "x": "10"}})

        for action, detail in [("reads", 0), *steps, ("reads", 0), ("reads", 1)]:
            match action:
                case "by hand":
                    name, content = detail
                    document = DOCUMENTS[name]
                    if document in unrecorded:
                        _read(workers[0], seen)
                        unrecorded.clear()
                    _write_by_hand(server, keys, document, content)
                    unrecorded.add(document)
                case "by a tool":
                    contents = {DOCUMENTS[name]: content for name, content in detail}
                    _write_by_tool(editor, contents)
                    unrecorded -= contents.keys()
                case "reads":
                    _read(workers[detail], seen)
                    unrecorded.clear()
                case "starts again" | "starts again without a disk":
                    workers[detail].start_again(with_last_good=action == "starts again")
                    _note(workers[detail], seen)
                case "gets a model":
                    workers[detail].quality_versions.add(3)

        for found in (editor.read_phases(HOME), editor.read_view(HOME, workers=[]).phases):
            known = {phase: found.experiments.get(phase) for phase in seen}
            assert known == seen


def _read(worker: SteppedWorker, seen: dict[str, Experiment]) -> None:
    worker.read()
    _note(worker, seen)


def _note(worker: SteppedWorker, seen: dict[str, Experiment]) -> None:
    if worker.mix.phase is not None:
        assert worker.mix.experiment is not None
        seen[worker.mix.phase] = worker.mix.experiment


def _write_by_hand(
    server: RedisServer, keys: Keys, document: DocumentId, content: Mapping[str, str]
) -> None:
    key = keys.document("home", document.kind, document.arm)
    with server.client.pipeline() as pipeline:
        pipeline.delete(key)
        if content:
            fields: dict[Any, Any] = dict(content)
            pipeline.hset(key, mapping=fields)
        pipeline.execute()


def _write_by_tool(editor: SteeringEditor, contents: Mapping[DocumentId, dict[str, str]]) -> None:
    """Write those that the tool would not refuse."""
    context = ReadContext(HOME, ANY_VERSION)
    changes = list[Change]()
    for (kind, arm), content in contents.items():
        view = editor.read_view(HOME, arm=arm, workers=[])
        try:
            value = kind.read(content, context)
        except kind.refusal:
            continue
        if kind.fields_of(value):
            changes.append(Change(view.document(kind, arm), value))
    if changes:
        editor.write(view, changes, "me", "")


def _weights(editor: SteeringEditor, arm: str | None, **values: str) -> Weights:
    """Write weights by a tool."""
    _write_by_tool(editor, {DocumentId(WEIGHTS, arm): values})
    return HOME.weight_rules.validate(values)


def _experiment(editor: SteeringEditor, **fields: str) -> Experiment:
    """Write an experiment by a tool."""
    _write_by_tool(editor, {DocumentId(EXPERIMENT): fields})
    return Experiment.read(fields)


def test_a_history_that_was_cut_short_knows_the_states_since_its_oldest_entry(
    server: RedisServer, editor: SteeringEditor
) -> None:
    arm = _weights(editor, "x", quality="0.1")
    _experiment(editor, salt="a", x="1")
    old_own = _weights(editor, None, quality="0.2")
    experiment = _experiment(editor, salt="a", x="2")
    own = _weights(editor, None, quality="0.3")

    server.client.xtrim(editor.keys.history("home"), maxlen=1, approximate=False)
    found = editor.read_phases(HOME)
    before = Mix(old_own, experiment, {"x": arm})
    now = Mix(own, experiment, {"x": arm})
    assert found.experiments == {before.phase: experiment, now.phase: experiment}
    assert found.current == experiment
    assert found.since is None


def test_the_current_salt_is_that_of_the_last_experiment_since_it_had_users(
    server: RedisServer, editor: SteeringEditor
) -> None:
    assert editor.read_phases(HOME) == Phases({}, None, None)

    _weights(editor, "x", quality="0.1")
    first = _experiment(editor, salt="a", x="1")
    _experiment(editor, salt="b", x="0")
    _experiment(editor, salt="b", x="5")
    stopped = _experiment(editor, salt="b", x="0")

    entries = editor.read_view(HOME, workers=[]).entries
    found = editor.read_phases(HOME)
    assert (found.current, found.salt) == (stopped, "b")
    assert found.since == entries[3].at
    assert list(found.of_salt("a").values()) == [first]
    assert [experiment.shares for experiment in found.of_salt("b").values()] == [{"x": 500}]


def test_an_experiment_too_long_for_the_history_is_known_while_redis_holds_it(
    server: RedisServer, editor: SteeringEditor
) -> None:
    arms = {f"{number:02}-{'x' * 60}": "0.5" for number in range(100)}
    for arm in arms:
        _write_by_hand(server, editor.keys, DocumentId(WEIGHTS, arm), {"quality": "0.1"})
    experiment = _experiment(editor, salt="long", **arms)

    found = editor.read_phases(HOME)
    assert found.current == experiment
    assert list(found.experiments.values())[:1] == [experiment]

    _experiment(editor, salt="short", x="0")
    assert editor.read_phases(HOME).of_salt("long") == {}


def test_weights_that_the_rules_of_today_refuse_still_name_their_phase(
    server: RedisServer, editor: SteeringEditor
) -> None:
    own = _weights(editor, None, quality="0.9")
    arm = _weights(editor, "x", quality="0.1")
    experiment = _experiment(editor, salt="a", x="1")
    _weights(editor, None, quality="0.2")

    rules = WeightRules(HOME.weight_rules.defaults, {"quality": (0.0, 0.5)})
    found = editor.read_phases(surface("home", weight_rules=rules))
    assert Mix(own, experiment, {"x": arm}).phase in found.experiments


def test_a_change_by_hand_that_is_not_recorded_yet_counts(
    server: RedisServer, editor: SteeringEditor
) -> None:
    arm = _weights(editor, "x", quality="0.1")
    experiment = _experiment(editor, salt="a", x="1")
    _write_by_hand(server, editor.keys, DocumentId(WEIGHTS), {"quality": "0.3"})

    own = HOME.weight_rules.validate({"quality": "0.3"})
    assert Mix(own, experiment, {"x": arm}).phase in editor.read_phases(HOME).experiments
