"""Generate `sds_pb2.py` and its types again: `python -m remit.surface.agent.sds_wire.regenerate`."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Run protoc over `sds.proto`; a tool for who changes it, nothing imports it."""
    import grpc_tools  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from grpc_tools import protoc

    here, includes = Path(__file__).parent, Path(grpc_tools.__file__).parent / "_proto"
    paths = [f"-I{here}", f"-I{includes}"]
    return int(protoc.main(["protoc", *paths, f"--python_out={here}", f"--pyi_out={here}", str(here / "sds.proto")]))


if __name__ == "__main__":
    sys.exit(main())
