"""The live workers by their statuses in Redis, and where they agree. For people and tools, not for
workers.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from workers.errors import Failure
from workers.ranking.pins import ANY_VERSION, AvailableModels
from workers.ranking.surface import Surface
from workers.steering.connection import Command, ErrorReply, RedisLink
from workers.steering.documents import DocumentId, Source
from workers.steering.keys import Keys
from workers.steering.status import (
    DOCUMENT_FIELDS,
    ExperimentStatus,
    StatusUnreadable,
    SurfaceStatus,
    WeightsStatus,
    WorkerStatus,
    decode,
)

T = TypeVar("T")
ByWorker = Mapping[str, T]
"""A value of each worker, by the worker's id."""


@dataclass(frozen=True)
class LiveWorker:
    """A worker whose status has not expired. `status` None: it cannot be read, and `unreadable`
    says why.

    `age_ms`: milliseconds by Redis's clock since the worker wrote it; None if it never expires.
    """

    worker: str
    status: WorkerStatus | None
    age_ms: int | None = None
    unreadable: str | None = None


class Fleet(NamedTuple):
    """The workers that have a status, and the ids of those that have none any more: they crashed,
    or are cut off.
    """

    workers: list[LiveWorker]
    silent: list[str]


def read_fleet(link: RedisLink, keys: Keys) -> Fleet:
    """Read all statuses, in two round trips; both lists are sorted by id. Raises RedisLost, and
    Failure if Redis denies the list of ids.
    """
    (ids,) = link.execute(("ZRANGE", keys.live, 0, -1))
    if not isinstance(ids, list):
        raise Failure(
            f"{keys.live}: Redis answers {_printable(ids)!r}, "
            "expected the sorted set of the workers' ids"
        )
    workers = sorted(raw.decode("utf-8", "replace") for raw in ids)
    if not workers:
        return Fleet([], [])

    commands: list[Command] = []
    for worker in workers:
        commands += [("GET", keys.status(worker)), ("PTTL", keys.status(worker))]
    replies = link.execute(*commands)

    fleet = Fleet([], [])
    for worker, text, ttl_ms in zip(workers, replies[::2], replies[1::2], strict=True):
        if text is None:
            fleet.silent.append(worker)
        else:
            fleet.workers.append(_live_worker(worker, text, ttl_ms))
    return fleet


def _live_worker(worker: str, text: object, ttl_ms: object) -> LiveWorker:
    if not isinstance(text, bytes):
        unreadable = f"Redis answers {_printable(text)!r}, expected a string"
        return LiveWorker(worker, None, unreadable=unreadable)

    try:
        status = decode(text)
    except StatusUnreadable as error:
        return LiveWorker(worker, None, unreadable=str(error))

    age_ms = None
    if isinstance(ttl_ms, int) and ttl_ms >= 0:
        age_ms = max(0, status.expiry_ms - ttl_ms)
    return LiveWorker(worker, status, age_ms)


def _printable(reply: object) -> object:
    return reply.message if isinstance(reply, ErrorReply) else reply


# What is available and in force


def workers_with(workers: Iterable[LiveWorker], surface: str) -> list[LiveWorker]:
    """The live workers that have the surface, or may have it: their status cannot be read."""
    return [live for live in workers if live.status is None or surface in live.status.surfaces]


def available_to_all(workers: Iterable[LiveWorker], surface: Surface) -> AvailableModels:
    """The models that every live worker has for the surface. Without a live worker, any may be
    available.

    The workers have judged already whether a model suits the features.
    """
    with_surface = workers_with(workers, surface.name)
    statuses = [live.status for live in with_surface if live.status is not None]
    if not statuses:
        return ANY_VERSION

    objectives: set[str] | None = None
    for status in statuses:
        suitable = {*surface.objectives, *status.objectives.get(surface.feature_set.name, ())}
        objectives = suitable if objectives is None else objectives & suitable

    models: dict[str, dict[int, frozenset[str]]] = {}
    for objective in sorted(objectives or ()):
        in_all: set[int] | None = None
        for status in statuses:
            versions = status.library.get(objective, {})
            numbers = {number for number, version in versions.items() if version.may_be_pinned}
            in_all = numbers if in_all is None else in_all & numbers
        models[objective] = dict.fromkeys(sorted(in_all or ()), frozenset())
    return AvailableModels(models)


def versions_in_force(
    workers: Iterable[LiveWorker], surface: str, arm: str | None, objective: str
) -> dict[str, int | None]:
    """By live worker, the version of an objective's model that is in force; None if that is not
    known.

    That is what the arm pins, else what the surface pins, else what its feeds are scored with.
    """
    versions: dict[str, int | None] = {}
    for live in workers_with(workers, surface):
        version = None
        if live.status is not None:
            version = _version_in_force(live.status, surface, arm, objective)
        versions[live.worker] = version
    return versions


def _version_in_force(
    status: WorkerStatus, surface: str, arm: str | None, objective: str
) -> int | None:
    surface_status = status.surfaces[surface]
    arm_pins = None if arm is None else surface_status.arm_pins.get(arm)
    for pins in (arm_pins, surface_status.pins):
        version = pins.versions.get(objective) if pins and pins.versions else None
        if version is not None:
            return version
    return status.models.get(surface, {}).get(objective)


# Where the workers agree


