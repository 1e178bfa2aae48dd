"""Topics of the join on the shared Kafka, and closed feeds to fill them with."""

import uuid

from tests.commands.running import Ended, trimtab
from tests.rig.producers import ready_producer
from workers.codec.formats import Format
from workers.codec.outcomes import encode_feed_outcomes, encode_sums_key
from workers.outcomes.records import HOUR_MS, ClosedFeed, SumsKey
from workers.outcomes.sums import Sums
from workers.ranking.request import Completion
from workers.settings import SETTINGS
from workers.streaming.clients import Cluster
from workers.streaming.topics import TopicPlan, create_topics

HOUR = 489_972
NOON = HOUR * HOUR_MS
KEY = SumsKey(
    hour=HOUR,
    surface="home",
    arm="control",
    experiment=None,
    weights="9f86d081884c",
    models=(("engagement", 12), ("quality", 3)),
)
FEED = ClosedFeed(
    offset=0,
    time=NOON + 217,
    due=NOON + 1_800_217,
    request_id="r-1",
    user_id="u-42",
    key=KEY,
    completion=Completion.FULL,
    item_ids=("t3_a", "t3_b", "t3_c"),
    first_position=0,
    marks=bytes([0b111, 0, 0b001]),
    names=("seen", "take", "hide"),
    score_sums={},
)


class JoinTopics:
    """Two topics of a join that begin empty, with two partitions each."""

    def __init__(self, kafka: str) -> None:
        self.cluster = Cluster(kafka)
        name = f"t{uuid.uuid4().hex[:8]}"
        self.sums = f"{name}.feed-outcomes"
        self.requests = f"{name}.request-outcomes"
        create_topics(kafka, [TopicPlan(topic, 2) for topic in (self.sums, self.requests)])

    def write(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        partition: int = 0,
        form: Format = Format.JSON,
    ) -> None:
        """Write a record into this partition, and wait until it is there."""
        producer = ready_producer(self.cluster.bootstrap)
        producer.produce(
            topic, value, key, partition=partition, headers={"content-type": form.content_type}
        )
        assert producer.flush(30) == 0

    def write_sums(
        self,
        *feeds: ClosedFeed,
        key: SumsKey = KEY,
        partition: int = 0,
        closed_until: int = NOON,
        form: Format = Format.JSON,
    ) -> None:
        """Write the sums of these feeds as the latest of a key."""
        sums = Sums()
        for feed in feeds:
            sums.add(feed)
        value = encode_feed_outcomes(key, partition, closed_until, sums, form)
        self.write(self.sums, encode_sums_key(key), value, partition, form)

    def run(self, *words: object) -> Ended:
        """Run `trimtab outcomes` on these topics."""
        environment = {
            SETTINGS["kafka"].variable: self.cluster.bootstrap,
            SETTINGS["topic_feed_outcomes"].variable: self.sums,
            SETTINGS["topic_request_outcomes"].variable: self.requests,
        }
        return trimtab("outcomes", *words, **environment)
