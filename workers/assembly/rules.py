"""The rules by which events are judged, as one short digest: a replay under other rules shows by
it.
"""

import hashlib
import json

from workers.ranking.surface import Surface, Surfaces

JUDGED_BY = 1
"""Raise this if a new version of the code accepts what the one before refused, or the other way
round.
"""


def rules_digest(surfaces: Surfaces, *settings: str) -> str:
    """12 hex digits over everything in `surfaces`, and in the settings given, that decides what
    becomes of an event.

    That is whether it is accepted, and when its request closes. What decides only how a request is
    ranked is left out: it changes often, and a replay under other weights loses nothing.
    """
    judged = [JUDGED_BY, *settings, *(_judged(surfaces[name]) for name in sorted(surfaces))]
    text = json.dumps(judged, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _judged(surface: Surface) -> list[object]:
    return [
        surface.name,
        surface.feature_set.names,
        surface.deadline_ms,
        surface.horizon_ms,
        surface.max_candidates,
        surface.lookup_features,
    ]
