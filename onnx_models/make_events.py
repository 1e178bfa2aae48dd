"""Write candidate events for requests of real posts, as JSON lines or length-delimited Protobuf.

Example: python onnx_models/make_events.py onnx_models/data/reddit_top_posts.csv.gz --requests 100
--candidates 50 --seed 1 > events.jsonl

Each request is for one user's home feed: different posts of several communities. The source of a
candidate is its community. The same arguments give the same bytes. Any CSV file with the same
columns works, also with communities that no model has seen.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a file

from onnx_models.event_encoding import ENCODERS
from onnx_models.home_requests import Communities, interleaved, requests
from onnx_models.posts import MAX_ID_BYTES, PostError, read_posts


def encoded_events(arguments: argparse.Namespace, communities: Communities) -> Iterable[bytes]:
    """The events as bytes, in the order in which they are sent."""
    new_requests = requests(
        communities,
        count=arguments.requests,
        candidates=arguments.candidates,
        seed=arguments.seed,
    )
    encode = ENCODERS[arguments.format](arguments.surface, arguments.by_name)
    return map(encode, interleaved(new_requests, arguments.batch, arguments.seed))


def write(events: Iterable[bytes], out: Path | None) -> None:
    """Write the events to a file, or to standard output if `out` is None."""
    if out is not None:
        with out.open("wb") as file:
            file.writelines(events)
        return

    try:
        sys.stdout.buffer.writelines(events)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The reader has enough, as in `| head`. Python would print the error again when it closes
        # standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _at_least_one(word: str) -> int:
    try:
        number = int(word)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {word!r}, expected a whole number of at least 1")
    return number


def _surface(word: str) -> str:
    if not 1 <= len(word.encode()) <= MAX_ID_BYTES:
        raise argparse.ArgumentTypeError(
            f"got {word[:40]!r}, expected 1 to {MAX_ID_BYTES} bytes of UTF-8"
        )
    return word


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("csv", type=Path, metavar="CSV", help="posts: a .csv file, gzipped or not")
    parser.add_argument(
        "--requests", type=_at_least_one, required=True, metavar="N", help="number of requests"
    )
    parser.add_argument(
        "--candidates",
        type=_at_least_one,
        required=True,
        metavar="M",
        help="candidates of a request",
    )
    parser.add_argument(
        "--seed", type=int, required=True, metavar="S", help="seed of everything random"
    )
    parser.add_argument(
        "--batch",
        type=_at_least_one,
        default=1,
        metavar="B",
        help="candidates of an event (default: 1)",
    )
    parser.add_argument(
        "--format",
        choices=sorted(ENCODERS),
        default="json",
        help="json: one event a line (default: json)",
    )
    parser.add_argument(
        "--surface", type=_surface, default="home", help="where the feed is shown (default: home)"
    )
    parser.add_argument(
        "--by-name", action="store_true", help="features by name instead of by position"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write there instead of to standard output"
    )
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Exit code: 0 success, 2 wrong use."""
    parser = _parser()
    arguments = parser.parse_args(words)
    try:
        communities = Communities(read_posts(arguments.csv))
        if communities.size < arguments.candidates:
            parser.error(
                f"--candidates {arguments.candidates}: "
                f"{arguments.csv} has only {communities.size} posts"
            )
        write(encoded_events(arguments, communities), arguments.out)
    except (OSError, PostError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
