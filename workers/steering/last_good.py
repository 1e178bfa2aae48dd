"""The last good set of each surface, kept on disk over restarts.

One file a surface, replaced whole: workers of one host write it side by side, the latest wins. Not synced to the
disk: what a power cut spoils does not read back and is ignored.
"""

import os
import secrets
from pathlib import Path
from urllib.parse import quote

import msgspec

from workers.ranking.weights import WeightRules, Weights
from workers.steering.standing import Applied


class LastGoodIgnored(Exception):
    """A file that must not be used; the message names the path and says why."""


class _LastGood(msgspec.Struct, frozen=True):
    key: str
    version: str
    applied_at: int
    values: dict[str, float]


def path_of(home: Path, key: str) -> Path:
    """The file for the set that Redis holds under `key`."""
    return home / f"last-good-{quote(key, safe='')}.json"


def save(home: Path, key: str, applied: Applied) -> None:
    """Keep a set. Raises OSError."""
    path = path_of(home, key)
    weights = applied.weights
    raw = msgspec.json.encode(_LastGood(key, weights.version, applied.at, dict(weights.values)))
    home.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(raw)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(home: Path, key: str, rules: WeightRules) -> Weights | None:
    """The set kept for `key`, valid by `rules`; None where none was kept. Raises LastGoodIgnored."""
    path = path_of(home, key)
    try:
        return _read(path.read_bytes(), key, rules)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise LastGoodIgnored(f"{path}: {error}") from error


def _read(raw: bytes, key: str, rules: WeightRules) -> Weights:
    kept = msgspec.json.decode(raw, type=_LastGood)
    if kept.key != key:
        raise ValueError(f"key: got {kept.key!r}, expected {key!r}")
    if Weights.of(kept.values).version != kept.version:
        raise ValueError(f"version: got {kept.version!r}, which is not that of the values")
    return rules.validate(kept.values)
