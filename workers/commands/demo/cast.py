"""Who plays in every act: the scene, the stream, the watch, the shell and the narrator."""

from collections.abc import Callable
from dataclasses import dataclass

from workers.commands.demo.scene import Scene
from workers.commands.demo.shell import Shell
from workers.commands.demo.show import Narrator
from workers.commands.demo.stream import Stream
from workers.commands.demo.watch import StandStill, Watch

PATIENCE_SECONDS = 20.0
"""How long what should come at once may take."""


@dataclass(frozen=True)
class Cast:
    """What an act plays with."""

    scene: Scene
    stream: Stream
    watch: Watch
    shell: Shell
    narrator: Narrator

    def until(
        self, condition: Callable[[], bool], what: str, streaming_seconds: float = 0.0
    ) -> None:
        """Read feeds until the condition holds. Raises StandStill, naming `what`, where it does not
        for too long.
        """
        self.watch.until(condition, what, streaming_seconds + PATIENCE_SECONDS)

    def until_feeds(self, count: int) -> None:
        """Read on until so many requests have their feed. Raises StandStill."""
        answered = self.watch.answered
        self.until(lambda: len(answered) >= count, f"{count} feeds", count / self.stream.rate)

    def type(self, *words: str, only: tuple[str, ...] = ("",)) -> None:
        """Type a `trimtab` command as Shell does. Raises StandStill, which names the worker where
        that has ended.
        """
        try:
            self.shell.type(*words, only=only)
        except StandStill:
            self.watch.check_worker(f"trimtab {' '.join(words)}")
            raise
