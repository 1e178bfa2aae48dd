"""Posts are read as they are. A value without a clear meaning is an error that names it."""

import gzip
from pathlib import Path

import pytest

from onnx_models.posts import REQUIRED_COLUMNS, Post, PostError, read_posts
from tests.onnx_models.builders import DATA, HEADER, post, row, write_csv


def read_one(tmp_path: Path, **values: object) -> Post:
    (only,) = read_posts(write_csv(tmp_path / "posts.csv", [{**row("t3_a"), **values}]))
    return only


def test_every_row_of_the_real_file_is_read_once() -> None:
    posts = list(read_posts(DATA))
    assert len(posts) == 31_929
    assert len({each.item_id for each in posts}) == 31_929
    assert len({each.community for each in posts}) == 32


def test_the_real_row_with_negative_comments_has_none() -> None:
    by_id = {each.item_id: each for each in read_posts(DATA)}
    assert by_id["t3_boqf9"].comments == 0
    assert by_id["t3_boqf9"].ups == 38


def test_quoted_line_breaks_commas_and_quotation_marks_belong_to_the_title(tmp_path: Path) -> None:
    title = 'A "quoted",\nbroken\r\ntitle'
    assert read_one(tmp_path, title=title) == post(
        title, selftext_chars=0, ups=10, downs=2, comments=3
    )


def test_a_plain_file_and_a_gzipped_one_give_the_same_posts(tmp_path: Path) -> None:
    plain = write_csv(tmp_path / "posts.csv", [row("t3_a"), row("t3_b")])
    zipped = tmp_path / "named-as-you-like"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(read_posts(zipped)) == list(read_posts(plain))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "posts.csv", [row("t3_a")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [each.item_id for each in read_posts(path)] == ["t3_a"]


def test_votes_and_text_columns_may_be_absent(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "posts.csv", [row("t3_a")], REQUIRED_COLUMNS)
    (only,) = read_posts(path)
    assert (only.ups, only.comments, only.is_self, only.selftext_chars) == (0, 0, False, 0)


def test_an_empty_count_is_zero_and_a_flag_may_be_a_word(tmp_path: Path) -> None:
    assert read_one(tmp_path, selftext_chars="", is_self="True", ups="10.0") == post(
        "Title of t3_a", is_self=True, ups=10, downs=2, comments=3
    )


def test_further_columns_are_ignored(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "posts.csv", [row("t3_a", mood="fine")], ["mood", *HEADER])
    assert [each.item_id for each in read_posts(path)] == ["t3_a"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"created_utc": "yesterday"}, "line 3: created_utc 'yesterday': expected a number"),
        ({"created_utc": "nan"}, "line 3: created_utc 'nan': expected a number"),
        ({"created_utc": -1}, "line 3: created_utc -1: expected seconds since the epoch"),
        (
            {"created_utc": 10**12},
            "line 3: created_utc 1000000000000: expected seconds since the epoch",
        ),
        ({"ups": "many"}, "line 3: ups 'many': expected a number"),
        ({"is_self": "perhaps"}, "line 3: is_self 'perhaps': expected 0 or 1"),
        ({"item_id": ""}, "line 3: item_id '': expected 1 to 256 bytes of UTF-8"),
        ({"item_id": "ü" * 129}, "expected 1 to 256 bytes of UTF-8"),
        ({"surface": " "}, "line 3: surface '': expected 1 to 256 bytes of UTF-8"),
    ],
)
def test_a_value_without_a_clear_meaning_is_named_with_its_line(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    path = write_csv(tmp_path / "posts.csv", [row("t3_a"), {**row("t3_b"), **values}])
    with pytest.raises(PostError) as error:
        list(read_posts(path))
    assert message in str(error.value)


def test_a_file_without_a_column_is_refused_by_name(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "posts.csv", [row("t3_a")], [name for name in HEADER if name != "title"]
    )
    with pytest.raises(PostError, match="line 1: no column title"):
        list(read_posts(path))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "posts.csv").touch()
    with pytest.raises(PostError, match="no column surface"):
        list(read_posts(tmp_path / "posts.csv"))


def test_a_gzipped_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    cut = tmp_path / "posts.csv.gz"
    cut.write_bytes(DATA.read_bytes()[:100_000])
    with pytest.raises(PostError, match="not readable as CSV"):
        list(read_posts(cut))


def test_a_row_with_too_few_columns_is_refused_by_line(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "posts.csv", [row("t3_a")])
    path.write_text(path.read_text(encoding="utf-8") + "one,t3_b\n", encoding="utf-8")
    with pytest.raises(PostError, match="line 3: created_utc"):
        list(read_posts(path))
