"""What `--keep` leaves running: a stream beside the worker, and hints at what to try with them."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from workers.commands.demo.models import OBJECTIVE
from workers.commands.demo.operations import assignments
from workers.commands.demo.posts import POSTS, REPOSITORY, SURFACE, draw_requests, load_posts
from workers.commands.demo.scene import TOPIC_CANDIDATES, Scene
from workers.commands.demo.shell import command_lines, export_lines, exports, trimtab
from workers.commands.demo.show import Narrator
from workers.commands.demo.stage import Stage
from workers.commands.demo.stream import Stream
from workers.settings import SETTINGS, ConfigurationError, folder_of
from workers.streaming.clients import Cluster
from workers.streaming.send import Sender

_RATE = 5.0  # requests a second, each in one event: it may run beside other work
_REQUESTS = 18_000  # an hour of them: half a gigabyte in Kafka's log


def keep_running(stage: Stage, scene: Scene, seed: int, narrator: Narrator) -> None:
    """Start the stream, write down that all of it is kept, and say what to try. Raises StackError."""
    stage.start(
        "stream", REPOSITORY, "demo", f"--be-the-stream={scene.addresses.kafka}", f"--seed={seed}"
    )
    stage.keep()
    narrator.head(
        f"All of it goes on, with {_RATE:.0f} requests a second for an hour. To try, in any shell:"
    )
    narrator.say(*_lines(scene, stage.log("worker"), stage.home.parent))


def kept_stream(bootstrap: str, seed: int) -> None:
    """The stream itself: requests other than those of the demo. Raises SendFailed."""
    sender = Sender.to(Cluster(bootstrap), TOPIC_CANDIDATES)
    with Stream(sender, draw_requests(load_posts(seed), seed + 1), _RATE, POSTS, seed) as stream:
        stream.finish(_REQUESTS)
        stream.start()
        stream.join()


def _usual_home() -> Path | None:
    """Where the stack is if nobody says otherwise; None for a user without a home."""
    try:
        return folder_of("home", str(SETTINGS["home"].default))
    except ConfigurationError:
        return None


def _lines(scene: Scene, log: Path, home: Path) -> list[str]:
    usual = home == _usual_home()
    return [
        "  # the feeds, as a downstream consumer reads them",
        *export_lines(exports(scene.addresses, scene.models), prompt="  "),
        *_typed("feeds", "tail", "--top", "5"),
        "",
        "  # other weights, while you watch: by hand, or previewed and then set; and back",
        *command_lines(scene.hset(scene.proposed.values), prompt="  "),
        *_typed(
            "weights", "set", SURFACE, *assignments(scene.canary), "--preview", "--reason", "to try"
        ),
        *_typed("weights", "rollback", SURFACE),
        "",
        f"  # the models: the highest version in force again; {OBJECTIVE} is pinned",
        *_typed("models", "activate", OBJECTIVE, "latest"),
        *_typed("models", "status"),
        "",
        "  # what the worker ranks under, and what it says",
        *_typed("status"),
        f"  tail -f {shlex.quote(str(log))}",
        "",
        "  # end it all",
        *_typed("demo", "--stop", *(() if usual else ("--home", str(home)))),
    ]


def _typed(*words: str) -> Sequence[str]:
    return command_lines([*trimtab(), *words], prompt="  ")