class WeightsGroup(msgspec.Struct, frozen=True):
    """The workers that have one version of weights in force. Null: they have never had valid
    weights of the arm.
    """

    version: str | None
    values: Mapping[str, float] | None
    sources: list[Source]
    workers: list[str]


class ExperimentGroup(msgspec.Struct, frozen=True):
    """The workers that assign users by one experiment, with a percentage for each arm. Null: they
    have never had a valid one.
    """

    salt: str | None
    arms: Mapping[str, float] | None
    sources: list[Source]
    workers: list[str]


class ModelGroup(msgspec.Struct, frozen=True):
    """The workers that score an objective with one version of its model."""

    version: int
    workers: list[str]


class RefusedGroup(msgspec.Struct, frozen=True):
    """The workers that refuse what Redis holds for a document, for one reason."""

    document: str
    reason: str
    workers: list[str]


class SurfaceAgreement(msgspec.Struct, frozen=True):
    """One surface. If workers differ, there are several groups, the largest first."""

    surface: str
    workers: list[str]
    weights: list[WeightsGroup]
    experiment: list[ExperimentGroup]
    arms: Mapping[str, list[WeightsGroup]]
    refused: list[RefusedGroup]
    models: Mapping[str, list[ModelGroup]]


def agreements(workers: Iterable[LiveWorker]) -> list[SurfaceAgreement]:
    """Every surface of the workers, by name. A worker with an unreadable status is in no group."""
    statuses = {live.worker: live.status for live in workers if live.status is not None}
    surfaces: dict[str, dict[str, SurfaceStatus]] = {}
    for worker, status in statuses.items():
        for surface, surface_status in status.surfaces.items():
            surfaces.setdefault(surface, {})[worker] = surface_status

    agreed = list[SurfaceAgreement]()
    for surface in sorted(surfaces):
        models = {worker: status.models.get(surface, {}) for worker, status in statuses.items()}
        agreed.append(_agreement(surface, surfaces[surface], models))
    return agreed


def _agreement(
    surface: str, statuses: ByWorker[SurfaceStatus], models: ByWorker[Mapping[str, int]]
) -> SurfaceAgreement:
    experiments = {worker: status.experiment for worker, status in statuses.items()}
    arms = _by_name({worker: status.arms for worker, status in statuses.items()})
    return SurfaceAgreement(
        surface=surface,
        workers=list(statuses),
        weights=_weights_groups(statuses),
        experiment=_experiment_groups(experiments),
        arms={arm: _weights_groups(weights) for arm, weights in arms.items()},
        refused=_refused_groups(statuses),
        models={
            objective: _model_groups(versions) for objective, versions in _by_name(models).items()
        },
    )


def _weights_groups(statuses: ByWorker[WeightsStatus]) -> list[WeightsGroup]:
    groups = list[WeightsGroup]()
    for members in _groups(statuses, lambda status: status.version):
        any_status = next(iter(members.values()))
        version = any_status.version
        groups.append(
            WeightsGroup(version, any_status.values, _sources(members), workers=list(members))
        )
    return groups


def _experiment_groups(statuses: ByWorker[ExperimentStatus]) -> list[ExperimentGroup]:
    def shares(status: ExperimentStatus) -> Hashable:
        return status.salt, tuple(sorted((status.arms or {}).items()))

    groups = list[ExperimentGroup]()
    for members in _groups(statuses, shares):
        any_status = next(iter(members.values()))
        salt = any_status.salt
        groups.append(
            ExperimentGroup(salt, any_status.arms, _sources(members), workers=list(members))
        )
    return groups


def _model_groups(versions: ByWorker[int]) -> list[ModelGroup]:
    groups = list[ModelGroup]()
    for members in _groups(versions, int):
        groups.append(ModelGroup(next(iter(members.values())), workers=list(members)))
    return groups


def _refused_groups(statuses: ByWorker[SurfaceStatus]) -> list[RefusedGroup]:
    """In the order of the documents' fields in the status, arms by name."""
    groups = list[RefusedGroup]()
    for field in DOCUMENT_FIELDS:
        reasons: dict[str | None, dict[str, str]] = {}
        for worker, status in statuses.items():
            for arm, document in field.documents_in(status).items():
                if document.refused is not None:
                    reasons.setdefault(arm, {})[worker] = document.refused.reason

        for arm in sorted(reasons, key=str):
            name = DocumentId(field.kind, arm).name
            for members in _groups(reasons[arm], str):
                reason = next(iter(members.values()))
                groups.append(RefusedGroup(name, reason, workers=list(members)))
    return groups


def _groups(values: ByWorker[T], key: Callable[[T], Hashable]) -> list[dict[str, T]]:
    """The workers whose values have the same key, the largest group first."""
    groups: dict[Hashable, dict[str, T]] = {}
    for worker, value in values.items():
        groups.setdefault(key(value), {})[worker] = value
    return sorted(groups.values(), key=len, reverse=True)


def _by_name(values: ByWorker[Mapping[str, T]]) -> dict[str, dict[str, T]]:
    """The same, by the names in the mappings first, and sorted by them."""
    by_name: dict[str, dict[str, T]] = {}
    for worker, named in values.items():
        for name, value in named.items():
            by_name.setdefault(name, {})[worker] = value
    return {name: by_name[name] for name in sorted(by_name)}


def _sources(statuses: ByWorker[WeightsStatus] | ByWorker[ExperimentStatus]) -> list[Source]:
    return sorted({status.source for status in statuses.values() if status.source is not None})
