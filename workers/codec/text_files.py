"""Text files as editors and shells write them: UTF-8 with or without a byte order mark, and what is
named instead.

A mark at the beginning is no part of the text. Windows PowerShell's `>` and `Out-File` write
UTF-16.
"""

import codecs

UTF8_EXPECTED = "expected utf-8 (in PowerShell: Set-Content -Encoding utf8)"

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class NotUtf8(ValueError):
    """The file is text in another encoding; the message says which, and what was expected."""


def check_encoding(head: bytes) -> None:
    """Look at the first bytes of a text file. Raises NotUtf8."""
    if head.startswith(_UTF32):  # before UTF-16, whose mark one of them begins with
        raise NotUtf8(f"got UTF-32, {UTF8_EXPECTED}")
    if head.startswith(_UTF16) or is_utf16(head):
        raise NotUtf8(f"got UTF-16, {UTF8_EXPECTED}")


def is_utf16(head: bytes) -> bool:
    """Whether this begins like UTF-16, with a mark or without: of the first character of ASCII one
    byte is 0.
    """
    first = head[2:4] if head.startswith(_UTF16) else head[:2]
    return len(first) == 2 and (first[0] == 0) != (first[1] == 0)


def without_mark(head: bytes) -> bytes:
    """The first bytes of a file, without the mark of UTF-8."""
    return head.removeprefix(codecs.BOM_UTF8)


def decode_text(raw: bytes) -> str:
    """The text of a whole file. Raises NotUtf8, and UnicodeDecodeError if it is in no encoding that
    is known here.
    """
    check_encoding(raw)
    return without_mark(raw).decode("utf-8")
