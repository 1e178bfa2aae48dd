"""Posts and CSV files for tests."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from onnx_models.posts import Post

DATA = Path(__file__).parents[2] / "onnx_models" / "data" / "reddit_top_posts.csv.gz"

HEADER = [
    "surface",
    "item_id",
    "created_utc",
    "domain",
    "title",
    "selftext_chars",
    "is_self",
    "ups",
    "downs",
    "num_comments",
]


def post(
    title: str = "A title", community: str = "one", item_id: str = "t3_a", **more: object
) -> Post:
    """A post. A test gives only the values that it is about."""
    values = {"domain": "example.com", "created": 1_370_000_000, **more}
    return Post(community=community, item_id=item_id, title=title, **values)  # type: ignore[arg-type]


def row(item_id: str, community: str = "one", **more: object) -> dict[str, object]:
    """A row of a CSV file."""
    return {
        "surface": community,
        "item_id": item_id,
        "created_utc": 1_370_000_000,
        "domain": "example.com",
        "title": f"Title of {item_id}",
        "selftext_chars": 0,
        "is_self": 0,
        "ups": 10,
        "downs": 2,
        "num_comments": 3,
        **more,
    }


def write_csv(
    path: Path, rows: Iterable[Mapping[str, object]], columns: Iterable[str] = HEADER
) -> Path:
    """Write a CSV file with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def several_communities(count: int = 40) -> list[dict[str, object]]:
    """Rows of `count` posts in four communities that no model has seen."""
    return [row(f"t3_{number}", f"unheard-of-{number % 4}") for number in range(count)]
