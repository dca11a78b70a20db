"""Sign a request with the credentials that this machine has, by botocore and its usual chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.kernel.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from botocore.session import Session


def configured_region(profile: str) -> str:
    """The region of the profile, else `us-east-1`. `Misconfigured` (`providers.aws.no-credentials`, `.missing`)."""
    with _botocore_errors():
        return str(_session(profile).get_config_variable("region") or "us-east-1")


def sign_post(
    url: str, *, body: bytes, headers: Mapping[str, str], service: str, region: str, profile: str
) -> list[tuple[str, str]]:
    """The headers of a POST to `url`, signed by Signature Version 4: these, and those that signing adds.

    Raises `Misconfigured` (`providers.aws.no-credentials`, `.missing`), `Unavailable` (`providers.aws.unreachable`).
    """
    with _botocore_errors():
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        credentials = _session(profile).get_credentials()
        if credentials is None:
            raise _no_credentials()
        request = AWSRequest(method="POST", url=url, headers=dict(headers), data=body)
        SigV4Auth(credentials.get_frozen_credentials(), service, region).add_auth(request)
    return [(name, str(value)) for name, value in request.headers.items()]


def _session(profile: str) -> Session:
    from botocore.session import Session

    return Session(profile=profile or None)


@contextmanager
def _botocore_errors() -> Iterator[None]:
    """Errors of the AWS client, and its absence, in our own words."""
    try:
        from botocore import exceptions
    except ImportError:
        raise Misconfigured(
            "providers.aws.missing",
            "the AWS client is not installed",
            next_step="install it with `pip install 'remit[aws]'`",
        ) from None
    try:
        yield
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound):
        raise _no_credentials() from None
    except exceptions.BotoCoreError as error:
        raise Unavailable(
            "providers.aws.unreachable",
            f"AWS gives this machine no credentials ({type(error).__name__})",
            next_step="check its role, then try again",
            retry_after=timedelta(seconds=30),
        ) from None


def _no_credentials() -> Misconfigured:
    return Misconfigured(
        "providers.aws.no-credentials",
        "there are no usable AWS credentials",
        next_step="give the machine a role, or name a profile",
    )
