"""For programs that enforce decisions by themselves: middleware, interceptors, and what they stand on.

    from remit.client.enforce import Guard, Pdp, ResourceServer, RouteTable
    from remit.client.enforce.asgi import Enforced

    guard = Guard(
        Pdp("/var/lib/remit/decide.sock"),
        RouteTable.load(Path("routes.toml")),
        tokens=ResourceServer("https://remit.example"),
    )
    app = Enforced(app, guard=guard)

`asgi`, `wsgi` and `grpc` import their frameworks when they are used. Everything fails closed: what no route names,
no proof shows, and nobody decided in time, is refused.

Reading order: `paths` and `routes` (what a request is) → `tokens` (who sent it) → `pdp` (may it?), or `local` (the
same, decided here, over `stream`, into `journal`) → `guard` (the steps) → `answers` (what is told) → `asgi`, `wsgi`,
`grpc`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.client.enforce.answers import Answer
    from remit.client.enforce.guard import Asked, Guard, Identified
    from remit.client.enforce.local import LocalPdp
    from remit.client.enforce.pdp import Decided, DecisionPoint, Pdp, Question
    from remit.client.enforce.routes import RouteTable
    from remit.client.enforce.tokens import ResourceServer

__all__ = [
    "Answer",
    "Asked",
    "Decided",
    "DecisionPoint",
    "Guard",
    "Identified",
    "LocalPdp",
    "Pdp",
    "Question",
    "ResourceServer",
    "RouteTable",
]
_HOMES = {
    "Answer": "answers",
    "Asked": "guard",
    "Decided": "pdp",
    "DecisionPoint": "pdp",
    "Guard": "guard",
    "Identified": "guard",
    "LocalPdp": "local",
    "Pdp": "pdp",
    "Question": "pdp",
    "ResourceServer": "tokens",
    "RouteTable": "routes",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
