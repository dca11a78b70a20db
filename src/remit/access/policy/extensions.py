"""Cedar's extension types: decimal, ipaddr, datetime and duration.

Each is read from text by one constructor, which raises `ValueError`, and written back by `text`.

Spec: Cedar language reference, "Extension functions"; RFC 80 (datetime).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

_LONG = range(-(2**63), 2**63)
_MS_PER_DAY = 86_400_000


def _long(value: int, what: str) -> int:
    if value not in _LONG:
        raise ValueError(f"{what} overflows")
    return value


@dataclass(frozen=True, slots=True)
class Decimal:
    """A number with four fractional digits, kept as ten-thousandths in 64 bits."""

    scaled: int
    constructor: ClassVar[str] = "decimal"

    def text(self) -> str:
        sign, rest = ("-", -self.scaled) if self.scaled < 0 else ("", self.scaled)
        return f"{sign}{rest // 10_000}.{rest % 10_000:04}"


_DECIMAL = re.compile(r"(-?)([0-9]+)\.([0-9]+)")


def parse_decimal(text: str) -> Decimal:
    """Read `12.34`: a point is needed, and at most four digits after it."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"`{text}` is not a well-formed decimal value")
    sign, whole, fraction = match.groups()
    if len(fraction) > 4:
        raise ValueError(f"`{text}` has more than four digits after the decimal point")
    if len(whole.lstrip("0")) > 20:
        raise ValueError(f"`{text}` overflows")
    scaled = int(whole.lstrip("0") or "0") * 10_000 + int(fraction.ljust(4, "0"))
    return Decimal(_long(-scaled if sign else scaled, f"`{text}`"))


@dataclass(frozen=True, slots=True)
class IpRange:
    """An IP address with a prefix length: one address, or a range of them."""

    version: int
    address: int
    prefix: int
    constructor: ClassVar[str] = "ip"

    @property
    def width(self) -> int:
        return 32 if self.version == 4 else 128

    def text(self) -> str:
        address = ipaddress.IPv4Address(self.address) if self.version == 4 else ipaddress.IPv6Address(self.address)
        return f"{address}/{self.prefix}"

    def within(self, other: IpRange) -> bool:
        """Tell whether every address of this range is one of `other`."""
        if self.version != other.version or self.prefix < other.prefix:
            return False
        shift = self.width - other.prefix
        return self.address >> shift == other.address >> shift

    def is_loopback(self) -> bool:
        if self.version == 4:
            return self.address >> 24 == 127 and self.prefix >= 8
        return self.address == 1 and self.prefix >= 128

    def is_multicast(self) -> bool:
        if self.version == 4:
            return self.address >> 28 == 0xE and self.prefix >= 4
        return self.address >> 120 == 0xFF and self.prefix >= 8


def parse_ip(text: str) -> IpRange:
    """Read an IPv4 or IPv6 address, with `/prefix` if it is a range; no IPv4 inside IPv6, no zone."""
    head, slash, tail = text.partition("/")
    if len(text) > 43 or ("." in head and ":" in head) or "%" in head:
        raise ValueError(f"`{text}` is not an IP address")
    try:
        address = ipaddress.ip_address(head)
    except ValueError:
        raise ValueError(f"`{text}` is not an IP address") from None
    prefix = _prefix(tail, 32 if address.version == 4 else 128) if slash else (32 if address.version == 4 else 128)
    return IpRange(address.version, int(address), prefix)


def _prefix(text: str, width: int) -> int:
    well_formed = text.isascii() and text.isdigit() and len(text) <= 3 and (text == "0" or not text.startswith("0"))
    if not well_formed or int(text) > width:
        raise ValueError(f"`/{text}` is not a prefix length")
    return int(text)


@dataclass(frozen=True, slots=True)
class Datetime:
    """A moment: milliseconds since 1970-01-01T00:00:00Z, in 64 bits."""

    ms: int
    constructor: ClassVar[str] = "datetime"

    def text(self) -> str:
        """Write it in the constructor's form; `ValueError` before year 0 and after year 9999, which have none."""
        days, ms = divmod(self.ms, _MS_PER_DAY)
        year, month, day = _civil(days)
        if not 0 <= year <= 9999:
            raise ValueError("a moment outside the years 0 to 9999 cannot be written")
        seconds, ms = divmod(ms, 1000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{year:04}-{month:02}-{day:02}T{clock}.{ms:03}Z"


_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(r"T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{3}))?(?:Z|([+-])([0-9]{2})([0-9]{2}))")


def parse_datetime(text: str) -> Datetime:
    """Read `YYYY-MM-DD`, or that with `Thh:mm:ss[.SSS]` and `Z` or `±hhmm`."""
    date = _DATE.match(text)
    if date is None:
        raise ValueError(f"`{text}` is not a datetime")
    year, month, day = map(int, date.groups())
    if not 1 <= month <= 12 or not 1 <= day <= _days_in(year, month):
        raise ValueError(f"`{text}` has no such date")
    ms = _days(year, month, day) * _MS_PER_DAY
    if date.end() == len(text):
        return Datetime(ms)
    time = _TIME.fullmatch(text, date.end())
    if time is None:
        raise ValueError(f"`{text}` is not a datetime")
    return Datetime(ms + _time_of_day(text, time))


def _time_of_day(text: str, time: re.Match[str]) -> int:
    hour, minute, second = (int(time[i]) for i in (1, 2, 3))
    offset_hour, offset_minute = int(time[6] or 0), int(time[7] or 0)
    if hour > 23 or minute > 59 or second > 59 or offset_hour > 23 or offset_minute > 59:
        raise ValueError(f"`{text}` has no such time")
    ms = ((hour * 60 + minute) * 60 + second) * 1000 + int(time[4] or 0)
    offset = (offset_hour * 60 + offset_minute) * 60_000
    return ms - (offset if time[5] == "+" else -offset)


def _days_in(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar, year 0 included (Python's own begins at year 1)."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _civil(days: int) -> tuple[int, int, int]:
    """The inverse of `_days`."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return era * 400 + year + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


@dataclass(frozen=True, slots=True)
class Duration:
    """A span of time: milliseconds in 64 bits."""

    ms: int
    constructor: ClassVar[str] = "duration"

    def text(self) -> str:
        return f"{self.ms}ms"

    def whole(self, unit_ms: int) -> int:
        """Whole units, truncated towards zero."""
        return self.ms // unit_ms if self.ms >= 0 else -(-self.ms // unit_ms)


_DURATION = re.compile(r"(-?)(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?(?:([0-9]+)ms)?")
_UNITS = (_MS_PER_DAY, 3_600_000, 60_000, 1000, 1)


def parse_duration(text: str) -> Duration:
    """Read `-1d2h3m4s5ms`: at least one part, in that order, each at most once."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.group(i) for i in range(2, 7)):
        raise ValueError(f"`{text}` is not a duration")
    total = 0
    for unit, digits in zip(_UNITS, match.groups()[1:], strict=True):
        number = (digits or "0").lstrip("0") or "0"
        if len(number) > 20:
            raise ValueError(f"`{text}` overflows")
        total += int(number) * unit
    return Duration(_long(-total if match[1] else total, f"`{text}`"))


CONSTRUCTORS: Mapping[str, Callable[[str], Any]] = {
    "decimal": parse_decimal,
    "ip": parse_ip,
    "datetime": parse_datetime,
    "duration": parse_duration,
}
