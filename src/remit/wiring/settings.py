"""The settings of one installation, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit.kernel.errors import Misconfigured
from remit.kernel.settings import load_settings
from remit.storage.datadir import DataDir


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`[server]`"""

    listen: str = "127.0.0.1:8420"
    """HOST:PORT of the console and the API; loopback only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSettings:
    """`[trust]`"""

    domain: str = "remit.local"
    """SPIFFE trust domain."""
    listen: str = "127.0.0.1:8421"
    """HOST:PORT for agents and workloads by mutual TLS; empty for none."""
    curve: str = "P-256"
    """Of the keys of X.509 authorities: P-256 or P-384."""
    ca_ttl: int = 86400
    """Life of an authority, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """`[upstream]`"""

    kind: str = ""
    """Who signs our X.509 authorities: `disk`, `openbao`, `remit`; empty for ourselves."""
    address: str = ""
    """URL of OpenBao, or HOST:PORT of the listener for agents of the Remit above."""
    certificate: str = ""
    """disk: PEM file of the CA, with what is above it, the root last."""
    key: str = ""
    """disk: PEM file of its private key, readable to its owner alone."""
    roots: str = ""
    """disk: PEM file of further roots to publish."""
    folder: str = ""
    """remit: directory that `remit x509 write` keeps."""
    mount: str = "pki"
    """openbao: where the PKI engine is mounted."""
    issuer: str = "default"
    """openbao: the issuer's name or id."""
    auth: str = "token"
    """openbao: how to sign in: `token`, `approle` or `jwt`."""
    auth_mount: str = ""
    """openbao: where that is mounted, if not under its own name."""
    role: str = ""
    """openbao: role id of the approle, or role of the jwt."""
    secret_file: str = ""
    """openbao: file with the token, the secret id or the JWT, readable to its owner alone."""
    namespace: str = ""
    """openbao: namespace."""
    ca: str = ""
    """openbao: PEM file of the CA of its listener, in place of the system's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysSettings:
    """`[keys]`"""

    kek: str = ""
    """The key-encryption key: `file:PATH` or `pkcs11:…` (RFC 7512); empty for `file:DIR/keys/kek`."""
    pkcs11_module: str = ""
    """Library of the token, where the URI has no `module-path`."""
    pkcs11_pin_file: str = ""
    """File with the token's PIN, where the URI has no `pin-source`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationSettings:
    """`[federation]`"""

    listen: str = ""
    """HOST:PORT of our bundle endpoint of the profile https_web; empty for none."""
    certificate: str = ""
    """PEM file of its certificate and what leads to a public CA; read again when it changes."""
    key: str = ""
    """PEM file of its private key."""
    ca: str = ""
    """PEM file of CAs for partners' endpoints of the profile https_web, in place of the system's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestorSettings:
    """`[attestors]`"""

    file: str = ""
    """TOML file of the platforms whose proofs are believed; a relative path begins in the data directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """`[tokens]`"""

    issuer: str = ""
    """URL by which verifiers know the token service, and the claim `iss`; empty for the address of the server."""
    access_ttl: int = 300
    """Longest life of an access token, in seconds: 10 to 3600."""
    transaction_ttl: int = 120
    """Longest life of a transaction token, in seconds: 10 to 600."""
    dpop_without_nonce: bool = False
    """Accept DPoP proofs that have no nonce of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """`[access]`"""

    shadow_percent: int = 0
    """Share of decisions that the reference engine checks again."""
    listen: str = ""
    """HOST:PORT of the decision listener, by TLS; `http://HOST:PORT` without, on loopback. Empty: the socket alone."""
    workers: int = 0
    """Processes of their own that serve the decision listener: 0 to 16; 0: the server itself does."""
    platforms: str = ""
    """TOML file of the APIs that say when a CI job or a pod ends; a relative path begins in the data directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSettings:
    """`[grants]`"""

    channels_file: str = ""
    """File of the channels by which people hear of requests, `NAME URL` a line; a relative path begins in DIR."""
    console_url: str = ""
    """Where the links in messages lead; empty for the address of the server."""
    alert_channels: int = 2
    """How many channels must take the alert before the glass is broken."""
    review_days: int = 7
    """Days within which an emergency is reviewed; then its identity is suspended."""
    weekly: int = 5
    """A task that is elevated more often in a week is reported as automation to redesign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySettings:
    """`[directory]`"""

    source: str = ""
    """The directory of people: a file (.csv, .json, .yaml; relative to DIR) or the URL of SCIM 2.0; empty for none."""
    token_file: str = ""
    """SCIM: file with the bearer token, readable to its owner alone; a relative path begins in DIR."""
    ca: str = ""
    """SCIM: PEM file of the CA of its server, in place of the system's."""
    minutes: int = 60
    """How often it is read, in minutes."""
    most_leavers: int = 20
    """A reading that shows more than this share (percent) of the people no more is held until a person confirms it."""
    fallback: str = ""
    """Whom to ask last about an identity that nobody answers for: a person, an address or a team."""
    ask: bool = False
    """Ask the likely owners of identities that nobody owns, one after the other, by the channels of `[grants]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """`[discovery]`"""

    scheduled: bool = True
    """Read sources that have a schedule (`remit source schedule`)."""
    shortest_seconds: int = 300
    """A source is read at most as often."""
    longest_minutes: int = 60
    """A reading by schedule that takes longer is ended; one that can be resumed goes on the next time."""
    jitter_percent: int = 10
    """By how much of its interval a reading may begin later, by chance."""
    backoff_hours: int = 24
    """A source that fails is tried less often each time, and no less often than this, or than its interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UseSettings:
    """`[use]`"""

    tier0_days: int = 30
    """After how many days without use an identity of tier 0 is dormant; a log must tell of all of them."""
    tier1_days: int = 60
    """The same for tier 1."""
    tier2_days: int = 90
    """The same for tier 2, and where no tier is set."""
    tier3_days: int = 90
    """The same for tier 3."""
    fresh_days: int = 3
    """A log that ends longer ago tells nothing of now: nobody is called dormant by it."""
    share_percent: int = 2
    """A program with less than this share of the uses makes nobody shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationSettings:
    """`[rotation]`"""

    tier0_days: int = 7
    """Longest life of a credential of tier 0 before it is due to be rotated, in days."""
    tier1_days: int = 30
    """The same for tier 1."""
    tier2_days: int = 90
    """The same for tier 2."""
    tier3_days: int = 180
    """The same for tier 3."""
    automatic: bool = True
    """Rotate by itself what is due and marked automatic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcerSettings:
    """`[enforcers]`"""

    file: str = "enforcers.toml"
    """TOML file of what enforcement points enforce; a relative path begins in the data directory."""
    listen: str = ""
    """HOST:PORT for proxies of this machine that speak no Unix sockets; loopback only, empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSettings:
    """`[graph]`"""

    budget_tier0: int = 0
    """The highest score of a blast radius that an identity of tier 0 may have; more is a finding. 0: no limit."""
    budget_tier1: int = 1000
    """Of tier 1, and of whom nobody assessed."""
    budget_tier2: int = 200
    """Of tier 2."""
    budget_tier3: int = 50
    """Of tier 3."""
    detect_seconds: int = 900
    """Assumed time to detect a misuse, while no incident was measured."""
    revoke_seconds: int = 60
    """Assumed time from the detection until every use is refused."""
    hop_seconds: tuple[str, ...] = ()
    """Seconds of a hop by relation, as `deploys=600`, where they differ from the table."""
    review_seconds: int = 30
    """How often trend and budgets are looked at; only what changed is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefenseSettings:
    """`[defense]`"""

    webhook: str = ""
    """URL that gets a ticket for each incident (https, or http on loopback)."""
    never_contain: tuple[str, ...] = ()
    """Identities that are never contained automatically."""
    contain_share: int = 20
    """Never contain automatically more than this share (percent) of an environment at once."""
    verify_endpoints: tuple[str, ...] = ()
    """Where leaked secrets may be tried, as KIND=URL (github, gitlab, slack, bearer, aws, postgres, redis)."""


