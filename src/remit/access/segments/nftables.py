"""nftables: users of this machine on the way out, networks on the way in and through; everybody else is reset.

The table is replaced as one transaction. Established connections are judged as new ones are, so that a closed opening
ends what came through it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from remit.access.segments.model import Opening, Segment
from remit.access.segments.notes import left_out, title, who


def table_of(segment: Segment) -> str:
    """The name of the table, without its family `inet`."""
    return segment.mark


def render(segment: Segment) -> str:
    """A ruleset for `nft -f`."""
    table = table_of(segment)
    lacking = {
        each.task: "neither its user nor its network is known"
        for each in segment.openings
        if each.source.uid is None and not each.source.networks
    }
    lines = [
        f"# {title(segment)}",
        *(f"# {each}" for each in left_out(segment, lacking)),
        f"table inet {table}",
        f"delete table inet {table}",
        f"table inet {table} {{",
        "\tchain leaving {",
        "\t\ttype filter hook output priority 0; policy accept;",
        *_to(segment, "users"),
        "\t}",
        "\tchain arriving {",
        "\t\ttype filter hook input priority 0; policy accept;",
        *_to(segment, "networks", unless='iifname != "lo" '),
        "\t}",
        "\tchain passing {",
        "\t\ttype filter hook forward priority 0; policy accept;",
        *_to(segment, "networks"),
        "\t}",
        "\tchain users {",
        "\t\t# Remit itself",
        f"\t\tmeta skuid {segment.uid} accept",
        *_users(segment.openings),
        "\t\treject with tcp reset",
        "\t}",
        "\tchain networks {",
        *_comers(segment.openings),
        "\t\treject with tcp reset",
        "\t}",
        "}",
        "",
    ]
    return "\n".join(lines)


def _to(segment: Segment, chain: str, *, unless: str = "") -> Iterator[str]:
    for each in segment.networks:
        yield f"\t\t{unless}{_family(each)} daddr {_written(each)} tcp dport {segment.port} jump {chain}"


def _users(openings: Sequence[Opening]) -> Iterator[str]:
    for each in openings:
        if each.source.uid is not None:
            yield f"\t\t# {who(each)}"
            yield f"\t\tmeta skuid {each.source.uid} accept"


def _comers(openings: Sequence[Opening]) -> Iterator[str]:
    for each in openings:
        if each.source.networks:
            yield f"\t\t# {who(each)}"
        for one in each.source.networks:
            yield f"\t\t{_family(one)} saddr {_written(one)} accept"


def _family(network: str) -> str:
    return "ip6" if ":" in network else "ip"


def _written(network: str) -> str:
    found = ipaddress.ip_network(network)
    return str(found.network_address) if found.num_addresses == 1 else str(found)
