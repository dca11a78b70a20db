"""Generate the Python of every `.proto` in this folder again: `python -m remit.surface.agent.wire.regenerate`.

A tool for who changes a .proto; nothing imports it. Generated modules import one another by their full package name.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> int:
    """Run protoc with the message and grpclib plug-ins over this folder's files."""
    import grpc_tools  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from grpc_tools import protoc

    here = Path(__file__).parent
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    includes = Path(grpc_tools.__file__).parent / "_proto"
    for proto in sorted(here.glob("*.proto")):
        command = ["protoc", f"-I{here}", f"-I{includes}", f"--python_out={here}", f"--python_grpc_out={here}"]
        if protoc.main([*command, str(proto)]) != 0:
            return 1
        _qualify(here / f"{proto.stem}_grpc.py", proto.stem)
    return 0


def _qualify(module: Path, stem: str) -> None:
    """Make `import x_pb2` of a generated module an import of this package."""
    plain = f"import {stem}_pb2\n"
    module.write_text(module.read_text().replace(plain, f"from {__package__} import {stem}_pb2\n"))


if __name__ == "__main__":
    sys.exit(main())
