"""Secret managers, overlays and key formats: what a token of one says of its class, and the public half of a key.

Spec: 1Password "Service accounts"; HashiCorp Vault "Tokens"; Doppler "Token formats"; Tailscale "Key prefixes";
nats-io/nkeys; C2SP age; BIP 173 (Bech32); WireGuard whitepaper §5.4.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable

from remit.inventory.connectors.files.keys import sha256
from remit.inventory.model import CredentialKind, IdentityKind
from remit.inventory.secrets.binding.model import Binding, Seen, known, subject

_VAULT = re.compile(r"(hv[sbr])\.[\w-]{20,300}|([sbr])\.[A-Za-z0-9]{24}(?:\.[A-Za-z0-9]{5})?")
_VAULT_CLASS = {"s": "service", "b": "batch", "r": "recovery"}
_DOPPLER = re.compile(r"dp\.(ct|pt|st|sa|said|scim|audit)\.(?:([\w-]{1,60})\.)?[A-Za-z0-9]{32,60}")
_DOPPLER_CLASS = {
    "ct": "CLI", "pt": "personal", "st": "service", "sa": "service account", "said": "service account identity",
    "scim": "SCIM", "audit": "audit",
}  # fmt: skip
_TAILSCALE = re.compile(r"tskey-(auth|api|client|scim|webhook)-([A-Za-z0-9]{6,30}(?:CNTRL|DEVEL)?)-[\w-]{10,80}")
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bind(seen: Seen) -> Binding | None:
    """A token of a secret manager or an overlay network, or a key with a public half."""
    value = seen.value
    if value.startswith("ops_eyJ"):
        return _onepassword(value)
    if found := _VAULT.fullmatch(value):
        return _vault(found.group(1) or found.group(2), seen)
    if found := _DOPPLER.fullmatch(value):
        return _doppler(*found.groups())
    if found := _TAILSCALE.fullmatch(value):
        return _tailscale(*found.groups())
    if re.fullmatch(r"S[A-Z][A-Z2-7]{56}", value):
        return _nats(value)
    if value.startswith("AGE-SECRET-KEY-1"):
        return _age(value)
    if re.fullmatch(r"[A-Za-z0-9+/]{43}=", value) and _is_wireguard(seen):
        return _wireguard(value)
    return None


def _onepassword(token: str) -> Binding:
    body = token.removeprefix("ops_")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    if not isinstance(claims, dict):
        raise ValueError("no object")  # noqa: TRY004  (hostile bytes, not a wrong call)
    address, mail = str(claims.get("signInAddress", "")), str(claims.get("email", ""))
    who = None
    if mail:
        who = subject("1password", address or "1password.com", "service-account", mail, title=f"{mail} at {address}")
    return Binding(
        provider="1password",
        method="e-mail in the token",
        what="1Password service-account token",
        kind=CredentialKind.TOKEN,
        subject=who,
        attributes=known({"address": address, "email": mail, "device": str(claims.get("deviceUuid", ""))}),
    )


def _vault(mark: str, seen: Seen) -> Binding:
    address = re.search(r"(?:VAULT|BAO)_ADDR\s*[=:]\s*[\"']?https?://([\w.:-]{1,200})", seen.around)
    return Binding(
        provider="vault",
        method="prefix",
        what=f"Vault {_VAULT_CLASS[mark[-1]]} token",
        kind=CredentialKind.TOKEN,
        attributes=known({"class": _VAULT_CLASS[mark[-1]], "server": address.group(1) if address else ""}),
    )


def _doppler(mark: str, config: str | None) -> Binding:
    who = subject("doppler", "doppler.com", "config", config, title=f"Doppler config {config}") if config else None
    return Binding(
        provider="doppler",
        method="config in the token" if config else "prefix",
        what=f"Doppler {_DOPPLER_CLASS[mark]} token",
        kind=CredentialKind.TOKEN,
        subject=who,
        clear=(config or "",),
        attributes=known({"class": _DOPPLER_CLASS[mark], "config": config or ""}),
    )


def _tailscale(kind: str, key_id: str) -> Binding:
    return Binding(
        provider="tailscale",
        method="key id in the key",
        what=f"Tailscale {kind} key",
        kind=CredentialKind.API_KEY,
        subject=subject("tailscale", "tailscale.com", f"{kind}-key", key_id, title=f"Tailscale {kind} key {key_id}"),
        clear=(key_id,),
        attributes={"class": kind, "key_id": key_id},
    )


def _nats(seed: str) -> Binding | None:
    """The public NKEY of a seed: what accounts and configurations name."""
    from remit.kernel.errors import Rejected
    from remit.providers.nats.nkeys import read_seed

    try:
        pair = read_seed(seed)
    except Rejected:
        return None
    kind = {"O": "operator", "A": "account", "U": "user"}[pair.kind]
    public = pair.public
    return Binding(
        provider="nats",
        method="public key of the seed",
        what=f"NATS {kind} seed",
        kind=CredentialKind.PRIVATE_KEY,
        public=sha256(public.encode()),
        subject=subject("nats", "nkey", kind, public, title=f"NATS {kind} {public[:12]}"),
        attributes={"class": kind, "public_key": public},
    )


def _age(value: str) -> Binding:
    recipient = bech32("age", _x25519_public(_bech32_data(value.lower(), "age-secret-key-")))
    return Binding(
        provider="age",
        method="public key of the identity",
        what="age private key",
        kind=CredentialKind.PRIVATE_KEY,
        public=sha256(recipient.encode()),
        subject=subject(
            "age",
            "age",
            "recipient",
            recipient,
            of=IdentityKind.SERVICE_ACCOUNT,
            title=f"age recipient {recipient[:16]}…",
        ),
        attributes={"public_key": recipient},
    )


def _is_wireguard(seen: Seen) -> bool:
    return "wireguard" in seen.hit.rule or (seen.hit.variable.lower() == "privatekey" and "[Interface]" in seen.around)


def _wireguard(value: str) -> Binding:
    public = base64.b64encode(_x25519_public(base64.b64decode(value, validate=True))).decode()
    return Binding(
        provider="wireguard",
        method="public key of the private key",
        what="WireGuard private key",
        kind=CredentialKind.PRIVATE_KEY,
        public=sha256(b"wireguard:" + public.encode()),
        subject=subject("wireguard", "wireguard", "peer", public, title=f"WireGuard peer {public[:12]}…"),
        attributes={"public_key": public},
    )


def _x25519_public(private: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    if len(private) != 32:
        raise ValueError("not 32 bytes")
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _bech32_data(text: str, prefix: str) -> bytes:
    """The bytes of a Bech32 text; `ValueError` when its checksum or form is wrong."""
    human, _, data = text.rpartition("1")
    numbers = [_BECH32.index(mark) for mark in data]
    if human != prefix or _polymod([*_expand(human), *numbers]) != 1:
        raise ValueError("checksum")
    return bytes(_regroup(numbers[:-6], 5, 8, pad=False))


def bech32(human: str, data: bytes) -> str:
    """`data` in Bech32 with its checksum."""
    numbers = _regroup(data, 8, 5, pad=True)
    check = _polymod([*_expand(human), *numbers, 0, 0, 0, 0, 0, 0]) ^ 1
    digits = [*numbers, *(check >> 5 * (5 - index) & 31 for index in range(6))]
    return f"{human}1" + "".join(_BECH32[digit] for digit in digits)


def _expand(human: str) -> list[int]:
    return [ord(mark) >> 5 for mark in human] + [0] + [ord(mark) & 31 for mark in human]


def _polymod(numbers: Iterable[int]) -> int:
    check = 1
    for number in numbers:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ number
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> bit & 1 else 0
    return check


def _regroup(numbers: Iterable[int], size: int, into: int, *, pad: bool) -> list[int]:
    held = bits = 0
    out = []
    for number in numbers:
        held, bits = held << size | number, bits + size
        while bits >= into:
            bits -= into
            out.append(held >> bits & (1 << into) - 1)
    if pad and bits:
        out.append(held << into - bits & (1 << into) - 1)
    return out
