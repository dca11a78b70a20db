# mypy: disable-error-code="no-untyped-def,no-untyped-call"
"""The kernels of the graph: loops over plain arrays, compiled by numba. Reached only through `compiled.kernels()`,
which compiles them: importing this compiles nothing.

Rows are compressed (`first`, `heads`); `ends` says where a row ends that counts: `first[1:]` for every edge, the splits
for those without conditions. An overlay holds edges that were added since: `more` is the first of a node's in a linked
list (`link`), or -1. An edge that was removed leads to its own node, so that no flag is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np

_F = TypeVar("_F", bound=Callable[..., Any])
_ONE = np.uint64(1)


KERNELS: Final[list[str]] = []
"""What is to be compiled; as they stand here they run as plain Python."""


def _kernel(function: _F) -> _F:
    KERNELS.append(function.__name__)
    return function


@_kernel
def reach(first, ends, heads, more, link, extra, start, stamp, mark, queue):
    """Everything that `start` reaches, itself first, in `queue`; how many. `stamp[node] == mark` marks them."""
    queue[0] = start
    stamp[start] = mark
    size = 1
    at = 0
    while at < size:
        node = queue[at]
        at += 1
        for edge in range(first[node], ends[node]):
            head = heads[edge]
            if stamp[head] != mark:
                stamp[head] = mark
                queue[size] = head
                size += 1
        cell = more[node]
        while cell >= 0:
            head = extra[cell]
            cell = link[cell]
            if stamp[head] != mark:
                stamp[head] = mark
                queue[size] = head
                size += 1
    return size


@_kernel
def spread(first, split, heads, start, stamp, mark, order, step, distance):
    """The search with proofs: first without conditions, level by level, then on through conditional edges.

    Fills `order` (nodes by rank), `step` (the edge by which each was found) and `distance`, by rank. Returns how many
    are reached without a condition and how many in all, the start included.
    """
    order[0] = start
    step[0] = -1
    distance[0] = 0
    stamp[start] = mark
    size = 1
    at = 0
    while at < size:
        node = order[at]
        for edge in range(first[node], split[node]):
            head = heads[edge]
            if stamp[head] != mark:
                stamp[head] = mark
                order[size] = head
                step[size] = edge
                distance[size] = distance[at] + 1
                size += 1
        at += 1
    certain = size
    passed = 0
    fresh = certain
    level = 0
    while passed < certain or fresh < size:
        # Of one distance: the conditional rows of what is certain, then the whole rows of what was found since.
        while passed < certain and distance[passed] == level:
            node = order[passed]
            for edge in range(split[node], first[node + 1]):
                head = heads[edge]
                if stamp[head] != mark:
                    stamp[head] = mark
                    order[size] = head
                    step[size] = edge
                    distance[size] = level + 1
                    size += 1
            passed += 1
        while fresh < size and distance[fresh] == level:
            node = order[fresh]
            for edge in range(first[node], first[node + 1]):
                head = heads[edge]
                if stamp[head] != mark:
                    stamp[head] = mark
                    order[size] = head
                    step[size] = edge
                    distance[size] = level + 1
                    size += 1
            fresh += 1
        level += 1
    return certain, size


@_kernel
def reverse(first, split, ends, heads, size):
    """The rows turned round, those without conditions first: where each begins, splits and ends, and the tails."""
    begins = np.zeros(size + 1, np.int64)
    certain = np.zeros(size, np.int64)
    for node in range(size):
        for edge in range(first[node], ends[node]):
            begins[heads[edge] + 1] += 1
            if edge < split[node]:
                certain[heads[edge]] += 1
    for node in range(size):
        begins[node + 1] += begins[node]
    splits = begins[:size] + certain
    early = begins[:size].copy()
    late = splits.copy()
    tails = np.empty(begins[size], np.int32)
    for node in range(size):
        for edge in range(first[node], ends[node]):
            head = heads[edge]
            if edge < split[node]:
                tails[early[head]] = node
                early[head] += 1
            else:
                tails[late[head]] = node
                late[head] += 1
    return begins[:size].copy(), splits, begins[1:].copy(), tails


@_kernel
def components(first, ends, heads, size):
    """Strongly connected components after Tarjan and Pearce, without recursion: of each node, and how many there are.

    They are numbered against the edges: an edge never leads to a component of a higher number.
    """
    index = np.zeros(size, np.int32)
    is_root = np.ones(size, np.uint8)
    path = np.empty(size, np.int32)
    waiting = np.empty(size, np.int32)
    cursor = np.empty(size, np.int64)
    opened = 0
    clock = 1
    last = size - 1
    for root in range(size):
        if index[root] != 0:
            continue
        path[0] = root
        depth = 1
        index[root] = clock
        clock += 1
        cursor[root] = first[root]
        while depth > 0:
            node = path[depth - 1]
            below = -1
            while cursor[node] < ends[node]:
                head = heads[cursor[node]]
                if index[head] == 0:
                    below = head
                    break
                if index[head] < index[node]:
                    index[node] = index[head]
                    is_root[node] = 0
                cursor[node] += 1
            if below >= 0:
                # Its edge is looked at again when it is done, and then carries what was seen behind it.
                index[below] = clock
                clock += 1
                cursor[below] = first[below]
                path[depth] = below
                depth += 1
                continue
            depth -= 1
            if is_root[node] == 1:
                clock -= 1
                while opened > 0 and index[waiting[opened - 1]] >= index[node]:
                    opened -= 1
                    index[waiting[opened]] = size + last
                    clock -= 1
                index[node] = size + last
                last -= 1
            else:
                waiting[opened] = node
                opened += 1
    count = size - 1 - last
    return (2 * size - 1 - index).astype(np.int32), count


@_kernel
def condense(first, ends, heads, of, count):
    """The predecessors of each component, each once: where each row begins, and the rows."""
    size = len(of)
    members = np.zeros(count + 1, np.int64)
    for node in range(size):
        members[of[node] + 1] += 1
    for at in range(count):
        members[at + 1] += members[at]
    cursor = members[:count].copy()
    listed = np.empty(size, np.int32)
    for node in range(size):
        listed[cursor[of[node]]] = node
        cursor[of[node]] += 1
    begins = np.zeros(count + 1, np.int64)
    seen = np.full(count, -1, np.int32)
    for tail in range(count):
        for at in range(members[tail], members[tail + 1]):
            node = listed[at]
            for edge in range(first[node], ends[node]):
                head = of[heads[edge]]
                if head != tail and seen[head] != tail:
                    seen[head] = tail
                    begins[head + 1] += 1
    for at in range(count):
        begins[at + 1] += begins[at]
    cursor = begins[:count].copy()
    rows = np.empty(begins[count], np.int32)
    seen[:] = -1
    outs = np.zeros(count, np.int32)
    for tail in range(count):
        for at in range(members[tail], members[tail + 1]):
            node = listed[at]
            for edge in range(first[node], ends[node]):
                head = of[heads[edge]]
                if head != tail and seen[head] != tail:
                    seen[head] = tail
                    rows[cursor[head]] = tail
                    cursor[head] += 1
                    outs[tail] += 1
    return begins, rows, outs


@_kernel
def weigh(of, count, classes, kinds):
    """How many nodes of each counted class each component has."""
    weights = np.zeros((count, kinds), np.int32)
    for node in range(len(of)):
        if classes[node] < kinds:
            weights[of[node], classes[node]] += 1
    return weights


@_kernel
def flood(begins, rows, start, flags):
    """Set the flag of every component that leads to `start`, and its own; how many."""
    queue = np.empty(len(flags), np.int32)
    queue[0] = start
    flags[start] = 1
    size = 1
    at = 0
    while at < size:
        node = queue[at]
        at += 1
        for row in range(begins[node], begins[node + 1]):
            tail = rows[row]
            if flags[tail] == 0:
                flags[tail] = 1
                queue[size] = tail
                size += 1
    return size


@_kernel
def flood_down(begins, rows, start, flags):
    """Set the flag of every component that `start` leads to, and its own: edges lead to lower numbers alone."""
    flags[start] = 1
    # Predecessors have higher numbers: going down, each is settled before it is asked.
    for node in range(start - 1, -1, -1):
        for row in range(begins[node], begins[node + 1]):
            if flags[rows[row]] == 1:
                flags[node] = 1
                break
    return 0


@_kernel
def fold_leaves(begins, rows, outs, weights):
    """Let what leads nowhere and is reached from one component alone weigh there; 1 marks what was folded."""
    count = len(outs)
    folded = np.zeros(count, np.uint8)
    for node in range(count):
        if outs[node] == 0 and begins[node + 1] - begins[node] == 1:
            tail = rows[begins[node]]
            for kind in range(weights.shape[1]):
                weights[tail, kind] += weights[node, kind]
            folded[node] = 1
    return folded


@_kernel
def popcount(word):
    """How many bits are set."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@_kernel
