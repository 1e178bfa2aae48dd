"""The workers that live, as Redis has them: for people and tools, not for workers.

What the workers stand on, put together: who agrees with whom, and on what. Pure.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from workers.errors import Failure
from workers.ranking.pins import ANY_VERSION, AvailableModels
from workers.ranking.surface import Surface
from workers.steering.connection import ErrorReply, RedisLink
from workers.steering.document_state import Source
from workers.steering.keys import Keys
from workers.steering.status import (
    ExperimentStatus,
    PinsStatus,
    StatusUnreadable,
    SurfaceStatus,
    VersionStatus,
    WeightsStatus,
    WorkerStatus,
    decode,
)
from workers.steering.surface_state import EXPERIMENT, document_of, models_of


@dataclass(frozen=True)
class LiveWorker:
    """A worker whose status has not expired. `status` is None where it does not read, and
    `unreadable` says why.

    `age_ms`: milliseconds by Redis's clock since the worker wrote it; None where it does not say
    when it expires.
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
    """Both by their ids, in two round trips. Raises RedisLost, and Failure if Redis denies the
    list.
    """
    (ids,) = link.execute(("ZRANGE", keys.live, 0, -1))
    if not isinstance(ids, list):
        raise Failure(
            f"{keys.live}: Redis answers {_answer(ids)!r}, expected the sorted set of the workers' ids"
        )
    workers = sorted(one.decode("utf-8", "replace") for one in ids)
    if not workers:
        return Fleet([], [])
    asked = [(command, keys.status(worker)) for worker in workers for command in ("GET", "PTTL")]
    replies = iter(link.execute(*asked))
    found = [(worker, next(replies), next(replies)) for worker in workers]
    return Fleet(
        workers=[_read(worker, text, ttl) for worker, text, ttl in found if text is not None],
        silent=[worker for worker, text, _ in found if text is None],
    )


def _read(worker: str, text: object, ttl: object) -> LiveWorker:
    if not isinstance(text, bytes):
        return LiveWorker(
            worker, None, unreadable=f"Redis answers {_answer(text)!r}, expected a string"
        )
    try:
        status = decode(text)
    except StatusUnreadable as unreadable:
        return LiveWorker(worker, None, unreadable=str(unreadable))
    age = max(0, status.expiry_ms - ttl) if isinstance(ttl, int) and ttl >= 0 else None
    return LiveWorker(worker, status, age)


def _answer(reply: object) -> object:
    return reply.message if isinstance(reply, ErrorReply) else reply


T = TypeVar("T")
Library = Mapping[str, Mapping[int, VersionStatus]]
Said = Sequence[tuple[str, T]]
"""What each worker says, by its id."""
AnyStatus = WeightsStatus | ExperimentStatus | PinsStatus


class WeightsGroup(msgspec.Struct, frozen=True):
    """The workers that have one version of a set in force. Null: they have never had a valid set of
    the arm.
    """

    version: str | None
    values: Mapping[str, float] | None
    sources: list[Source]
    workers: list[str]


