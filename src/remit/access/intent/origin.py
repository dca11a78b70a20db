"""Where a value came from, by what the gateway itself has seen: never by what anybody says.

A text counts as seen in a source when it stands there whole, between delimiters (spaces, quotes, brackets, commas),
after normalisation (NFKC, case folded, runs of white space as one). A part of a word is not the word: `example.com`
is not seen in `bob@example.com`. What is not found anywhere has no origin.
"""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

from remit.access.intent.model import INSTRUCTION, TOOL, USER, Constraint, Intent
from remit.kernel.canonical import Json

MAX_INDEX_BYTES: Final = 4 << 20
"""Text of tools' outputs that is kept; the oldest is forgotten first, and what it held has no origin any more."""
MAX_VALUE: Final = 65_536
MAX_LEAVES: Final = 4096
_DELIMITERS: Final = frozenset(" \t\n\"'`<>()[]{},;:!?|=*")
_ENDS: Final = frozenset(" \n\"'`)]}>,;!?*")


class OriginIndex:
    """What one gateway has seen in one session. Deterministic, bounded, and only ever forgets outputs of tools."""

    def __init__(self, intent: Intent, *, max_bytes: int = MAX_INDEX_BYTES) -> None:
        listed = [text for rule in intent.tools.values() for text in _listed(rule.arguments)]
        self._instruction = [normal(intent.instruction), normal(intent.purpose)]
        self._listed = frozenset(map(normal, listed))
        self._user = [normal(text) for text in intent.inputs.values()]
        self._outputs: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._held = 0
        self._max = max_bytes

    def saw(self, tool: str, output: Json) -> None:
        """Note what `tool` (`SERVER/TOOL`) answered: every text and number in it."""
        for text in _texts(output):
            self._keep(tool, normal(text))

    def _keep(self, tool: str, text: str) -> None:
        if not text or len(text) > self._max:
            return
        key = (tool, text)
        if key in self._outputs:
            self._outputs.move_to_end(key)
            return
        self._outputs[key] = None
        self._held += len(text)
        while self._held > self._max:
            (_, gone), _ = self._outputs.popitem(last=False)
            self._held -= len(gone)

    def origins(self, value: str) -> frozenset[str]:
        """Every source in which `value` was seen."""
        text = normal(value)
        if not text or len(text) > MAX_VALUE:
            return frozenset()
        found: set[str] = set()
        if text in self._listed or any(stands_in(text, source) for source in self._instruction):
            found.add(INSTRUCTION)
        if any(stands_in(text, source) for source in self._user):
            found.add(USER)
        for tool, source in self._outputs:
            if TOOL + tool not in found and stands_in(text, source):
                found.add(TOOL + tool)
        return frozenset(found)

    def of_arguments(self, arguments: Mapping[str, Json]) -> dict[str, frozenset[str]]:
        """JSON pointer of each text and number → its origins."""
        return {pointer: self.origins(text) for pointer, text in leaves(arguments)}


def normal(text: str) -> str:
    """The form in which texts are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def stands_in(text: str, source: str) -> bool:
    """Tell whether `text` stands whole in `source`, both normalised."""
    at = source.find(text)
    while at >= 0:
        end = at + len(text)
        if (at == 0 or source[at - 1] in _DELIMITERS) and _ends(source, end):
            return True
        at = source.find(text, at + 1)
    return False


def _ends(source: str, at: int) -> bool:
    """A delimiter, the end, or a full stop or colon that ends a word."""
    if at >= len(source) or source[at] in _ENDS:
        return True
    return source[at] in ".:" and (at + 1 >= len(source) or source[at + 1] in _ENDS)


def leaves(value: Json, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Each text and number, with its JSON pointer (RFC 6901); what has one bit or none (booleans, null) is left out."""
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaves(item, f"{pointer}/{number}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield pointer, str(value)


def _texts(output: Json) -> Iterator[str]:
    """Every leaf, names of objects included."""
    if isinstance(output, Mapping):
        for name, item in output.items():
            yield name
            yield from _texts(item)
    elif isinstance(output, list | tuple):
        for item in output:
            yield from _texts(item)
    else:
        yield from (text for _, text in leaves(output))


def _listed(constraint: Constraint) -> Iterator[str]:
    """Values that the signed intent itself lists."""
    yield from (str(each) for each in constraint.enum if isinstance(each, str | int) and not isinstance(each, bool))
    for inner in constraint.properties.values():
        yield from _listed(inner)
    if constraint.items is not None:
        yield from _listed(constraint.items)
