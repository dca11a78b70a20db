"""What every prover asks of a question before it answers."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path

from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured, Rejected

MAX_FILE_BYTES = 256 * 1024


def trust_domain_of(question: Mapping[str, Json], expected: str) -> str:
    """The trust domain that a question was asked for, if it is `expected` or nothing is.

    A proof names the trust domain that it is for; so one that answers only its own cannot be passed on to another.
    """
    asked = text_of(question, "trust_domain")
    if expected and asked != expected:
        raise _refused(f"it asks in the name of the trust domain `{asked[:255]}`, not `{expected}`")
    return asked


def text_of(question: Mapping[str, Json], name: str) -> str:
    """A text of the question; `Rejected` (`trust.prover.question`)."""
    value = question.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 16_384:
        raise _refused(f"it has no `{name}`")
    return value


def octets_of(question: Mapping[str, Json], name: str) -> bytes:
    """A base64 value of the question."""
    try:
        return b64decode(text_of(question, name), validate=True)
    except ValueError:
        raise _refused(f"its `{name}` is not base64") from None


def encoded(octets: bytes) -> str:
    """Base64, as attestors read it."""
    return b64encode(octets).decode()


def read_file(path: str, what: str) -> bytes:
    """A key or certificate; `Misconfigured` (`trust.prover.missing`)."""
    try:
        with Path(path).open("rb") as opened:
            found = opened.read(MAX_FILE_BYTES)
    except OSError as error:
        raise Misconfigured(
            "trust.prover.missing",
            f"the {what} `{path}` cannot be read: {(error.strerror or '').lower()}",
            next_step="name the file, and let the agent read it",
        ) from None
    return found


def unusable(path: str, what: str) -> Misconfigured:
    """The file is there, and is not what it should be."""
    return Misconfigured("trust.prover.unusable", f"`{path}` holds no usable {what}", next_step="name another file")


def unasked(kind: str) -> Rejected:
    """A question came to a prover that says everything at once."""
    return Rejected("trust.prover.question", f"a proof by `{kind}` answers no question")


def _refused(why: str) -> Rejected:
    return Rejected("trust.prover.question", f"the question is not answered: {why}")
