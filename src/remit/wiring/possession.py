"""Attestors of keys, devices and clouds, as the attestors file has them: x509pop, sshpop, tpm, aws_sts, aws_iid.

Join tokens need no table: the administrator's own verb makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from remit.kernel.errors import Misconfigured
from remit.trust.attestors.join_token import JoinTokenAttestor, JoinTokens

if TYPE_CHECKING:
    from remit.trust.attestors.aws_iid import AwsIidAttestor
    from remit.trust.attestors.aws_sts import AwsStsAttestor
    from remit.trust.attestors.ssh_pop import SshPopAttestor
    from remit.trust.attestors.tpm import TpmAttestor
    from remit.trust.attestors.x509_pop import X509PopAttestor
    from remit.wiring.proofs import ProofContext

_MAX_FILE_BYTES = 1024 * 1024


class X509PopConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[x509pop]`"""

    ca_file: str
    """PEM file of the CAs whose certificates name machines."""


class SshPopConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[sshpop]`"""

    ca_file: str
    """Public keys of the CAs that sign host certificates, one a line, as `ssh-keygen` or known_hosts has them."""


class TpmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tpm]`: one of `ca_file` and `ek_sha256`, or both."""

    ca_file: str = ""
    """PEM file of the makers' CAs."""
    ek_sha256: tuple[str, ...] = ()
    """Endorsement keys that are believed without a certificate: SHA-256 of their SubjectPublicKeyInfo."""
    pcrs: str = "sha256:0,1,2,3,4,7"
    """The registers that are quoted."""
    allowed: tuple[str, ...] = ()
    """Values that registers must have, each `N=HEX`; several of one register are alternatives."""


class AwsStsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[aws_sts]`"""

    accounts: tuple[str, ...]
    """Numbers of the accounts whose principals count."""
    regions: tuple[str, ...] = ()
    """Regions whose STS may be asked, `global` for `sts.amazonaws.com`; all, when there are none."""
    endpoint: str = ""
    """Address of a server that stands in for STS."""
    ca_file: str = ""
    """PEM file of the CAs that STS's certificate is verified by, in place of the system's."""


class AwsIidConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[aws_iid]`"""

    accounts: tuple[str, ...]
    """Numbers of the accounts whose instances count."""
    certificates: dict[str, str]
    """Region → PEM file of AWS's RSA-2048 certificate for it."""
    max_age: int = 0
    """Longest time since the instance was launched, in seconds; 0 for any."""
    reusable: bool = False
    """Whether a document counts more than once."""


class JoinTokenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[join_token]`: nothing to set."""


def make_x509_pop(configs: Sequence[X509PopConfig], context: ProofContext) -> X509PopAttestor:
    """The attestor of certificates and their keys."""
    from remit.trust.attestors.anchors import Anchors
    from remit.trust.attestors.x509_pop import X509PopAttestor

    (config,) = configs
    anchors = Anchors("x509pop", _file(context, "x509pop", config.ca_file))
    return X509PopAttestor(anchors, trust_domain=context.trust_domain)


def make_ssh_pop(configs: Sequence[SshPopConfig], context: ProofContext) -> SshPopAttestor:
    """The attestor of SSH hosts."""
    from remit.trust.attestors.ssh_pop import HostAuthorities, SshPopAttestor

    (config,) = configs
    authorities = HostAuthorities(_file(context, "sshpop", config.ca_file))
    return SshPopAttestor(authorities, trust_domain=context.trust_domain)


def make_tpm(configs: Sequence[TpmConfig], context: ProofContext) -> TpmAttestor:
    """The attestor of TPMs."""
    from remit.trust.attestors.anchors import Anchors
    from remit.trust.attestors.tpm import Registers, TpmAttestor

    (config,) = configs
    return TpmAttestor(
        trust_domain=context.trust_domain,
        anchors=Anchors("tpm", _file(context, "tpm", config.ca_file)) if config.ca_file else None,
        endorsement_keys=config.ek_sha256,
        registers=Registers.parse(config.pcrs, config.allowed),
    )


def make_aws_sts(configs: Sequence[AwsStsConfig], context: ProofContext) -> AwsStsAttestor:
    """The attestor of AWS principals."""
    from remit.providers.aws.sts import StsClient
    from remit.trust.attestors.aws_sts import AwsStsAttestor

    (config,) = configs
    ca_file = str(context.folder / config.ca_file) if config.ca_file else ""
    return AwsStsAttestor(
        StsClient(endpoint=config.endpoint, ca_file=ca_file),
        trust_domain=context.trust_domain,
        accounts=config.accounts,
        regions=config.regions,
    )


def make_aws_iid(configs: Sequence[AwsIidConfig], context: ProofContext) -> AwsIidAttestor:
    """The attestor of EC2 instances."""
    from remit.trust.attestors.aws_iid import AwsIidAttestor

    (config,) = configs
    return AwsIidAttestor(
        {region: _file(context, "aws_iid", name) for region, name in config.certificates.items()},
        accounts=config.accounts,
        max_age=timedelta(seconds=config.max_age) if config.max_age > 0 else None,
        reusable=config.reusable,
    )


def make_join_token(configs: Sequence[JoinTokenConfig], context: ProofContext) -> JoinTokenAttestor:
    """The attestor of join tokens."""
    assert context.store is not None
    assert context.attester is not None
    return JoinTokenAttestor(context.store, JoinTokens(context.attester))


def _file(context: ProofContext, sort: str, name: str) -> bytes:
    path: Path = context.folder / name
    try:
        with path.open("rb") as opened:
            found = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        found, why = b"", (error.strerror or "").lower()
    else:
        why = "it is empty, or larger than 1 MiB"
    if not 0 < len(found) <= _MAX_FILE_BYTES:
        raise Misconfigured(
            "trust.attestor.file",
            f"the file `{name[:200]}` of the attestor `{sort}` cannot be read: {why}",
            next_step="correct its path in the attestors file; relative ones begin in that file's folder",
        )
    return found
