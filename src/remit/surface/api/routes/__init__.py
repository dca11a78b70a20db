"""All routes, one file for each capability."""

from __future__ import annotations

from remit.surface.api.route import Route


def all_routes() -> list[Route]:
    """Every operation of the API."""
    from remit.surface.api.routes import (
        access,
        authzen,
        coverage,
        defense,
        exports,
        federation,
        governance,
        inventory,
        ledger,
        system,
    )
    from remit.surface.api.routes import agents as agent_routes
    from remit.surface.api.routes import authority as authority_routes
    from remit.surface.api.routes import blast as blast_routes
    from remit.surface.api.routes import deps as dependency_routes
    from remit.surface.api.routes import enforcers as enforcer_routes
    from remit.surface.api.routes import grants as grant_routes
    from remit.surface.api.routes import intents as intent_routes
    from remit.surface.api.routes import keys as key_routes
    from remit.surface.api.routes import leaks as leak_routes
    from remit.surface.api.routes import oauth as oauth_routes
    from remit.surface.api.routes import owners as owner_routes
    from remit.surface.api.routes import past as past_routes
    from remit.surface.api.routes import paths as path_routes
    from remit.surface.api.routes import policies as policy_routes
    from remit.surface.api.routes import resources as resource_routes
    from remit.surface.api.routes import revocation as revocation_routes
    from remit.surface.api.routes import rightsizing as rightsizing_routes
    from remit.surface.api.routes import rotation as rotation_routes
    from remit.surface.api.routes import secrets as secret_routes
    from remit.surface.api.routes import segments as segment_routes
    from remit.surface.api.routes import sources as source_routes
    from remit.surface.api.routes import ssh as ssh_routes
    from remit.surface.api.routes import standing as standing_routes
    from remit.surface.api.routes import stepup as step_up_routes
    from remit.surface.api.routes import tasks as task_routes
    from remit.surface.api.routes import teams as team_routes
    from remit.surface.api.routes import tiers as tier_routes
    from remit.surface.api.routes import trust as trust_routes

    trusted = (
        trust_routes,
        agent_routes,
        authority_routes,
        key_routes,
        revocation_routes,
        federation,
        oauth_routes,
        ssh_routes,
        step_up_routes,
    )
    permitted = (
        policy_routes,
        access,
        task_routes,
        grant_routes,
        enforcer_routes,
        intent_routes,
        secret_routes,
        rotation_routes,
        segment_routes,
        standing_routes,
        rightsizing_routes,
        authzen,
    )
    kept = (
        system,
        inventory,
        resource_routes,
        source_routes,
        coverage,
        exports,
        path_routes,
        blast_routes,
        dependency_routes,
    )
    modules = (
        *kept,
        *trusted,
        *permitted,
        defense,
        leak_routes,
        governance,
        owner_routes,
        team_routes,
        tier_routes,
        ledger,
        past_routes,
    )
    routes = [route for module in modules for route in module.ROUTES]
    # A name may hold slashes: a path that ends with one is asked last, or it would swallow `…/owner` and the like.
    return sorted(routes, key=lambda route: route.path.endswith(":path}"))
