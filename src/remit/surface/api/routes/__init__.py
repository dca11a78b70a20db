"""All routes, one file for each capability."""

from __future__ import annotations

from remit.surface.api.route import Route


def all_routes() -> list[Route]:
    """Every operation of the API."""
    from remit.surface.api.routes import access, authzen, defense, governance, inventory, ledger, system, trust

    modules = (system, inventory, trust, access, authzen, defense, governance, ledger)
    routes = [route for module in modules for route in module.ROUTES]
    # A name may hold slashes: a path that ends with one is asked last, or it would swallow `…/owner` and the like.
    return sorted(routes, key=lambda route: route.path.endswith(":path}"))
