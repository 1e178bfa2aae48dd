"""Open Bandit through real topics and the real join: the counts are exactly what the file says."""

import json
import uuid
from pathlib import Path

import pytest

from tests.commands.running import Ended, trimtab
from workers.codec.outcomes import decode_request_outcomes
from workers.streaming.clients import Cluster
from workers.streaming.log_reader import read_topic

CLICKS = {
    "all": {"random": 38, "bts": 42},
    "men": {"random": 46, "bts": 69},
    "women": {"random": 46, "bts": 46},
}


@pytest.fixture(scope="module")
def name() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def test_every_count_is_what_the_file_says(kafka: str, name: str, tmp_path: Path) -> None:
    def run(*words: object) -> Ended:
        ended = trimtab("outcomes", *words, TRIMTAB_KAFKA=kafka, TRIMTAB_HOME=str(tmp_path))
        assert ended.code == 0, ended.err
        return ended

    ended = run("replay", "open-bandit", "--name", name)
    assert "Every count is what the file says." in ended.out

    for surface, clicks in CLICKS.items():
        topic = ("--topic-feed-outcomes", f"{name}.feed-outcomes")
        rows = json.loads(run("counts", surface, "--by", "arm", *topic, "--json").out)["rows"]
        assert {row["label"]: row["takes"] for row in rows} == clicks
        for row in rows:
            assert (row["feeds"], row["items"], row["seen"]) == (10_000, 10_000, 10_000)

        by_position = json.loads(run("counts", surface, "--by", "position", *topic, "--json").out)
        assert [row["label"] for row in by_position["rows"]] == [0, 1, 2]
        assert sum(row["seen"] for row in by_position["rows"]) == 20_000
        assert sum(row["takes"] for row in by_position["rows"]) == sum(clicks.values())

    cluster = Cluster(kafka)
    assert read_topic(cluster, f"{name}.interactions.dead-letters") == []
    closed = [
        decode_request_outcomes(record.value, record.headers)
        for record in read_topic(cluster, f"{name}.request-outcomes")
    ]
    assert len({feed.request_id for feed in closed}) == len(closed) == 60_000
    assert sum(feed.takes for feed in closed) == 287
