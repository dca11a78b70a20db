"""How is a PostgreSQL server reached, and what can be asked of it? A thin typed client over asyncpg.

Shared by the broker (`access.brokers.postgres`), the connector (`inventory.connectors.postgres`) and the demo.
asyncpg is imported when the first connection is opened, never at import. Below: `kernel`.
"""

from remit.providers.postgres.address import Address, environment, parse_url, password_from_file
from remit.providers.postgres.client import Server, connect
from remit.providers.postgres.login import Admitted, Attempt, Refused, Unreached, login
from remit.providers.postgres.scram import scram_verifier

__all__ = [
    "Address",
    "Admitted",
    "Attempt",
    "Refused",
    "Server",
    "Unreached",
    "connect",
    "environment",
    "login",
    "parse_url",
    "password_from_file",
    "scram_verifier",
]