class ExperimentGroup(msgspec.Struct, frozen=True):
    """The workers that draw by one experiment: a percentage an arm. Null: they have never had a
    valid one.
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
    """One surface: a party each where workers differ, the largest first."""

    surface: str
    workers: list[str]
    weights: list[WeightsGroup]
    experiment: list[ExperimentGroup]
    arms: Mapping[str, list[WeightsGroup]]
    refused: list[RefusedGroup]
    models: Mapping[str, list[ModelGroup]]


def agreements(workers: Iterable[LiveWorker]) -> list[SurfaceAgreement]:
    """Each surface that a worker has, by name; a worker whose status does not read is in no party."""
    statuses = {one.worker: one.status for one in workers if one.status is not None}
    names = sorted({name for status in statuses.values() for name in status.surfaces})
    return [
        _agreement(
            name,
            [
                (worker, status.surfaces[name])
                for worker, status in statuses.items()
                if name in status.surfaces
            ],
            [(worker, status.models.get(name, {})) for worker, status in statuses.items()],
        )
        for name in names
    ]


def workers_with(workers: Iterable[LiveWorker], surface: str) -> list[LiveWorker]:
    """The live workers that have the surface, or may have it: their status does not read."""
    return [one for one in workers if one.status is None or surface in one.status.surfaces]


def available_to_all(workers: Iterable[LiveWorker], surface: Surface) -> AvailableModels:
    """The models that every live worker has for the surface; where none lives, anything may be."""
    statuses = [one.status for one in workers_with(workers, surface.name) if one.status is not None]
    if not statuses:
        return ANY_VERSION
    named = [
        {*surface.objectives, *status.objectives.get(surface.feature_set.name, ())}
        for status in statuses
    ]
    libraries = [status.library for status in statuses]
    return AvailableModels(
        {o: _versions_in_all(libraries, o) for o in sorted(set.intersection(*named))}
    )


def versions_in_force(
    workers: Iterable[LiveWorker], surface: str, arm: str | None, objective: str
) -> dict[str, int | None]:
    """Live worker to the version that is in force there; None where it says none.

    That is what the arm pins, else what the surface pins, else what its feeds are scored with.
    """
    return {
        one.worker: _version_on(one, surface, arm, objective)
        for one in workers_with(workers, surface)
    }


def _version_on(worker: LiveWorker, surface: str, arm: str | None, objective: str) -> int | None:
    if worker.status is None:
        return None
    said = worker.status.surfaces[surface]
    for pins in (said.arm_pins.get(arm) if arm else None, said.pins):
        if pins and pins.versions and pins.versions.get(objective):
            return pins.versions[objective]
    return worker.status.models.get(surface, {}).get(objective)


def _versions_in_all(libraries: Sequence[Library], objective: str) -> dict[int, frozenset[str]]:
    """The workers have judged the features already."""
    there = [
        {n for n, one in library.get(objective, {}).items() if one.may_be_pinned}
        for library in libraries
    ]
    return dict.fromkeys(sorted(set.intersection(*there)), frozenset())


def _agreement(
    name: str, said: Said[SurfaceStatus], models: Said[Mapping[str, int]]
) -> SurfaceAgreement:
    experiments = [(worker, surface.experiment) for worker, surface in said]
    arms = _by_name([(worker, surface.arms) for worker, surface in said])
    pins = _by_name([(worker, surface.arm_pins) for worker, surface in said])
    documents: dict[str, Said[AnyStatus]] = {document_of(): said, EXPERIMENT: experiments}
    documents |= {document_of(arm): of_arm for arm, of_arm in arms.items()}
    documents |= {models_of(): [(worker, surface.pins) for worker, surface in said]}
    documents |= {models_of(arm): of_arm for arm, of_arm in pins.items()}
    return SurfaceAgreement(
        surface=name,
        workers=_workers(said),
        weights=_weights(said),
        experiment=_experiment(experiments),
        arms={arm: _weights(of_arm) for arm, of_arm in arms.items()},
        refused=[
            party
            for document, of_document in documents.items()
            for party in _refused(document, of_document)
        ],
        models={objective: _models(versions) for objective, versions in _by_name(models).items()},
    )


def _weights(said: Said[WeightsStatus]) -> list[WeightsGroup]:
    parties = _parties(said, lambda weights: weights.version)
    return [
        WeightsGroup(p[0][1].version, p[0][1].values, _sources(p), _workers(p)) for p in parties
    ]


def _experiment(said: Said[ExperimentStatus]) -> list[ExperimentGroup]:
    parties = _parties(said, lambda one: (one.salt, tuple(sorted((one.arms or {}).items()))))
    return [ExperimentGroup(p[0][1].salt, p[0][1].arms, _sources(p), _workers(p)) for p in parties]


def _refused(document: str, said: Said[AnyStatus]) -> list[RefusedGroup]:
    reasons = [(worker, one.refused.reason) for worker, one in said if one.refused is not None]
    return [RefusedGroup(document, p[0][1], _workers(p)) for p in _parties(reasons, str)]


def _models(said: Said[int]) -> list[ModelGroup]:
    return [ModelGroup(p[0][1], _workers(p)) for p in _parties(said, int)]


def _parties(said: Said[T], key: Callable[[T], Hashable]) -> list[Said[T]]:
    """Those that say the same, by `key`: the largest party first."""
    parties: dict[Hashable, list[tuple[str, T]]] = {}
    for worker, one in said:
        parties.setdefault(key(one), []).append((worker, one))
    return sorted(parties.values(), key=len, reverse=True)


def _by_name(said: Said[Mapping[str, T]]) -> dict[str, Said[T]]:
    """What is said of each name, by those that know it."""
    names = sorted({name for _, named in said for name in named})
    return {
        name: [(worker, named[name]) for worker, named in said if name in named] for name in names
    }


def _workers(said: Said[object]) -> list[str]:
    return [worker for worker, _ in said]


def _sources(said: Said[WeightsStatus] | Said[ExperimentStatus]) -> list[Source]:
    return sorted({one.source for _, one in said if one.source is not None})
