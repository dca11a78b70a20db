"""Name constraints: which names a CA may vouch for.

Forms that are not understood here (mail, other names) are not guessed: a certificate that has such a name, below a CA
that limits the form, is refused.

Spec: RFC 5280 §4.2.1.10 and §7.1; X509-SVID §4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509


def within(constraints: x509.NameConstraints, certificate: x509.Certificate) -> bool:
    """Tell whether every name of the certificate is permitted, and none excluded."""
    permitted, excluded = constraints.permitted_subtrees or (), constraints.excluded_subtrees or ()
    return all(_allows(permitted, excluded, name) for name in names_of(certificate))


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Its subject, unless that is empty, and every subject alternative name."""
    found: list[x509.GeneralName] = []
    if certificate.subject.rdns:
        found.append(x509.DirectoryName(certificate.subject))
    try:
        found += certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    return found


def _allows(
    permitted: Iterable[x509.GeneralName], excluded: Iterable[x509.GeneralName], name: x509.GeneralName
) -> bool:
    may = [one for one in permitted if type(one) is type(name)]
    never = [one for one in excluded if type(one) is type(name)]
    if not may and not never:
        return True
    match name:
        case x509.UniformResourceIdentifier(value=text):
            host = _host(text)
            return host != "" and _fits(may, never, lambda one: _host_under(host, str(one.value).lower()))
        case x509.DNSName(value=text):
            # A wildcard stands for names on both sides of a constraint.
            return "*" not in text and _fits(may, never, lambda one: _dns_under(text.lower(), str(one.value).lower()))
        case x509.IPAddress(value=address):
            return _fits(may, never, lambda one: address in one.value)
        case x509.DirectoryName(value=subject):
            return _fits(may, never, lambda one: _is_prefix(_comparable(one.value), _comparable(subject)))
        case _:
            return False


def _fits(may: Sequence[x509.GeneralName], never: Sequence[x509.GeneralName], covers: Callable[[Any], bool]) -> bool:
    return (not may or any(covers(one) for one in may)) and not any(covers(one) for one in never)


def _host(uri: str) -> str:
    try:
        return (urlsplit(uri).hostname or "").lower()
    except ValueError:
        return ""


def _host_under(host: str, constraint: str) -> bool:
    """A constraint that begins with a period takes the hosts below it, another only itself."""
    return host.endswith(constraint) if constraint.startswith(".") else host == constraint


def _dns_under(name: str, constraint: str) -> bool:
    """Any number of labels may be added in front; the empty constraint takes every name."""
    bare = constraint.lstrip(".")
    return bare in ("", name) or name.endswith(f".{bare}")


def _comparable(name: x509.Name) -> list[frozenset[tuple[str, str]]]:
    return [
        frozenset((one.oid.dotted_string, " ".join(str(one.value).casefold().split())) for one in rdn)
        for rdn in name.rdns
    ]


def _is_prefix(short: Sequence[object], long: Sequence[object]) -> bool:
    return list(long[: len(short)]) == list(short)
