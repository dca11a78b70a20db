"""A small D-Bus client: method calls on a message bus, one at a time, blocking, everything bounded.

It speaks to the bus over its Unix socket, as the user that it is (EXTERNAL), passes file descriptors along, and reads
one reply. It has no signals, no objects of its own, and believes a reply only when the bus says that it comes from whom
was asked.

Spec: D-Bus Specification 0.43, "Message Protocol", "Authentication Protocol", "Message Bus Specification".
"""

from __future__ import annotations

import array
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final

from remit.kernel.errors import NotFound, Unavailable

MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 16
MAX_OTHER_MESSAGES: Final = 64
"""How many messages that nobody asked for are passed over while one waits for a reply."""
BUS: Final = "org.freedesktop.DBus"
_BUS_PATH: Final = "/org/freedesktop/DBus"
_METHOD_CALL, _METHOD_RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE, _FDS = range(1, 10)
_FIXED: Final = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
_ALIGNMENT: Final = {**{code: struct.calcsize(form) for code, form in _FIXED.items()},
                     "s": 4, "o": 4, "a": 4, "g": 1, "v": 1, "(": 8, "{": 8}  # fmt: skip


class Bus:
    """A connection to the bus that listens on the Unix socket `path`; `open` first, or use it in a `with` block.

    From opening to the last reply it takes at most `timeout` seconds. Not for several threads at once.
    """

    def __init__(self, path: str, *, timeout: float = 2.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._timeout = timeout
        self._monotonic = monotonic
        self._socket: socket.socket | None = None
        self._serial = 0
        self._end = 0.0

    def __enter__(self) -> Bus:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect, authenticate as our own user, say hello. `Unavailable` (`providers.dbus.silent`, `.garbled`)."""
        self._end = self._monotonic() + self._timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(self._left())
            self._socket.connect(self._path)
            self._authenticate()
            self.call(BUS, _BUS_PATH, BUS, "Hello")
        except OSError as error:
            self.close()
            raise _silent(self._path, error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up; may be called again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def owner(self, name: str) -> tuple[str, int]:
        """Who owns a well-known name: its unique name and its uid. `NotFound` (`providers.dbus.refused`)."""
        (unique,) = self.call(BUS, _BUS_PATH, BUS, "GetNameOwner", "s", name)
        (uid,) = self.call(BUS, _BUS_PATH, BUS, "GetConnectionUnixUser", "s", unique)
        return str(unique), int(uid)

    def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *arguments: Any,
        fds: Sequence[int] = (),
    ) -> tuple[Any, ...]:
        """Call a method and return the values of its reply; an argument `h` is an index into `fds`.

        Structs and arrays come as tuples, dictionaries as `dict`, variants as their value.
        Raises `NotFound` (`providers.dbus.refused`) when the reply is an error, `Unavailable` otherwise.
        """
        assert self._socket is not None, "the bus was not opened"
        self._serial += 1
        body = Writer()
        body.values(signature, arguments)
        fields: list[tuple[int, str, Any]] = [
            (_PATH, "o", path), (_INTERFACE, "s", interface), (_MEMBER, "s", member), (_DESTINATION, "s", destination),
        ]  # fmt: skip
        fields += [(_SIGNATURE, "g", signature)] if signature else []
        fields += [(_FDS, "u", len(fds))] if fds else []
        message = message_bytes(_METHOD_CALL, self._serial, fields, bytes(body.data))
        try:
            self._send(message, fds)
            return self._reply(destination, member)
        except OSError as error:
            raise _silent(self._path, error) from error

    def _authenticate(self) -> None:
        assert self._socket is not None
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        if not self._line().startswith(b"OK "):
            raise Unavailable("providers.dbus.silent", "the message bus does not let this user in")
        self._socket.sendall(b"NEGOTIATE_UNIX_FD\r\n")
        self._line()  # a bus that passes no descriptors answers ERROR, and refuses the calls that have one
        self._socket.sendall(b"BEGIN\r\n")

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._exactly(1)
            if len(line) > 512:
                raise _garbled("a line of the authentication is too long")
        return line

    def _send(self, message: bytes, fds: Sequence[int]) -> None:
        assert self._socket is not None
        self._socket.settimeout(self._left())
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self._socket.sendmsg([message], rights)
        self._socket.sendall(message[sent:])

    def _reply(self, destination: str, member: str) -> tuple[Any, ...]:
        for _ in range(MAX_OTHER_MESSAGES):
            kind, fields, values = self._message()
            if fields.get(_REPLY_SERIAL) != self._serial or fields.get(_SENDER, BUS) != destination:
                if kind == _ERROR and fields.get(_REPLY_SERIAL) == self._serial and fields.get(_SENDER) == BUS:
                    raise _refused(member, fields)
                continue
            if kind == _ERROR:
                raise _refused(member, fields)
            if kind == _METHOD_RETURN:
                return values
        raise _garbled("too many messages came that nobody asked for")

    def _message(self) -> tuple[int, dict[int, Any], tuple[Any, ...]]:
        head = self._exactly(16)
        order = {0x6C: "<", 0x42: ">"}.get(head[0])
        if order is None or head[3] != 1:
            raise _garbled("a message is of another version")
        body_size, _, fields_size = struct.unpack(order + "III", head[4:])
        padded = -(-fields_size // 8) * 8
        if padded + body_size > MAX_MESSAGE_BYTES:
            raise _garbled("a message is too large")
        raw, body = self._exactly(padded), self._exactly(body_size)
        # The array of fields begins at byte 16, a multiple of every alignment.
        listed = Reader(order, struct.pack(order + "I", fields_size) + b"\0" * 4 + raw, at=0)
        fields = dict(listed.header_fields())
        signature = fields.get(_SIGNATURE, "")
        if not isinstance(signature, str):
            raise _garbled("a message has no signature that can be read")
        return head[1], fields, Reader(order, body).values(signature)

    def _exactly(self, size: int) -> bytes:
        assert self._socket is not None
        found = bytearray()
        while len(found) < size:
            self._socket.settimeout(self._left())
            # Descriptors that come along are dropped by the kernel: nothing here asks for one.
            chunk = self._socket.recv(size - len(found))
            if not chunk:
                raise ConnectionResetError("the bus hung up")
            found += chunk
        return bytes(found)

    def _left(self) -> float:
        left = self._end - self._monotonic()
        if left <= 0:
            raise TimeoutError("the bus took too long")
        return left


def message_bytes(kind: int, serial: int, fields: Sequence[tuple[int, str, Any]], body: bytes) -> bytes:
    """A whole message, little-endian; `fields` are code, type and value."""
    head = Writer()
    head.data += struct.pack("<BBBBII", 0x6C, kind, 0, 1, len(body), serial)
    head.values("a(yv)", [[(code, (type_, value)) for code, type_, value in fields]])
    head.align(8)
    return bytes(head.data) + body


class Writer:
    """Writes values in D-Bus's little-endian form; a variant is a pair of its type and its value."""

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        self.data += b"\0" * (-len(self.data) % size)

    def values(self, signature: str, values: Sequence[Any]) -> None:
        """Write one value for each complete type of the signature."""
        for code, value in zip(split(signature), values, strict=True):
            self._value(code, value)

    def _value(self, code: str, value: Any) -> None:
        first = code[0]
        self.align(_ALIGNMENT[first])
        match first:
            case "s" | "o":
                raw = value.encode()
                self.data += struct.pack("<I", len(raw)) + raw + b"\0"
            case "g":
                self.data += bytes([len(value)]) + value.encode() + b"\0"
            case "v":
                self._value("g", value[0])
                self._value(value[0], value[1])
            case "(" | "{":
                self.values(code[1:-1], value)
            case "a":
                self._array(code[1:], list(value.items()) if isinstance(value, dict) else value)
            case _:
                self.data += struct.pack("<" + _FIXED[first], value)

    def _array(self, element: str, values: Sequence[Any]) -> None:
        place = len(self.data)
        self.data += b"\0" * 4
        self.align(_ALIGNMENT[element[0]])
        begin = len(self.data)
        for value in values:
            self._value(element, value)
        struct.pack_into("<I", self.data, place, len(self.data) - begin)


class Reader:
    """Reads values that a bus sent; nothing that they say of themselves is believed beyond the bytes that are there."""

    def __init__(self, order: str, data: bytes, *, at: int = 0) -> None:
        self._order = order
        self._data = data
        self._at = at

    def values(self, signature: str) -> tuple[Any, ...]:
        """One value for each complete type of the signature. `Unavailable` (`providers.dbus.garbled`)."""
        try:
            return tuple(self._value(code, 0) for code in split(signature))
        except (struct.error, ValueError, KeyError, IndexError) as error:
            raise _garbled("a message does not hold what it announces") from error

    def header_fields(self) -> list[tuple[int, Any]]:
        """The fields of a header: `a(yv)`, whose elements begin 8 bytes into `data`."""
        (listed,) = self.values("a(yv)")
        return [(int(code), value) for code, value in listed]

    def _value(self, code: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        first = code[0]
        self._at += -self._at % _ALIGNMENT[first]
        match first:
            case "s" | "o":
                return self._text(self._number("I"))
            case "g":
                return self._text(self._number("B"))
            case "v":
                (inner,) = split(self._text(self._number("B")))
                return self._value(inner, depth + 1)
            case "(" | "{":
                return tuple(self._value(one, depth + 1) for one in split(code[1:-1]))
            case "a":
                return self._array(code[1:], depth)
            case _:
                found = self._number(_FIXED[first])
                return bool(found) if first == "b" else found

    def _array(self, element: str, depth: int) -> Any:
        size = self._number("I")
        self._at += -self._at % _ALIGNMENT[element[0]]
        end = self._at + size
        if end > len(self._data):
            raise ValueError("an array beyond its message")
        found = []
        while self._at < end:
            found.append(self._value(element, depth + 1))
        return dict(found) if element[0] == "{" else tuple(found)

    def _number(self, form: str) -> Any:
        size = struct.calcsize(form)
        (value,) = struct.unpack_from(self._order + form, self._data, self._at)
        self._at += size
        return value

    def _text(self, size: int) -> str:
        raw = self._data[self._at : self._at + size]
        if len(raw) != size or self._at + size >= len(self._data):
            raise ValueError("a text beyond its message")
        self._at += size + 1
        return raw.decode()


def split(signature: str) -> list[str]:
    """The complete types of a signature, in order. `ValueError` for what is none."""
    if len(signature) > 255:
        raise ValueError("a signature has at most 255 bytes")
    found, at = [], 0
    while at < len(signature):
        end = _end_of_type(signature, at, 0)
        found.append(signature[at:end])
        at = end
    return found


def _end_of_type(signature: str, at: int, depth: int) -> int:
    if depth > MAX_DEPTH or at >= len(signature):
        raise ValueError("no complete type")
    first = signature[at]
    if first == "a":
        return _end_of_type(signature, at + 1, depth + 1)
    if first not in "({":
        if first not in _ALIGNMENT:
            raise ValueError("no type of D-Bus")
        return at + 1
    close, begin, at = {"(": ")", "{": "}"}[first], at, at + 1
    while at < len(signature) and signature[at] != close:
        at = _end_of_type(signature, at, depth + 1)
    if at >= len(signature) or at == begin + 1:
        raise ValueError("an open or empty struct")
    return at + 1


def _refused(member: str, fields: dict[int, Any]) -> NotFound:
    return NotFound("providers.dbus.refused", f"`{member}` was answered by `{str(fields.get(_ERROR_NAME))[:200]}`")


def _silent(path: str, error: OSError) -> Unavailable:
    why = "it took too long" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
    return Unavailable("providers.dbus.silent", f"the message bus at `{path[:200]}` does not answer: {why}")


def _garbled(why: str) -> Unavailable:
    return Unavailable("providers.dbus.garbled", f"the message bus speaks in a way that is not understood: {why}")
