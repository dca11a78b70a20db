"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()
REQUESTS = Histogram(
    "remit_http_request_seconds",
    "Time to answer an HTTP request.",
    ("route", "status"),
    registry=REGISTRY,
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
)
DECISIONS = Counter("remit_decisions", "Decisions answered.", ("allowed",), registry=REGISTRY)
LEASES = Gauge("remit_leases", "Leases by state.", ("state",), registry=REGISTRY)
LEDGER_SIZE = Gauge("remit_ledger_entries", "Entries in the ledger.", registry=REGISTRY)
IDENTITIES = Gauge("remit_identities", "Identities known.", registry=REGISTRY)


def exposition() -> bytes:
    """The metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
