"""What a PostgreSQL target can be told, and what its broker says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from remit.access.brokers.options import bad_option, number_of
from remit.access.brokers.port import BrokerManifest, Check
from remit.access.model import Target
from remit.providers.postgres.inspection import Footing
from remit.providers.postgres.login import Attempt, Refused
from remit.providers.postgres.scram import MAX_ITERATIONS

MANIFEST = BrokerManifest(
    id="postgres",
    title="PostgreSQL 13 and later",
    needs=(
        "-- PostgreSQL 16 and later: a login that makes roles and may grant the mapped groups",
        "CREATE ROLE remit_broker LOGIN CREATEROLE PASSWORD '…'",
        "GRANT app_ro TO remit_broker WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
        "-- any version: a login without rights, and the functions that a superuser installs for it",
        "CREATE ROLE remit_broker LOGIN PASSWORD '…'",
        "-- then, as a superuser, in each database: the script of `remit target install`",
        "-- to show what sessions do: GRANT pg_read_all_stats TO remit_broker",
        "-- to revoke a static credential: CREATEROLE with ADMIN on the role and pg_signal_backend, or a superuser",
    ),
    fail_safe=False,
    hazards=(
        "VALID UNTIL guards password logins only: with a dead Remit a live session goes on until the reaper of "
        "`remit target install` runs (by itself where pg_cron is installed)",
        "a lease runs as its group (SET role), so what it makes belongs to the group: the DDL notes of `remit target "
        "install` tell exactly which lease made what; without them it is told by age: code and grants are acted on "
        "only where no other login could have made them, and data is reported, not moved",
        "a function of the group that a lease altered is quarantined or reported; its former text is not restored",
        "a grant to PUBLIC on an object that the group owned before is reported, not removed: it may have been there",
        "prepared transactions belong to the group after SET role and are told by age: max_prepared_transactions = 0 "
        "ends that",
        "sessions on standby servers and server connections kept by PgBouncer are not ended",
        "jobs of pg_cron and subscriptions made by a lease are not seen",
        "a database made after `remit target install` has neither functions nor DDL notes until it is run again",
    ),
)

SCHEMAS = "schemas."
"""`schemas.ROLE=a,b`: the schemas that tasks with this role have business in; reading elsewhere is a detection."""
_OPTIONS = frozenset({"sslmode", "sslrootcert", "scram_iterations", "connections", "ownership", "keep", "warm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options, decoded: unknown keys are errors."""

    iterations: int = 4096
    """Of SCRAM. 1 is safe and faster, for a lease's secret is random; some clients refuse less than 4096."""
    connections: int = 10
    """Sessions that one lease may hold at once."""
    own: bool = False
    """`ownership=lease`: what a lease makes is its own, and on 16 and later SET ROLE is refused; default `group`."""
    warm: int = 0
    """Credentials made ahead for each role and database that tasks ask for; parked, they admit nobody."""
    keep: tuple[str, ...] = ()
    """Group roles whose objects stay where they are though a lease made them: for migrations."""


def decode_options(options: Mapping[str, str]) -> Settings:
    """Read the options of a target; `Misconfigured` (`access.target.option`) names the first that is wrong."""
    if unknown := sorted(key for key in options.keys() - _OPTIONS if not key.startswith(SCHEMAS)):
        raise bad_option(unknown[0], f"use one of: {', '.join(sorted(_OPTIONS))}")
    if options.get("ownership", "group") not in ("group", "lease"):
        raise bad_option("ownership", "use `group` or `lease`")
    return Settings(
        iterations=number_of(options, "scram_iterations", default=4096, most=MAX_ITERATIONS),
        connections=number_of(options, "connections", default=10, most=1000),
        own=options.get("ownership") == "lease",
        warm=number_of(options, "warm", default=0, least=0, most=100),
        keep=tuple(filter(None, (part.strip() for part in options.get("keep", "").split(",")))),
    )


def checks(footing: Footing, control: Attempt, target: Target) -> list[Check]:
    """What `doctor` says of a target; `control` is a login of the broker with a wrong password."""
    weak = footing.weak_hba
    lines = [
        Check(ok=True, title="the server answers", detail=f"PostgreSQL {footing.version}"),
        Check(
            ok=isinstance(control, Refused) and control.is_authentication,
            title="logins are checked by SCRAM-SHA-256",
            detail="a wrong password was refused" if isinstance(control, Refused) else f"a wrong password: {control}",
            next_step="set scram-sha-256 in pg_hba.conf: without it no revocation can be proved",
        ),
        Check(
            ok=not footing.superuser,
            title="the broker holds no more than it needs",
            detail=f"`{target.user}` is a superuser" if footing.superuser else "",
            next_step="run `remit target install`, and give the target a login without rights",
        ),
        Check(
            ok=footing.can_mint,
            title="the broker can mint and revoke",
            detail="; ".join(footing.lacks),
            next_step="run `remit target install`, or grant: " + "; ".join(MANIFEST.needs[1:3]),
        ),
        Check(
            ok=footing.reaped,
            title="live sessions end when Remit is dead",
            detail="the reaper is scheduled" if footing.reaped else "not fail-safe: no reaper is scheduled",
            next_step="install pg_cron and run `remit target install`",
        ),
        Check(
            ok=footing.prepared_transactions == 0,
            title="prepared transactions are off",
            detail=f"max_prepared_transactions = {footing.prepared_transactions}",
            next_step="set max_prepared_transactions = 0 unless a transaction manager needs it",
        ),
    ]
    if weak is None:
        lines.append(Check(ok=False, title="pg_hba.conf asks for SCRAM", detail="`pg_hba_file_rules` is not readable"))
    else:
        lines.append(
            Check(
                ok=not weak,
                title="pg_hba.conf asks for SCRAM",
                detail="; ".join(weak[:5]),
                next_step="replace trust, password and md5 by scram-sha-256",
            )
        )
    return lines
