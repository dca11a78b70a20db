"""Which formats announce themselves? One file a family of providers; `catalogue` is all of them."""

from __future__ import annotations

from functools import cache

from remit.inventory.secrets.engine.rule import Rule


@cache
def catalogue() -> tuple[Rule, ...]:
    """Every rule, in a stable order; the first of two that find the same value names it."""
    from remit.inventory.secrets.engine.rules import (
        ai,
        chat,
        ci,
        cloud,
        code,
        context,
        data,
        files,
        forms,
        keys,
        links,
        money,
        operations,
        people,
        services,
        web,
    )

    families = (
        keys,
        cloud,
        code,
        ci,
        ai,
        chat,
        money,
        operations,
        data,
        people,
        web,
        links,
        files,
        services,
        context,
        forms,
    )
    return tuple(rule for family in families for rule in family.RULES)
