"""The address at the other end of a connection, as the kernel names it."""

from __future__ import annotations

from typing import Any

import pytest

from remit.surface.peers import address_of_peer


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("192.0.2.1", 4711), "192.0.2.1"),
        (("2001:db8::1", 4711, 0, 0), "2001:db8::1"),
        (("::ffff:192.0.2.1", 4711, 0, 0), "192.0.2.1"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::1"),
        (("host.example", 1), ""),
        ("/run/remit/admin.sock", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_it_is_one_address_however_the_socket_says_it(peername: Any, address: str) -> None:
    assert address_of_peer(peername) == address
