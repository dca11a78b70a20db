"""How much every node reaches, exactly and all at once, by class.

Nodes that reach one another are one component; components are counted against the edges. With the kernels 64 * `WORDS`
targets climb at a time through a bitmap of what waits; what a hub (the component through which most goes) reaches is
counted once for all that lead to it. Without them big integers are the sets: slower, the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

from remit.inventory.graph.traits import CLASSES

WORDS: Final = 8
_BLOCK = 16_384
_BLOCK_BITS = 1 << 30
"""The bits of all sets of one block together."""
_HUBS = 3


def count_with_kernels(k: ModuleType, begins: Any, ends: Any, heads: Any, classes: Any, *, words: int = WORDS) -> Any:
    """For each node how many others of each class it reaches: an array of nodes by classes."""
    import numpy as np

    size = len(begins)
    counts = np.zeros((size, CLASSES), np.int32)
    if size == 0:
        return counts
    of, count = k.components(begins, ends, heads, size)
    above, rows, outs = k.condense(begins, ends, heads, of, count)
    weights = k.weigh(of, count, classes, CLASSES)
    own = weights.copy()
    folded = k.fold_leaves(above, rows, outs, weights)
    found = np.zeros((count, CLASSES), np.int32)
    counted = (weights.any(axis=1)) & (folded == 0)
    over, under, hub = _hub(k, above, rows, outs, of, count)
    if hub >= 0:
        shared = weights[(under == 1) & (folded == 0)].sum(axis=0)
        counted[hub] = False
    k.sweep(above, rows, np.flatnonzero(counted).astype(np.int32), weights, over, under, found, words)
    if hub >= 0:
        found[over == 1] += shared
    found[folded == 1] = own[folded == 1]
    k.gather(of, classes, found, counts)
    return counts


def _hub(k: ModuleType, above: Any, rows: Any, outs: Any, of: Any, count: int) -> tuple[Any, Any, int]:
    """The component with the most (what leads to it) x (what it leads to), of the few that promise most; -1: none."""
    import numpy as np

    none = np.zeros(count, np.uint8)
    sizes = np.bincount(of, minlength=count)
    promising = {int(sizes.argmax()), *map(int, np.argsort(outs)[-_HUBS:])}
    best: tuple[int, Any, Any, int] = (0, none, none, -1)
    for each in sorted(promising):
        over, under = none.copy(), none.copy()
        leading = k.flood(above, rows, each, over)
        if leading * count <= best[0]:
            continue
        k.flood_down(above, rows, each, under)
        gain = leading * int(under.sum())
        if gain > best[0]:
            best = (gain, over, under, each)
    return best[1], best[2], best[3]


def count_plainly(
    begins: Sequence[int], ends: Sequence[int], heads: Sequence[int], classes: Sequence[int]
) -> list[tuple[int, ...]]:
    """The same as `count_with_kernels` in plain Python, a bounded block of targets at a time."""
    of, count = components_plainly(begins, ends, heads)
    below: list[set[int]] = [set() for _ in range(count)]
    for node, tail in enumerate(of):
        below[tail].update(of[head] for head in heads[begins[node] : ends[node]])
    found = [[0] * CLASSES for _ in range(count)]
    targets = [node for node, kind in enumerate(classes) if kind < CLASSES]
    block = min(_BLOCK, max(64, _BLOCK_BITS // max(count, 1)))
    for start in range(0, len(targets), block):
        sets = [0] * count
        masks = [0] * CLASSES
        for bit, node in enumerate(targets[start : start + block]):
            sets[of[node]] |= 1 << bit
            masks[classes[node]] |= 1 << bit
        kinds = [(kind, mask) for kind, mask in enumerate(masks) if mask]
        for one in range(count):
            reached = sets[one]
            for other in below[one]:
                reached |= sets[other]
            sets[one] = reached
            if reached:
                for kind, mask in kinds:
                    found[one][kind] += (reached & mask).bit_count()
    return [
        tuple(number - (kind == own) for kind, number in enumerate(found[of[node]])) for node, own in enumerate(classes)
    ]


def components_plainly(begins: Sequence[int], ends: Sequence[int], heads: Sequence[int]) -> tuple[list[int], int]:
    """Of each node its strongly connected component, numbered against the edges, and how many there are (Tarjan)."""
    size = len(begins)
    low, of = [0] * size, [-1] * size
    waiting: list[int] = []
    clock = count = 0
    for root in range(size):
        if low[root]:
            continue
        path: list[tuple[int, int, Any]] = []
        step: int | None = root
        while step is not None or path:
            if step is not None:
                clock += 1
                low[step] = clock
                waiting.append(step)
                path.append((step, clock, iter(heads[begins[step] : ends[step]])))
                step = None
            node, own, left = path[-1]
            for head in left:
                if not low[head]:
                    step = head
                    break
                if of[head] < 0:
                    low[node] = min(low[node], low[head])
            if step is not None:
                continue
            path.pop()
            if low[node] == own:
                while True:
                    member = waiting.pop()
                    of[member] = count
                    if member == node:
                        break
                count += 1
            elif path:
                above = path[-1][0]
                low[above] = min(low[above], low[node])
    return of, count
