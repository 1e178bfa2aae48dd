"""Training again gives the committed models. Wrong use is reported."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onnx_models import graph, train
from onnx_models.objectives import ENGAGEMENT, OBJECTIVES, QUALITY
from onnx_models.study import Study
from tests.onnx_models.builders import DATA, post, row, several_communities, write_csv

COMMITTED = Path(train.__file__).parent


@pytest.fixture(scope="module")
def posts() -> Iterator[Study]:
    with train.one_thread():
        yield train.load_study(DATA, train.SEED)


@pytest.fixture(scope="module")
def shipped(posts: Study) -> dict[str, bytes]:
    return {objective.name: posts.ship(objective) for objective in OBJECTIVES}


def test_the_same_seed_gives_the_committed_scores(posts: Study, shipped: dict[str, bytes]) -> None:
    assert train.largest_difference(shipped, COMMITTED, posts) <= train.TOLERANCE


def test_the_same_seed_gives_the_same_bytes(posts: Study, shipped: dict[str, bytes]) -> None:
    assert {objective.name: posts.ship(objective) for objective in OBJECTIVES} == shipped


def test_another_seed_makes_a_difference(posts: Study) -> None:
    other = {QUALITY.name: Study(posts.posts, seed=8).ship(QUALITY)}
    assert train.largest_difference(other, COMMITTED, posts) > train.TOLERANCE


def test_the_shipped_models_never_saw_a_held_out_community(
    posts: Study, shipped: dict[str, bytes]
) -> None:
    seen = [each for each, kept in zip(posts.posts, posts.split.without(0), strict=True) if kept]
    model = Study(seen, posts.seed).fit(QUALITY, np.ones(len(seen), np.bool_))
    assert model == shipped[QUALITY.name]


def test_values_are_the_share_of_up_votes_and_the_number_of_comments() -> None:
    liked = post(ups=3, downs=1, comments=7)
    assert (QUALITY.value(liked), ENGAGEMENT.value(liked)) == (0.75, 7.0)


def test_a_post_without_votes_is_not_learned_from(tmp_path: Path) -> None:
    rows = [*several_communities(8), row("t3_none", "unheard-of-1", ups=0, downs=0)]
    kept = train.load_study(write_csv(tmp_path / "posts.csv", rows), seed=1).posts
    assert [each.item_id for each in kept] == [f"t3_{number}" for number in range(8)]


def test_a_file_that_cannot_be_read_is_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--data", str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err


def test_too_few_communities_are_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "posts.csv", [row("t3_a")])
    assert train.main(["--data", str(data), "--check"]) == 2
    assert "1 communities, expected at least 4" in capsys.readouterr().err


def test_models_without_a_committed_counterpart_are_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--check", "--out", str(tmp_path)]) == 2
    assert "model.onnx" in capsys.readouterr().err


def test_the_difference_is_the_largest_of_all_posts(
    posts: Study, shipped: dict[str, bytes]
) -> None:
    swapped = {QUALITY.name: shipped[ENGAGEMENT.name]}
    expected = np.abs(
        graph.run(shipped[ENGAGEMENT.name], posts.rows)
        - graph.run(shipped[QUALITY.name], posts.rows)
    )
    assert train.largest_difference(swapped, COMMITTED, posts) == pytest.approx(
        expected.max(), abs=1e-5
    )
