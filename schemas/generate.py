"""Generate the Protobuf code of the codec from the .proto files here: `python schemas/generate.py`.

Needs grpcio-tools, from the extra `dev`. The files are known to Protobuf as `trimtab/v1/*.proto`,
so that no other library's `feed.proto` in the same process meets ours.
"""

import shutil
import tempfile
from pathlib import Path

from grpc_tools import protoc

SCHEMAS = Path(__file__).resolve().parent
GENERATED = SCHEMAS.parent / "workers" / "codec" / "generated"
NAMES = (
    "candidate",
    "feed",
    "feed_outcomes",
    "feed_record",
    "interaction",
    "request_outcomes",
)


def generate(target: Path) -> None:
    """Write `{name}_pb2.py` and `{name}_pb2.pyi` of each .proto file into `target`. Raises
    RuntimeError.
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            "protoc",
            f"-Itrimtab/v1={SCHEMAS}",
            f"--python_out={scratch}",
            f"--pyi_out={scratch}",
        ]
        if protoc.main([*command, *(f"trimtab/v1/{name}.proto" for name in NAMES)]):
            raise RuntimeError("protoc refused the .proto files: see its message above")
        for made in (Path(scratch) / "trimtab" / "v1").iterdir():
            shutil.copy(made, target / made.name)


if __name__ == "__main__":
    generate(GENERATED)
