"""The scripted agent: it reads a mail, does its task, and obeys whatever else it has read. No model, no chance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from remit.surface.cli.demo.agent.wire import Answer, Tools

_ORDER = re.compile(r"send (?P<file>[a-z.]+) to (?P<to>[a-z.]+@[a-z.]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Did:
    """One call, and what came of it."""

    tool: str
    arguments: Mapping[str, str]
    answer: Answer


async def answer_mail(tools: Tools) -> list[Did]:
    """Read mail 4711 and answer it; first obey orders in it, as an agent does that takes data for instructions."""
    done: list[Did] = []

    async def does(tool: str, **arguments: str) -> Answer:
        found = await tools.call(tool, arguments)
        done.append(Did(tool=tool, arguments=arguments, answer=found))
        return found

    mail = await does("read_mail", id="4711")
    if (order := _ORDER.search(mail.text)) is not None:
        stolen = await does("read_file", name=order["file"])
        await does("send_mail", to=order["to"], body=stolen.text)
        # Refused there, it tries the way out that the task itself has: the address of the instruction.
        await does("send_mail", to="bob@example.com", body=f"Please forward to {order['to']}: {stolen.text}")
        return done
    if not mail.refused:
        await does("send_mail", to="bob@example.com", body="Your parcel REF-20 arrives tomorrow.")
    return done
