"""Topics of a join, for each test its own."""

import pytest

from tests.commands.outcomes.building import JoinTopics


@pytest.fixture
def topics(kafka: str) -> JoinTopics:
    return JoinTopics(kafka)
