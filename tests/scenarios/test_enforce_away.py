"""A decision point that goes away takes every permit with it, at every proxy, and brings them back when it is there."""

from __future__ import annotations

from functools import partial

import pytest

from servers_gated import Gated, gated, gated_stage


@pytest.mark.parametrize("kinds", [("envoy-http", "envoy-grpc"), ("nginx",), ("traefik",)])
def test_without_a_decision_point_nothing_gets_through(kinds: tuple[str, ...]) -> None:
    with gated_stage(kinds[0].partition("-")[0]) as (stage, port):
        bearer = stage.bearer()
        for kind in kinds:
            with gated(kind, stage, port) as it:
                assert it.get("/orders/1", bearer).status == 200
                stage.server.stop()
                before = len(it.up.paths)
                assert {it.get(path, bearer).status for path in ("/orders/1", "/healthz")} <= {403, 500, 502, 503}
                assert len(it.up.paths) == before
                stage.server.start()
                stage.until(partial(passes, it, bearer))


def passes(it: Gated, bearer: dict[str, str]) -> bool:
    return it.get("/orders/1", bearer).status == 200
