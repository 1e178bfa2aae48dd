"""Text files of Windows: a byte order mark is passed over, and UTF-16 is named, whatever the file
is for.
"""

from io import BytesIO
from pathlib import Path

import pytest

from tests.codec.test_lookup_files import SURFACES
from tests.codec.wire import encoded, valid_event
from workers.codec.event_files import EventFileBroken, RawEvent, read_events
from workers.codec.formats import Format
from workers.codec.lookup_files import LookupFileBroken, read_lookups
from workers.codec.text_files import NotUtf8, decode_text
from workers.commands.models.new import _read_names, read_rows
from workers.ranking.lookup import LookupQuery, LookupResult, SetKey
from workers.settings import ConfigurationError, read_properties
from workers.surfaces import load_surfaces

ROOT = Path(__file__).parents[2]
TOML = (ROOT / "deploy" / "surfaces.toml").read_text()
ENCODINGS = {
    "UTF-16": ["utf-16", "utf-16-le", "utf-16-be"],
    "UTF-32": ["utf-32"],
}
NAMES = [(name, encoding) for name, encodings in ENCODINGS.items() for encoding in encodings]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_mark_and_line_ends_of_windows_are_passed_over_in_configuration(
    file: Path, encoding: str, line_end: str
) -> None:
    def write(text: str) -> None:
        file.write_bytes(text.replace("\n", line_end).encode(encoding))

    write(TOML)
    assert load_surfaces(file) == load_surfaces(ROOT / "deploy" / "surfaces.toml")
    write("client.id=a\u2028b\n# c\nretries = 3\n")
    assert read_properties(file) == {"client.id": "a\u2028b", "retries": "3"}
    write("a\nb\nc\n")
    assert _read_names(str(file)) == ["a", "b", "c"]
    write("a,b\n1,2\n3,4\n")
    assert read_rows(file, ["a", "b"]).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_properties_file_of_an_old_mac_has_lines_too(file: Path) -> None:
    file.write_bytes(b"client.id=a\rretries=3\r")
    assert read_properties(file) == {"client.id": "a", "retries": "3"}


@pytest.mark.parametrize(("name", "encoding"), NAMES)
def test_another_encoding_is_named_in_configuration(file: Path, name: str, encoding: str) -> None:
    file.write_bytes("a,b\n1,2\n".encode(encoding))
    said = f"{file}: cannot be read: got {name}, expected utf-8 (in PowerShell: Set-Content -Encoding utf8)"
    for read in (
        load_surfaces,
        read_properties,
        lambda path: _read_names(str(path)),
        lambda path: read_rows(path, ["a"]),
    ):
        with pytest.raises(ConfigurationError) as refused:
            read(file)
        assert str(refused.value).removeprefix("--features: ") == said


def test_a_file_of_look_ups_may_begin_with_a_mark_and_another_encoding_is_named() -> None:
    line = '{"key": "seen:u", "members": ["a"]}\r\n'
    query = LookupQuery({SetKey("seen", "u"): ["a"]}, {})
    result = read_lookups([line.encode("utf-8-sig"), b""], SURFACES)(query)
    assert result == LookupResult({SetKey("seen", "u"): frozenset("a")}, {})
    for encoding in ENCODINGS["UTF-16"]:
        with pytest.raises(LookupFileBroken, match="line 1: got UTF-16, expected utf-8"):
            read_lookups(BytesIO(line.encode(encoding)), SURFACES)


@pytest.mark.parametrize("form", [None, Format.JSON])
@pytest.mark.parametrize("encoding", ENCODINGS["UTF-16"])
def test_a_file_of_events_in_another_encoding_is_named_once_and_no_line_of_it_is_sent(
    encoding: str, form: Format | None
) -> None:
    lines = 2 * f"{encoded(valid_event()).decode()}\r\n"
    with pytest.raises(EventFileBroken, match="line 1: got UTF-16, expected utf-8"):
        list(read_events(BytesIO(lines.encode(encoding)), form))


def test_events_with_line_ends_of_windows_are_read() -> None:
    event = encoded(valid_event())
    assert list(read_events(BytesIO(event + b"\r\n"))) == [RawEvent(event, Format.JSON, 1)]


def test_the_encoding_of_a_text_in_an_unknown_encoding_is_not_guessed() -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_text(b"caf\xe9")
    with pytest.raises(NotUtf8):
        decode_text(b"\xff\xfe")
