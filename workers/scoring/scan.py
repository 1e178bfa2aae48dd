"""What one look at the models' folder changes in the catalogue."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from workers.scoring.catalogue import Catalogue, Entry, State
from workers.scoring.folder import Listing, stamp
from workers.scoring.refusal import Version


class Changes(NamedTuple):
    """Entries to be put in or replaced, and versions that are not there any more."""

    put: list[Entry]
    dropped: list[Version]


def look_again(
    catalogue: Catalogue, listing: Listing, in_force: Collection[tuple[str, int]]
) -> Changes:
    """Hold a listing against the catalogue. `in_force` has objective and version: loaded, those go
    on without a folder.

    A version that was verified is not read again: another file under its number is another model,
    and is found out by its hash when it is loaded anew. A refused one is listed again when its
    files change.
    """
    new = [
        entry
        for versions in listing.values()
        for v in versions.values()
        for entry in _seen(catalogue, v)
    ]
    put, dropped = list(new), list[Version]()
    for entry in catalogue:
        objective, number = entry.version.objective, entry.version.number
        if number in listing.get(objective, {}):
            continue
        if entry.session_entry is None or (objective, number) not in in_force:
            dropped.append(entry.version)
        elif entry.listed:
            put.append(replace(entry, listed=False))
    return Changes(put, dropped)


def _seen(catalogue: Catalogue, version: Version) -> Iterator[Entry]:
    known = catalogue.entry(version.objective, version.number)
    if known is None:
        yield Entry(version, stamp(version))
    elif known.state is State.GONE:
        now = stamp(version)
        yield replace(known, listed=True) if known.stamp == now else Entry(version, now)
    elif known.state is State.REFUSED and known.stamp != (now := stamp(version)):
        yield Entry(version, now)
