"""The demo as a whole: the scene is set, the story played, and everything ended, or left running where that is asked for."""

import signal
from pathlib import Path

from workers.commands.demo.posts import POSTS, draw_requests, load_posts
from workers.commands.demo.scene import TOPIC_CANDIDATES, Scene, set_scene
from workers.commands.demo.show import Narrator, command_lines, trimtab
from workers.commands.demo.stage import Stage
from workers.commands.demo.story import Outcome, Story
from workers.commands.demo.stream import Stream
from workers.local.errors import tail
from workers.settings import SETTINGS
from workers.streaming.clients import Cluster
from workers.streaming.send import Sender

KEPT_RATE = 5.0
"""Requests a second of the stream that is kept; whole requests an event, it goes easy on the machine."""
KEPT_REQUESTS = 36_000
_OTHER_MIX = {"quality": 0.9, "engagement": 0.1}


def perform(stage: Stage, requests: int, seed: int, keep: bool, narrator: Narrator) -> Outcome:
    """The whole demo. Raises what is in its way: ConfigurationError, or a Failure."""
    with stage.held():
        stage.clear()
        kept = False
        try:
            narrator.head("Trimtab: real posts become ranked feeds on a real Kafka, steered by a real Redis")
            scene = set_scene(stage, seed, narrator)
            story = Story(scene, requests, seed, narrator)
            outcome = story.play(drain=_nothing if keep else lambda: stage.stop("worker"))
            if outcome.trouble:
                _say_trouble(outcome.trouble, stage.log("worker"), narrator)
            elif keep:
                _keep(stage, scene, seed, narrator)
                kept = True
            return outcome
        finally:
            if not kept:
                stage.end()
