"""Tables of trust: authorities, registration entries, binaries last seen, the bundle's sequence number."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

trust_authority = Table(
    "trust_authority",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("state", String(12), nullable=False),
    Column("public", LargeBinary, nullable=False),
    Column("chain", JsonText, nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("activated", Moment),
    Column("ended", Moment),
    Column("signature", Text, nullable=False),
    Column("sealed", LargeBinary),
)
"""`sealed` is the private key under envelope encryption; null once the authority was revoked."""

trust_entry = Table(
    "trust_entry",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("key", String(80), nullable=False, unique=True),
    Column("spiffe_id", String(2048), nullable=False),
    Column("selectors", JsonText, nullable=False),
    Column("x509_ttl", Integer, nullable=False),
    Column("jwt_ttl", Integer, nullable=False),
    Column("hint", Text, nullable=False),
    Column("identity", String(32), nullable=False, index=True),
    Column("federates_with", JsonText, nullable=False),
    Column("created", Moment, nullable=False),
    Column("signature", Text, nullable=False),
)
"""`key` names SPIFFE ID and selectors: the same claim is never registered twice."""

trust_binary = Table(
    "trust_binary",
    metadata,
    Column("entry", String(32), primary_key=True),
    Column("path_digest", String(64), primary_key=True),
    Column("path", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("seen", Moment, nullable=False),
)
"""The digest of the executable that an entry was last given to, for each path (keyed by the path's SHA-256)."""

trust_bundle = Table(
    "trust_bundle",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
)
"""One row, id 1."""

trust_issued = Table(
    "trust_issued",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(24), nullable=False),
    Column("spiffe_id", String(2048), nullable=False),
    Column("entry", String(32), nullable=False, index=True),
    Column("identity", String(32), nullable=False, index=True),
    Column("agent", String(32), nullable=False),
    Column("authority", String(32), nullable=False),
    Column("grant", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("issued", Moment, nullable=False),
    Column("expires", Moment, nullable=False, index=True),
)
"""What was handed out and has not expired: whom a revocation must reach. It holds no secret."""
