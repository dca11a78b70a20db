"""What proxies say of a client's certificate: read exactly, and by nobody's guess."""

from __future__ import annotations

import pytest

from remit.kernel.errors import Rejected
from remit.surface.enforcers.forwarded import Client, from_http, parse_xfcc
from remit.surface.enforcers.tables import Proxy

ID = "spiffe://remit.local/job"


def test_one_element_is_read() -> None:
    found = parse_xfcc([f'By=spiffe://x/y;Hash={"ab" * 32};Subject="CN=\\"a\\",O=b;c";URI={ID};DNS=a;DNS=b'])
    assert found == Client(principal=ID, sha256="ab" * 32)


@pytest.mark.parametrize(
    "values",
    [
        [f"URI={ID}", f"URI={ID}"], [f"URI={ID},URI=spiffe://x/y"], [f"URI={ID};URI=spiffe://x/y"],
        [f"URI={ID};uri=spiffe://x/y"], [f"URI={ID};Cert=\"no pem\""], [f"URI={ID};Hash=zz"], ["nonsense"], [f'URI="{ID}'],
        [f"URI={ID} "  + "x" * 40_000],
    ],
)  # fmt: skip
def test_what_has_two_readings_is_refused(values: list[str]) -> None:
    with pytest.raises(Rejected):
        parse_xfcc(values)


def test_no_header_is_nobody() -> None:
    assert not parse_xfcc([])


def test_a_proxy_that_terminates_no_tls_says_nothing_of_clients() -> None:
    headers = {"host": ("api.example",), "x-forwarded-client-cert": (f"URI={ID}",)}
    assert not from_http(Proxy.ENVOY, "GET", "/a", headers, believes_certificate=False).client
    assert from_http(Proxy.ENVOY, "GET", "/a", headers, believes_certificate=True).client.principal == ID


@pytest.mark.parametrize("name", ["x-original-method", "x-original-host", "x-original-uri"])
@pytest.mark.parametrize("values", [(), ("a", "b")])
def test_what_nginx_does_not_say_once_is_refused(name: str, values: tuple[str, ...]) -> None:
    headers = {"x-original-method": ("GET",), "x-original-host": ("a",), "x-original-uri": ("/",), name: values}
    with pytest.raises(Rejected):
        from_http(Proxy.NGINX, "GET", "", headers, believes_certificate=False)
