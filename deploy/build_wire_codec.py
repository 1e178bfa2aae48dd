"""Compiles workers/codec/wire_codec.c while the package is built or installed.

If it cannot be compiled here, because there is no C compiler or no header of Python, the package is
built without it: Python does its work then. `trimtab doctor` says which of the two is installed.
"""

import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

_MODULE = "workers.codec.wire_codec"
_SOURCE = "workers/codec/wire_codec.c"


class WireCodecHook(BuildHookInterface):
    """Adds the compiled codec to a wheel, or to the checkout of an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel is put together."""
        if self.target_name != "wheel":
            return

        root = Path(self.root)
        for built_before in (root / _SOURCE).parent.glob("*.so"):
            built_before.unlink()
        try:
            built = _compile(root)
        except (CCompilerError, BaseError, OSError) as error:
            self.app.display_warning(f"{_SOURCE}: not compiled, so Python does its work: {error}")
            return

        build_data["artifacts"].append(built.relative_to(root).as_posix())
        build_data["pure_python"] = False
        # The stable ABI of Python 3.11: one wheel for that version and all later ones.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"


def _compile(root: Path) -> Path:
    """Compile the codec beside its source. Raises what the compiler's driver raises."""
    extension = Extension(
        _MODULE,
        sources=[_SOURCE],
        extra_compile_args=["-std=c11", "-O3"],
        py_limited_api=True,
    )
    command = build_ext(Distribution({"name": "trimtab", "ext_modules": [extension]}))
    command.inplace = True
    with tempfile.TemporaryDirectory() as folder:
        command.build_temp = folder
        command.build_lib = folder
        command.ensure_finalized()
        command.run()
    return root / command.get_ext_fullpath(_MODULE)
