"""Databases, streams and data platforms."""

from __future__ import annotations

from remit.inventory.model import CredentialKind
from remit.inventory.secrets.engine.rule import ALNUM, BASE64, HEX, URLSAFE, Rule, token

_KEY = CredentialKind.API_KEY
_SECRET = CredentialKind.SECRET
_PASSWORD = CredentialKind.PASSWORD
_PRIVATE = CredentialKind.PRIVATE_KEY

RULES: tuple[Rule, ...] = (
    token("databricks-token", "Databricks token", "dapi", HEX, 32, tail="(?:-[0-9]{1,2})?"),
    token("databricks-secret", "Databricks OAuth secret", "dose", HEX, 32, kind=_SECRET),
    token(
        "confluent-secret", "Confluent API secret", "cflt", BASE64, 60, kind=_SECRET, checksum="confluent", edge=ALNUM
    ),
    token(
        "snowflake-token",
        "Snowflake programmatic token",
        "ver:1-hint:[0-9]{2,20}-ETMsDgAAA",
        BASE64 + "=",
        60,
        600,
        keywords=("etmsdgaaa",),
    ),
    token("mongodb-key", "MongoDB Atlas service secret", "mdb_sa_sk_", URLSAFE, 40, kind=_SECRET),
    token("elastic-key", "Elastic Cloud key", "essu_", BASE64 + "_=-", 40, 120, kind=_KEY),
    token("clickhouse-secret", "ClickHouse Cloud secret", "4b1d", ALNUM, 38, kind=_SECRET),
    token("xata-key", "Xata key", "xau_", ALNUM, 32, 64, kind=_KEY),
    token(
        "convex-key",
        "Convex deploy key",
        r"(?:prod|dev|preview):[a-z]+-[a-z]+-[0-9]{1,4}\|",
        BASE64 + "=",
        40,
        400,
        keywords=("prod:", "dev:", "preview:"),
        kind=_KEY,
    ),
    token("dbt-token", "dbt Cloud token", "dbt[usc]_", URLSAFE + "=", 40, 60, keywords=("dbtu_", "dbts_", "dbtc_")),
    token("tinybird-token", "Tinybird token", r"p\.eyJ[A-Za-z0-9_-]{40,300}\.", URLSAFE, 43, keywords=("p.eyj",)),
    token(
        "maxmind-license-key",
        "MaxMind license key",
        "[A-Za-z0-9]{6}_[A-Za-z0-9]{29}",
        ALNUM,
        0,
        0,
        tail="_mmk",
        keywords=("_mmk",),
        kind=_KEY,
    ),
    token(
        "nats-seed",
        "NATS seed",
        "S[AUNOC]",
        "A-Z2-7",
        56,
        keywords=("sa", "su", "sn", "so", "sc"),
        kind=_PRIVATE,
        checksum="nkey",
        entropy=3.6,
    ),
    token(
        "age-key",
        "age secret key",
        "AGE-SECRET-KEY-1",
        "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
        58,
        kind=_PRIVATE,
        checksum="bech32",
    ),
    token("materialize-password", "Materialize app password", "mzp_", HEX + "-", 64, 72, kind=_PASSWORD),
    token("cockroach-key", "CockroachDB Cloud key", "CCDB1_[A-Za-z0-9]{22}_", ALNUM, 40, kind=_KEY),
    token("astra-token", "Astra DB token", "AstraCS:", ALNUM + ":", 20, 100),
)
