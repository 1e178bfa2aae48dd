"""Reading a model's files: regular, inside the models' folder, no larger than allowed, judged
before a byte is read.
"""

from pathlib import Path

from workers.scoring.refusal import ModelReason, ModelRefused


def read_file(path: Path, root: Path, limit: int) -> bytes:
    """The bytes of `path`. Links may lead anywhere under `root` (Kubernetes mounts are made of
    them), not out of it.

    Raises ModelRefused (`path`, `size`, `unreadable`), FileNotFoundError.
    """
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            raise ModelRefused(
                ModelReason.PATH, f"{path}: leads to {real}, expected a file under {root}"
            )
        # Opening a pipe would wait for a writer for ever.
        if not real.is_file():
            raise ModelRefused(ModelReason.PATH, f"{path}: expected a regular file")
        size = real.stat().st_size
        if size > limit:
            raise ModelRefused(
                ModelReason.SIZE, f"{path}: got {size} bytes, expected at most {limit}"
            )
        with real.open("rb") as file:
            # A file that grows meanwhile is cut here, and its hash says so.
            return file.read(limit)
    except FileNotFoundError:
        raise
    # Path.resolve tells of a circle of links by RuntimeError. A worker without memory for a file
    # goes on without it.
    except (OSError, RuntimeError, MemoryError) as error:
        raise ModelRefused(
            ModelReason.UNREADABLE, f"{path}: cannot be read: {str(error) or 'no memory'}"
        ) from None
