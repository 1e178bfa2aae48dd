"""The demo as a whole: the scene is set, the story played, and all of it ended, or kept running where that is asked."""

from contextlib import ExitStack, suppress

from workers.commands.demo.posts import POSTS, REPOSITORY, draw_requests, load_posts
from workers.commands.demo.scene import TOPIC_CANDIDATES, Scene, set_scene
from workers.commands.demo.show import Narrator, kept_lines
from workers.commands.demo.stage import Stage
from workers.commands.demo.story import Outcome, Story
from workers.commands.demo.stream import Stream
from workers.local.errors import tail
from workers.streaming.clients import Cluster
from workers.streaming.send import Sender

_KEPT_RATE = 5.0  # requests a second, each in one event: it may run beside other work
_KEPT_REQUESTS = 18_000  # an hour of them: half a gigabyte in Kafka's log
_OTHER_WEIGHTS = {"quality": 0.9, "engagement": 0.1}


def perform(stage: Stage, requests: int, seed: int, keep: bool, narrator: Narrator) -> Outcome:
    """The whole demo. Raises what is in its way: ConfigurationError or a Failure."""
    with stage.held(), ExitStack() as at_the_end:
        stage.clear()
        at_the_end.callback(stage.end)
        try:
            scene, outcome = _play(stage, requests, seed, keep, narrator)
        except KeyboardInterrupt:
            with suppress(OSError):  # the terminal may be gone
                narrator.say("interrupted: ending what the demo has started")
            raise
        if keep and outcome.good:
            _keep(stage, scene, seed, narrator)
            at_the_end.pop_all()
            return outcome
    narrator.say("", "Everything is ended; nothing is left running.")
    return outcome


def _play(stage: Stage, requests: int, seed: int, keep: bool, narrator: Narrator) -> tuple[Scene, Outcome]:
    narrator.head("Trimtab: real posts become ranked feeds on a real Kafka, steered by a real Redis")
    scene = set_scene(stage, seed, narrator)
    outcome = Story(scene, requests, seed, narrator).play(drain=lambda: None if keep else stage.stop("worker"))
    if outcome.trouble is not None:
        said = stage.log("worker").read_text(encoding="utf-8", errors="replace")
        narrator.say("", "  The end of the worker's log:", tail(said))
    return scene, outcome


def _keep(stage: Stage, scene: Scene, seed: int, narrator: Narrator) -> None:
    stage.start("stream", REPOSITORY, "demo", f"--be-the-stream={scene.addresses.kafka}", f"--seed={seed}")
    stage.keep()
    hset = scene.hset(_OTHER_WEIGHTS)
    narrator.head(f"All of it goes on, with {_KEPT_RATE:.0f} requests a second for an hour. To try, in any shell:")
    narrator.say(*kept_lines(scene.addresses, hset, stage.log("worker"), stage.home.parent))


def kept_stream(bootstrap: str, seed: int) -> None:
    """What `--keep` starts: requests other than those of the demo. Raises SendFailed."""
    sender = Sender.to(Cluster(bootstrap), TOPIC_CANDIDATES)
    with Stream(sender, draw_requests(load_posts(seed), seed + 1), _KEPT_RATE, POSTS, seed) as stream:
        stream.finish(_KEPT_REQUESTS)
        stream.start()
        stream.join()
