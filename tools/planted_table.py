"""Print what is planted on the prepared machine and what `remit discover` finds of it: `make planted`.

Starts PostgreSQL, Redis, RabbitMQ, OpenLDAP, MariaDB and OpenSSH on the loopback, which have to be installed, plants, and
reads every source by its command. Exits 1 when a row was not found.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]


def main() -> int:
    """Print the table."""
    sys.path[:0] = [str(_HERE / "tests"), str(_HERE / "src")]
    from planted import inventory, table
    from prepared_machine import prepared

    with prepared() as machine:
        machine.discover()
        machine.read_logs()
        rows = table(inventory(machine))
    print("| planted | where | found |\n|---|---|---|")
    for planted, where, found in rows:
        print(f"| {planted} | {where} | {found or '**not found**'} |")
    missing = sum(not found for _, _, found in rows)
    print(f"\n{len(rows) - missing} of {len(rows)} found")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
