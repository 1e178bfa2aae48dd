"""Versions of models: whole numbers from 1 to the largest that 64 bits hold, so that every format
carries them.

Folders, manifests, pins and feeds have the same bound. A number made of the time, such as
20261127031249, is below it.
"""

import re
from typing import Final

MAX_VERSION: Final = 2**63 - 1

_TEXT = re.compile(r"[1-9][0-9]{0,18}")


def read_version(text: str) -> int | None:
    """The version that a text names: ASCII digits, without a sign or leading zeros. None if the
    text is not a version.
    """
    if not _TEXT.fullmatch(text):
        return None
    number = int(text)
    return number if number <= MAX_VERSION else None
