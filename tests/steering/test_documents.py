"""The table of the kinds of documents: each row fits the keys, the status and the last good file."""

from typing import Any

import msgspec
import pytest

from tests.builders import HOME, surface
from workers.outcomes.plan import GuardRail, Plan, PlanRefused
from workers.ranking.experiment import Experiment
from workers.ranking.outcome_rules import OutcomeRule, OutcomeRules
from workers.ranking.pins import ANY_VERSION, AvailableModels, Pins
from workers.ranking.weights import Weights
from workers.steering.documents import (
    EXPERIMENT,
    FOLLOWED_KINDS,
    KINDS,
    MODELS,
    PLAN,
    WEIGHTS,
    DocumentId,
    DocumentKind,
    ReadContext,
    document_ids,
)
from workers.steering.keys import Keys
from workers.steering.last_good import LastGoodFile
from workers.steering.status import SurfaceStatus
from workers.steering.view import surface_view

CONTEXT = ReadContext(HOME, ANY_VERSION)
VALUES: dict[str, Any] = {
    "weights": Weights.of({"quality": 0.1 + 0.2, "engagement": 1e-17}),
    "models": Pins({"quality": 3}),
    "experiment": Experiment("s", {"canary": 1250, "later": 0}),
    "plan": Plan(
        "s", 0.05, (GuardRail.parse("take_rate >= -2%"), GuardRail.parse("deadline <= 5%"))
    ),
}

by_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
by_followed_kind = pytest.mark.parametrize(
    "kind", FOLLOWED_KINDS, ids=[kind.name for kind in FOLLOWED_KINDS]
)


@by_kind
def test_the_fields_of_a_value_are_read_back_as_the_value(kind: DocumentKind[Any]) -> None:
    value = VALUES[kind.name]
    assert kind.read(kind.fields_of(value), CONTEXT) == value


@by_kind
def test_fields_of_another_meaning_are_refused_by_the_refusal_of_the_kind(
    kind: DocumentKind[Any],
) -> None:
    with pytest.raises(kind.refusal):
        kind.read({"unknown": "much"}, CONTEXT)


@by_followed_kind
def test_what_is_kept_on_disk_is_read_back_as_the_value(kind: DocumentKind[Any]) -> None:
    value = VALUES[kind.name]
    row = kind.followed.last_good
    kept = msgspec.json.decode(msgspec.json.encode(row.encode(value)))
    assert row.decode(kept, CONTEXT) == value


@by_followed_kind
def test_a_kind_has_its_fields_in_the_status_and_in_the_last_good_file(
    kind: DocumentKind[Any],
) -> None:
    status, last_good = kind.followed.status, kind.followed.last_good
    assert {status.own, status.arms} - {None} <= set(SurfaceStatus.__struct_fields__)
    assert {last_good.own, last_good.arms} - {None} <= set(LastGoodFile.__struct_fields__)
    assert (status.arms is not None) == (last_good.arms is not None) == kind.has_arms


@by_followed_kind
def test_a_document_without_a_value_has_the_same_fields_in_the_status_all_null(
    kind: DocumentKind[Any],
) -> None:
    describe = kind.followed.status.describe
    assert describe(None) == dict.fromkeys(describe(VALUES[kind.name]))


def test_documents_are_judged_arm_by_arm_and_the_experiment_last() -> None:
    assert [document.name for document in document_ids(("a", "b"))] == [
        "weights",
        "models",
        "weights:a",
        "models:a",
        "weights:b",
        "models:b",
        "experiment",
    ]


NOTES = DocumentKind[dict[str, str]](
    name="notes",
    has_arms=False,
    refusal=ValueError,
    read=lambda fields, context: dict(fields),
    judged_by=lambda context: None,
    fields_of=dict,
    version_of=lambda notes: None,
    worker=None,
)


def test_a_kind_that_only_tools_read_is_shown_and_no_worker_reads_it() -> None:
    kinds = (*KINDS, NOTES)
    replies: dict[DocumentId, object] = {one: {} for one in document_ids((), kinds)}
    replies[DocumentId(NOTES)] = {b"by": b"ada"}
    view = surface_view(
        HOME, Keys(), replies=replies, entries=[], now=0, available=CONTEXT.available
    )
    assert view.document(NOTES).value == {"by": "ada"}
    assert view.document(NOTES).content.key == "notes:home"
    assert NOTES not in {document.kind for document in document_ids(())}
    assert Keys().surface_of(b"notes:home") is None


def test_a_document_has_its_name_in_its_key() -> None:
    keys = Keys("prod:")
    assert keys.document("home", WEIGHTS) == "prod:weights:home"
    assert keys.document("home", MODELS, "canary") == "prod:models:home:canary"
    assert keys.surface_of(b"prod:experiment:home") == "home"
    assert keys.surface_of(b"prod:models:home:canary") == "home"
    assert keys.surface_of(b"experiment:home") is None
    assert keys.surface_of(b"prod:history:home") is None
    assert DocumentId(EXPERIMENT).name == "experiment"
    assert DocumentId(MODELS, "canary").name == "models:canary"


@pytest.mark.parametrize(
    ("rail", "expected"),
    [
        ("clicks <= +1%", "got 'clicks', expected one of: take_rate, deadline, engagement, hide"),
        ("extra >= 0.5", "got 'extra', expected one of"),
    ],
)
def test_a_plan_is_refused_if_its_surface_does_not_have_what_a_rail_is_about(
    rail: str, expected: str
) -> None:
    rules = OutcomeRules(60, None, OutcomeRule("play"), {"hide": OutcomeRule("hide")})
    with_outcomes = surface("home", outcomes=rules)
    fields = {"salt": "s", "guard:1": "take_rate >= -2%", "guard:2": rail}
    with pytest.raises(PlanRefused, match=expected):
        PLAN.read(fields, ReadContext(with_outcomes, AvailableModels()))

    fields["guard:2"] = "hide <= +10%"
    PLAN.read(fields, ReadContext(with_outcomes, AvailableModels()))


def test_a_surface_without_outcomes_has_plans_without_guard_rails() -> None:
    context = ReadContext(HOME, AvailableModels())
    PLAN.read({"salt": "s", "tuned_for": "5"}, context)
    with pytest.raises(PlanRefused, match="'home' counts no outcomes"):
        PLAN.read({"salt": "s", "guard:1": "quality >= 0.5"}, context)
