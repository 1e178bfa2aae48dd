"""The demo as a whole: the scene is set, the story played, and all of it ended, or kept running
where that is asked.
"""

from contextlib import ExitStack, suppress

from workers.commands.demo.kept import keep_running
from workers.commands.demo.outcome import Outcome
from workers.commands.demo.scene import Scene, set_scene
from workers.commands.demo.show import Narrator
from workers.commands.demo.stage import Stage
from workers.commands.demo.story import Story
from workers.local.errors import tail


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
            keep_running(stage, scene, seed, narrator)
            at_the_end.pop_all()
            return outcome
    narrator.say("", "Everything is ended; nothing is left running.")
    return outcome


def _play(
    stage: Stage, requests: int, seed: int, keep: bool, narrator: Narrator
) -> tuple[Scene, Outcome]:
    narrator.head(
        "Trimtab: real posts become ranked feeds on a real Kafka, steered by a real Redis"
    )
    scene = set_scene(stage, seed, narrator)
    outcome = Story(scene, requests, seed, narrator).play(
        drain=lambda: None if keep else stage.stop("worker")
    )
    if outcome.trouble is not None:
        said = stage.log("worker").read_text(encoding="utf-8", errors="replace")
        narrator.say("", "  The end of the worker's log:", tail(said))
    return scene, outcome
