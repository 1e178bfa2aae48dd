"""Versions of models: whole numbers from 1 to the largest that 64 bits hold, so that every format
carries them.

One bound for folders, manifests, pins and feeds: a number by time such as 20261127031249 is below
it.
"""

import re
from typing import Final

MAX_VERSION: Final = 2**63 - 1

_TEXT = re.compile(r"[1-9][0-9]{0,18}")


def read_version(text: str) -> int | None:
    """The version that a text names in its one spelling: ASCII digits, without a sign or leading
    zeros.
    """
    if not _TEXT.fullmatch(text):
        return None
    number = int(text)
    return number if number <= MAX_VERSION else None