SECTIONS: Mapping[str, type[Any]] = {
    "server": ServerSettings,
    "trust": TrustSettings,
    "upstream": UpstreamSettings,
    "keys": KeysSettings,
    "federation": FederationSettings,
    "attestors": AttestorSettings,
    "tokens": TokenSettings,
    "access": AccessSettings,
    "grants": GrantSettings,
    "directory": DirectorySettings,
    "discovery": DiscoverySettings,
    "use": UseSettings,
    "rotation": RotationSettings,
    "enforcers": EnforcerSettings,
    "graph": GraphSettings,
    "defense": DefenseSettings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of them, and where the state lies."""

    data: DataDir
    database: str
    server: ServerSettings
    trust: TrustSettings
    upstream: UpstreamSettings
    keys: KeysSettings
    federation: FederationSettings
    attestors: AttestorSettings
    tokens: TokenSettings
    access: AccessSettings
    grants: GrantSettings
    directory: DirectorySettings
    discovery: DiscoverySettings
    use: UseSettings
    rotation: RotationSettings
    enforcers: EnforcerSettings
    graph: GraphSettings
    defense: DefenseSettings


def settings_from(
    root: Path,
    *,
    config: Path | None = None,
    database: str | None = None,
    socket_dir: Path | None = None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
) -> Settings:
    """Load the settings of the installation at `root`: flag, else environment, else file, else default."""
    data = DataDir.at(root, socket_dir)
    if config is not None and not config.is_file():
        raise Misconfigured("kernel.settings.missing", f"the settings file `{config}` does not exist")
    loaded = load_settings(SECTIONS, file=config or data.config, environ=environ, flags=flags)
    return Settings(data=data, database=database or f"sqlite:///{data.database}", **loaded)
