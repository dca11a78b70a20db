"""What brokers of static secrets get from an installation: a gateway, the vault, and rotation."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from remit.access.brokers.port import BrokerFactory
from remit.access.brokers.static import Door, RotatesSecret, StaticBrokerFactory
from remit.access.brokers.static_rotation import HookRotation
from remit.access.brokers.static_settings import Settings
from remit.access.model import Target
from remit.access.rotation.after_use import Conductor, PlanRotation
from remit.access.secrets import Secrets, Use
from remit.kernel.catalog import Catalog
from remit.kernel.clock import Clock
from remit.kernel.errors import Unavailable

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

MakeDoor: TypeAlias = Callable[[Target, Settings, Callable[[str], Awaitable[bytes]], Clock], Door]


class StaticHouse:
    """Implements `access.brokers.static.House`."""

    def __init__(
        self, secrets: Secrets, clock: Clock, make: MakeDoor | None, rotations: Callable[[], Conductor] | None = None
    ) -> None:
        self._secrets = secrets
        self._clock = clock
        self._make = make
        self._rotations = rotations

    def door(self, target: Target, settings: Settings) -> Door:
        """A gateway that is not open yet. `Unavailable` (`access.static.gateway`) where nothing listens."""
        if self._make is None:
            raise Unavailable("access.static.gateway", "no gateway runs here", next_step="use it under `remit up`")
        resource = f"target/{target.name}"

        async def value(principal: str) -> bytes:
            use = Use(
                gateway=f"static/{target.name}", decision=principal, subject=principal, resource=resource,
                names=(resource,),
            )  # fmt: skip
            return await self._secrets.use(settings.secret, use)

        return self._make(target, settings, value, self._clock)

    def rotation(self, target: Target, settings: Settings) -> RotatesSecret | None:
        """How the secret of a target is rotated; `None` where the operator named neither a program nor a plan."""
        if settings.plan and self._rotations is not None:
            return PlanRotation(
                secrets=self._secrets, settings=settings, target=target.name, conductor=self._rotations(), fresh=_fresh
            )
        if not settings.rotate:
            return None
        return HookRotation(secrets=self._secrets, settings=settings, target=target.name, fresh=_fresh)

    async def has_secret(self, name: str, target: str) -> bool:
        """Whether the vault has it for this target."""
        return any(one.name == name and one.covers([f"target/{target}"]) for one in await self._secrets.list())


def furnish(control: ControlPlane, factories: Catalog[BrokerFactory]) -> None:
    """Give the brokers of static secrets what this installation has."""
    factory = factories.get("static")
    assert isinstance(factory, StaticBrokerFactory), "the built-in broker"
    factory.house = StaticHouse(control.secrets, control.clock, control.make_door, lambda: control.rotations)


def _fresh() -> bytes:
    return urlsafe_b64encode(os.urandom(32)).rstrip(b"=")
