"""IAM, read-only: the account's authorization details, and what they leave out.

Answers are plain values in the API's own words, without response metadata and without any secret: none of these calls
returns one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from remit.kernel.errors import Denied, Misconfigured, RemitError, Unavailable
from remit.providers.aws.policies import ORGANIZATION_GRANTS, PolicyCall, read_organization

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

T = TypeVar("T")
_DETAILS = ("UserDetailList", "RoleDetailList", "GroupDetailList", "Policies")
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "AuthFailure",
    }
)
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 5, 30, 5


class IamReader:
    """Reads one account with the credentials of the usual chain: environment, profile, container, instance.

    `endpoint` replaces the address of AWS, for compatible servers; `attempts` bounds how often one call is tried.
    """

    def __init__(
        self,
        *,
        profile: str | None = None,
        endpoint: str | None = None,
        attempts: int = _ATTEMPTS,
        region: str | None = None,
    ) -> None:
        self._region = region
        self._make: Callable[[str], Any] | None = None
        self._profile = profile
        self._attempts = attempts
        self._endpoint = endpoint
        self._iam: Any = None

    def open(self) -> str:
        """Connect, and return the number of the account.

        Raises `Misconfigured` (`providers.aws.missing`, `providers.aws.no-credentials`,
        `providers.aws.credentials-refused`) and `Unavailable` (`providers.aws.unreachable`).
        """
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise Misconfigured(
                "providers.aws.missing",
                "the AWS client is not installed",
                next_step="install it with `pip install 'remit[aws]'`",
            ) from None
        retries: Any = {"mode": "standard", "max_attempts": self._attempts}
        config = Config(connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS, retries=retries)

        def connect() -> str:
            session = boto3.Session(profile_name=self._profile)
            region = self._region or session.region_name or "us-east-1"
            self._make = partial(session.client, region_name=region, config=config, endpoint_url=self._endpoint)
            sts = session.client("sts", region_name=region, config=config, endpoint_url=self._endpoint)
            self._iam = session.client("iam", region_name=region, config=config, endpoint_url=self._endpoint)
            return str(sts.get_caller_identity()["Account"])

        return _guarded("sts:GetCallerIdentity", connect)

    def authorization_details(self) -> Iterator[Mapping[str, list[Any]]]:
        """The pages of GetAccountAuthorizationDetails; raises `Denied` (`providers.aws.not-permitted`)."""
        call = "iam:GetAccountAuthorizationDetails"
        pages = iter(self._client().get_paginator("get_account_authorization_details").paginate())
        while (page := _guarded(call, lambda: next(pages, None))) is not None:
            yield {key: list(page.get(key, [])) for key in _DETAILS}

    def access_keys(self, user: str) -> list[dict[str, Any]]:
        """The access keys of a user, each with `AccessKeyLastUsed`; none of a user who is gone by now."""
        client = self._client()

        def read() -> list[dict[str, Any]]:
            pages = client.get_paginator("list_access_keys").paginate(UserName=user)
            return [dict(key) for page in pages for key in page["AccessKeyMetadata"]]

        def last_used(key_id: str) -> dict[str, Any]:
            answer = client.get_access_key_last_used(AccessKeyId=key_id)
            return dict(answer.get("AccessKeyLastUsed", {}))

        keys = self._existing("iam:ListAccessKeys", read)
        for key in keys:
            used = partial(last_used, str(key["AccessKeyId"]))
            key["AccessKeyLastUsed"] = _guarded("iam:GetAccessKeyLastUsed", used)
        return keys

    def login_profiles(self, user: str) -> list[dict[str, Any]]:
        """The console password of a user: one entry, or none."""
        client = self._client()
        return self._existing(
            "iam:GetLoginProfile", lambda: [dict(client.get_login_profile(UserName=user)["LoginProfile"])]
        )

    def mfa_devices(self, user: str) -> list[dict[str, Any]]:
        """The second factors of a user."""
        client = self._client()

        def read() -> list[dict[str, Any]]:
            pages = client.get_paginator("list_mfa_devices").paginate(UserName=user)
            return [dict(device) for page in pages for device in page["MFADevices"]]

        return self._existing("iam:ListMFADevices", read)

    def oidc_providers(self) -> list[dict[str, Any]]:
        """The outside issuers that the account knows."""
        client = self._client()
        answer = _guarded("iam:ListOpenIDConnectProviders", client.list_open_id_connect_providers)
        return [dict(entry) for entry in answer["OpenIDConnectProviderList"]]

    def listed(self, grant: str, service: str, operation: str, key: str) -> list[dict[str, Any]]:
        """Everything that one listing call of any service gives under `key`, page after page."""
        assert self._make is not None, "the reader is not open"
        client = _guarded(grant, partial(self._make, service))

        def read() -> list[dict[str, Any]]:
            if not client.can_paginate(operation):
                return [dict(entry) for entry in getattr(client, operation)().get(key, [])]
            pages = client.get_paginator(operation).paginate()
            return [dict(entry) for page in pages for entry in page.get(key, [])]

        try:
            return _guarded(grant, read)
        finally:
            client.close()

    def policies(self, call: PolicyCall) -> list[dict[str, Any]]:
        """The policies of one kind of resource; raises `Denied` (`providers.aws.not-permitted`)."""
        assert self._make is not None, "the reader is not open"
        grant = call.grants[-1]
        client = _guarded(grant, partial(self._make, call.service))
        try:
            return _guarded(grant, lambda: list(call.read(client)))
        finally:
            client.close()

    def organization(self, account: str) -> dict[str, Any] | None:
        """The organisation above an account, as far as it concerns it; `None` where there is none.

        Raises `Denied` (`providers.aws.not-permitted`): only the management account and delegates may look.
        """
        assert self._make is not None, "the reader is not open"
        grant = ORGANIZATION_GRANTS[0]
        client = _guarded(grant, partial(self._make, "organizations"))
        try:
            return _guarded(grant, lambda: read_organization(client, account))
        finally:
            client.close()

    def close(self) -> None:
        """Close the connections; works before `open`, and twice."""
        if self._iam is not None:
            self._iam.close()
            self._iam = None

    def _existing(self, call: str, read: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """What `read` gives, and nothing where IAM knows no such thing."""

        def tolerant() -> list[dict[str, Any]]:
            try:
                return read()
            except self._client().exceptions.NoSuchEntityException:
                return []

        return _guarded(call, tolerant)

    def _client(self) -> Any:
        assert self._iam is not None, "open() comes first"
        return self._iam


def _guarded(call: str, work: Callable[[], T]) -> T:
    from botocore import exceptions

    try:
        return work()
    except exceptions.ClientError as error:
        raise _translated(call, error) from None
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.ProfileNotFound,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.SSOError,
    ):
        raise Misconfigured(
            "providers.aws.no-credentials",
            "there are no usable AWS credentials",
            next_step="sign in (`aws sso login`), or name a profile: `live:PROFILE`",
        ) from None
    except exceptions.BotoCoreError as error:
        raise Unavailable(
            "providers.aws.unreachable",
            f"AWS does not answer `{call}` ({type(error).__name__})",
            next_step="check network, proxy and endpoint, then try again",
            retry_after=timedelta(seconds=30),
        ) from None


def _translated(call: str, error: ClientError) -> RemitError:
    code = str(error.response.get("Error", {}).get("Code", "Unknown"))
    if code in _REFUSED:
        return Denied(
            "providers.aws.not-permitted",
            f"AWS refuses `{call}`",
            next_step=f"allow `{call}` to the principal that Remit reads with",
        )
    if code in _BAD_CREDENTIALS:
        return Misconfigured(
            "providers.aws.credentials-refused",
            f"AWS refuses the credentials (`{code}`)",
            next_step="renew them, and check the machine's clock",
        )
    return Unavailable(
        "providers.aws.failed",
        f"AWS answers `{call}` with `{code}`",
        next_step="try again later",
        retry_after=timedelta(seconds=30),
    )