def lowest(word):
    """The place of the lowest bit that is set."""
    return popcount((word & (~word + np.uint64(1))) - np.uint64(1))


@_kernel
def sweep(begins, rows, order, weights, above_hub, under_hub, counts, words):
    """Add to `counts` what each component reaches, itself included: exactly, 64 * `words` targets at a time.

    `order` lists the targets; `weights` has what each adds by class. The bits of a target climb from component to
    predecessor, which have higher numbers, so a bitmap of the waiting ones is read upwards once. What lies under the
    hub never climbs into what leads to the hub: the caller counts it there, once for all.
    """
    count = len(begins) - 1
    kinds = weights.shape[1]
    masks = np.zeros((count, words), np.uint64)
    waiting = np.zeros(count // 64 + 1, np.uint64)
    total = len(order)
    slices = words * kinds * 32
    slice_mask = np.empty(slices, np.uint64)
    slice_kind = np.empty(slices, np.int64)
    slice_shift = np.empty(slices, np.int64)
    slice_begin = np.zeros(words + 1, np.int64)
    plane = np.zeros((kinds, 32), np.uint64)
    under = np.zeros(words, np.uint64)
    done = 0
    while done < total:
        batch = min(words * 64, total - done)
        used = (batch + 63) // 64
        from_word = count // 64 + 1
        size = 0
        any_under = False
        for word in range(used):
            plane[:] = 0
            under[word] = 0
            for bit in range(min(64, batch - word * 64)):
                target = order[done + word * 64 + bit]
                flag = _ONE << np.uint64(bit)
                for kind in range(kinds):
                    weight = weights[target, kind]
                    shift = 0
                    while weight > 0:
                        if weight & 1:
                            plane[kind, shift] |= flag
                        weight >>= 1
                        shift += 1
                if under_hub[target] == 1:
                    under[word] |= flag
                    any_under = True
                masks[target, word] |= flag
                waiting[target >> 6] |= _ONE << np.uint64(target & 63)
                if target >> 6 < from_word:
                    from_word = target >> 6
            slice_begin[word] = size
            for kind in range(kinds):
                for shift in range(32):
                    if plane[kind, shift] != 0:
                        slice_mask[size] = plane[kind, shift]
                        slice_kind[size] = kind
                        slice_shift[size] = shift
                        size += 1
            slice_begin[word + 1] = size
        for block in range(from_word, len(waiting)):
            while waiting[block] != 0:
                bits = waiting[block]
                place = lowest(bits)
                waiting[block] = bits & (bits - _ONE)
                node = block * 64 + place
                for word in range(used):
                    mask = masks[node, word]
                    if mask != 0:
                        for at in range(slice_begin[word], slice_begin[word + 1]):
                            hit = mask & slice_mask[at]
                            if hit != 0:
                                counts[node, slice_kind[at]] += popcount(hit) << slice_shift[at]
                for row in range(begins[node], begins[node + 1]):
                    tail = rows[row]
                    if any_under and above_hub[tail] == 1:
                        found = False
                        for word in range(used):
                            mask = masks[node, word] & ~under[word]
                            if mask != 0:
                                masks[tail, word] |= mask
                                found = True
                        if not found:
                            continue
                    else:
                        for word in range(used):
                            masks[tail, word] |= masks[node, word]
                    waiting[tail >> 6] |= _ONE << np.uint64(tail & 63)
                for word in range(used):
                    masks[node, word] = 0
        done += batch
    return total


@_kernel
def tally(queue, size, classes, kinds, found):
    """Count by class what the first `size` of `queue` are, without the first of all."""
    for kind in range(kinds):
        found[kind] = 0
    for at in range(1, size):
        kind = classes[queue[at]]
        if kind < kinds:
            found[kind] += 1
    return 0


@_kernel
def recount(sources, first, ends, heads, more, link, extra, classes, stamp, mark, queue, counts, budget):
    """Search again from each of `sources` and write what it reaches into `counts`; the marks that were used.

    Gives up, with -1, when more than `budget` nodes were visited.
    """
    kinds = counts.shape[1]
    visited = 0
    for source in sources:
        mark += 1
        size = reach(first, ends, heads, more, link, extra, source, stamp, mark, queue)
        tally(queue, size, classes, kinds, counts[source])
        visited += size
        if visited > budget:
            return -1
    return mark


@_kernel
def shift(queue, size, skipped, kind, by, counts):
    """Add `by` to what each of `queue` reaches of one class, but for the node itself."""
    for at in range(size):
        if queue[at] != skipped:
            counts[queue[at], kind] += by
    return 0


@_kernel
def gather(of, classes, found, counts):
    """Give each node what its component reaches, less itself."""
    kinds = found.shape[1]
    for node in range(len(of)):
        for kind in range(kinds):
            counts[node, kind] = found[of[node], kind]
        if classes[node] < kinds:
            counts[node, classes[node]] -= 1
    return 0


@_kernel
def lay(begins, split, ends, heads, more, link, extra, more_all, link_all, extra_all):
    """The rows with their overlay as rows alone: where each begins, splits and ends, and the heads.

    The overlay of every edge holds those without conditions too: of each node and head as many as are in the other
    are passed over. What leads to its own node is left out.
    """
    size = len(begins)
    total = 0
    for node in range(size):
        total += ends[node] - begins[node]
        cell = more_all[node]
        while cell >= 0:
            total += 1
            cell = link_all[cell]
    laid = np.empty(total, np.int32)
    first = np.empty(size, np.int64)
    middle = np.empty(size, np.int64)
    last = np.empty(size, np.int64)
    used = 0
    for node in range(size):
        first[node] = used
        for edge in range(begins[node], split[node]):
            if heads[edge] != node:
                laid[used] = heads[edge]
                used += 1
        early = used
        cell = more[node]
        while cell >= 0:
            if extra[cell] != node:
                laid[used] = extra[cell]
                used += 1
            cell = link[cell]
        middle[node] = used
        for edge in range(split[node], ends[node]):
            if heads[edge] != node:
                laid[used] = heads[edge]
                used += 1
        cell = more_all[node]
        while cell >= 0:
            head = extra_all[cell]
            cell = link_all[cell]
            if head == node:
                continue
            passed = False
            for at in range(early, middle[node]):
                if laid[at] == head:
                    # Swapped to the front of what is left to pass over.
                    laid[at] = laid[early]
                    laid[early] = head
                    early += 1
                    passed = True
                    break
            if not passed:
                laid[used] = head
                used += 1
        last[node] = used
    return first, middle, last, laid[:used].copy()
