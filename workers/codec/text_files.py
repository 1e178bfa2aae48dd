"""Text files as editors and shells write them: UTF-8, with or without a byte order mark. A file in
another encoding is refused by the name of the encoding.

- A mark at the beginning does not belong to the text.
- Windows PowerShell's `>` and `Out-File` write UTF-16.
"""

import codecs

UTF8_EXPECTED = "expected utf-8 (in PowerShell: Set-Content -Encoding utf8)"

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class NotUtf8(ValueError):
    """The file is text in another encoding. The message says which, and what was expected."""


def check_encoding(head: bytes) -> None:
    """Look at the first bytes of a text file. Raises NotUtf8."""
    # UTF-32 first: one of its marks begins with a mark of UTF-16.
    if head.startswith(_UTF32_MARKS):
        raise NotUtf8(f"got UTF-32, {UTF8_EXPECTED}")
    if head.startswith(_UTF16_MARKS) or is_utf16(head):
        raise NotUtf8(f"got UTF-16, {UTF8_EXPECTED}")


def is_utf16(head: bytes) -> bool:
    """Whether this begins like UTF-16, with a mark or without: one of the two bytes of the first
    ASCII character is 0.
    """
    first = head[2:4] if head.startswith(_UTF16_MARKS) else head[:2]
    return len(first) == 2 and (first[0] == 0) != (first[1] == 0)


def without_mark(head: bytes) -> bytes:
    """The first bytes of a file, without the mark of UTF-8."""
    return head.removeprefix(codecs.BOM_UTF8)


def decode_text(raw: bytes) -> str:
    """The text of a file. Raises NotUtf8, or UnicodeDecodeError if the encoding is unknown."""
    check_encoding(raw)
    return without_mark(raw).decode("utf-8")
