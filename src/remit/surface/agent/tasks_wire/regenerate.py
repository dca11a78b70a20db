"""Generate `tasks_pb2.py` and its types again: `python -m remit.surface.agent.tasks_wire.regenerate`."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Run protoc over `tasks.proto`; a tool for who changes it, nothing imports it."""
    from grpc_tools import protoc  # type: ignore[import-untyped,unused-ignore]

    here = Path(__file__).parent
    return int(
        protoc.main(["protoc", f"-I{here}", f"--python_out={here}", f"--pyi_out={here}", str(here / "tasks.proto")])
    )


if __name__ == "__main__":
    sys.exit(main())
