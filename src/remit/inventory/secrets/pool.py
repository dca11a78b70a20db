"""The scan over all cores: blobs go in, in chunks of some megabytes; what was found comes out without its value.

Little is scanned in this very process: workers are forked when a second chunk is full, so that they share the
compiled patterns. A worker that dies or does not come back costs its chunk, which is reported, and no more.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Protocol

from remit.inventory.model import Skipped
from remit.inventory.secrets import baseline
from remit.inventory.secrets.found import Attempt, Found, find
from remit.inventory.secrets.model import Blob, Hit
from remit.inventory.secrets.sources.families import Lost, Share
from remit.inventory.secrets.sources.unread import Media, Reader, Unread
from remit.kernel.unit import Fingerprinter

CHUNK_BYTES = 4 * 1024 * 1024
CHUNK_BLOBS = 2_000
MAX_OF_BLOB = 1_000
"""Secrets of one blob; what has more is a dump, and said to be."""
MAX_RESTARTS = 5
CHUNK_SECONDS = 300.0
_FAILED = (BrokenProcessPool, TimeoutError, MemoryError)
"""How a chunk may end without an answer."""


class Engine(Protocol):
    """Finds secrets in bytes (`engine.make_engine`)."""

    def scan(self, blob: Blob) -> Iterable[Hit]:
        """Every value that looks like a secret."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What each worker needs; given to it by the fork, never through a pipe."""

    engine: Engine
    fingerprint: Fingerprinter
    min_confidence: int
    attempt: Attempt | None = None
    read: Callable[[Share], Iterator[Blob | Skipped | Lost]] | None = None
    """Reads a share of a history, where one is scanned (`sources.git.History.read`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """Objects of history in which nothing is: they need no scan the next time."""

    object_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """Of what was left to be read here: what could not be, or `None` where it is a picture or the like."""

    skipped: Skipped | None


Item = Blob | Unread | Share
Result = Found | Skipped | Clean | Unseen | Lost
_job: Job | None = None


def crew_size() -> int:
    """How many scan at once unless somebody says otherwise."""
    return min(8, os.cpu_count() or 1)


def scan(
    blobs: Iterable[Item | Skipped],
    job: Job,
    *,
    workers: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[int, str], None] = lambda done, where: None,
) -> Iterator[Result]:
    """Scan every blob; what could not be read is passed on. Memory is bounded by the chunks under way.

    A share of a history is a chunk of its own, read by the worker that scans it: its bytes pass through no pipe.

    A stopped scan ends with `Skipped` (`not-permitted`), so that nobody takes it for a whole one.
    """
    workers = workers or crew_size()
    crew = _Crew(job, workers)
    done = 0
    try:
        for item in _chunks(blobs):
            if isinstance(item, Skipped):
                yield item
                continue
            done += len(item)
            progress(done, item[-1].path)
            yield from crew.give(item)
            if stopped():
                yield Skipped(what="the secret scan", reason="not-permitted", detail="stopped before the end")
                return
        yield from crew.finish()
    finally:
        crew.close()


def _chunks(blobs: Iterable[Item | Skipped]) -> Iterator[list[Item] | Skipped]:
    held: list[Item] = []
    size = 0
    for blob in blobs:
        if isinstance(blob, Skipped):
            yield blob
            continue
        held.append(blob)
        size += len(blob.data) if isinstance(blob, Blob) else blob.size
        if size >= CHUNK_BYTES or len(held) >= CHUNK_BLOBS or isinstance(blob, Share):
            yield held
            held, size = [], 0
    if held:
        yield held


def scan_chunk(job: Job, items: Iterable[Item]) -> list[Result]:
    """What is in these."""
    results: list[Result] = []
    clean: list[str] = []
    reader = Reader()
    for item in items:
        if isinstance(item, Unread):
            results.extend(_of_file(job, reader, item))
        elif isinstance(item, Blob):
            _of_object(job, item, results, clean)
        else:
            _of_share(job, item, results, clean)
    reader.close()
    if clean:
        results.append(Clean(object_ids=tuple(clean)))
    return results


def _of_object(job: Job, whole: Blob, results: list[Result], clean: list[str]) -> None:
    before = len(results)
    for blob in _unpacked(whole):
        if isinstance(blob, Skipped):
            results.append(blob)
        elif found := list(_of_blob(job, blob)):
            results.extend(_one_each(found))
    # A piece of a large object says nothing of the rest of it.
    if len(results) == before and whole.object_id and not whole.offset and len(whole.data) < CHUNK_BYTES:
        clean.append(whole.object_id)


def _of_share(job: Job, share: Share, results: list[Result], clean: list[str]) -> None:
    assert job.read is not None
    for each in job.read(share):
        if isinstance(each, Blob):
            _of_object(job, each, results, clean)
        else:
            results.append(Unseen(skipped=each) if isinstance(each, Skipped) else each)


def _of_file(job: Job, reader: Reader, file: Unread) -> Iterator[Result]:
    for each in reader.read(file):
        if isinstance(each, Blob):
            yield from _one_each(_of_blob(job, each))
        else:
            yield Unseen(skipped=None if isinstance(each, Media) else each)


def _unpacked(blob: Blob) -> Iterable[Blob | Skipped]:
    """What an object of history holds; files of a tree come unpacked."""
    if not blob.object_id or blob.offset:
        return (blob,)
    from remit.inventory.secrets.sources.expand import expand

    return (
        replace(each, object_id=blob.object_id) if isinstance(each, Blob) and not each.object_id else each
        for each in expand(blob)
    )


def _one_each(results: Iterable[Result]) -> list[Result]:
    """A public id and the secret beside it are one credential: told where the secret is."""
    listed = list(results)
    with_secret = {each.fingerprint for each in listed if isinstance(each, Found) and each.keyed != each.fingerprint}
    return [
        each
        for each in listed
        if not (isinstance(each, Found) and each.keyed == each.fingerprint and each.fingerprint in with_secret)
    ]


def _of_blob(job: Job, blob: Blob) -> Iterator[Result]:
    hits = [hit for hit in job.engine.scan(blob) if hit.confidence >= job.min_confidence]
    if blob.data.startswith(baseline.BEGINNING):
        hits = [hit for hit in hits if not baseline.is_own(hit.value)]
    if len(hits) > MAX_OF_BLOB:
        detail = f"{len(hits)} values that look like secrets: the first {MAX_OF_BLOB} are kept"
        yield Skipped(what=blob.path[:4096], reason="too-large", detail=detail)
    for hit in hits[:MAX_OF_BLOB]:
        found = find(hit, blob, job.fingerprint, job.attempt)
        # A checksum may speak against what the engine believed: told all the same, as not severe.
        if found.confidence >= job.min_confidence or found.checksum == "fail":
            yield found


def _take(job: Job) -> None:
    """What a worker is given as it begins: two scans in one process have a job each."""
    global _job  # noqa: PLW0603  (a worker has one)
    _job = job


def _scan_here(items: list[Item]) -> list[Result]:
    assert _job is not None
    return scan_chunk(_job, items)


class _Crew:
    """Workers, and the chunks that they have; results come in the order of the chunks."""

    def __init__(self, job: Job, workers: int) -> None:
        self._job = job
        self._workers = workers
        self._first: list[Item] | None = None
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        self._given: deque[tuple[concurrent.futures.Future[list[Result]], list[Item]]] = deque()
        self._restarts = 0

    def give(self, chunk: list[Item]) -> Iterator[Result]:
        """Take one more chunk; answers results that are ready."""
        if self._workers == 1:
            yield from scan_chunk(self._job, chunk)
            return
        if self._pool is None and self._first is None:
            self._first = chunk
            return
        if self._first is not None:
            first, self._first = self._first, None
            self._submit(first)
        self._submit(chunk)
        while len(self._given) > self._workers * 2:
            yield from self._next()

    def finish(self) -> Iterator[Result]:
        """The results that are still out."""
        if self._first is not None:
            first, self._first = self._first, None
            yield from scan_chunk(self._job, first)
        while self._given:
            yield from self._next()

    def close(self) -> None:
        """End the workers, whatever they are at."""
        pool, self._pool = self._pool, None
        if pool is not None:
            _end(pool)

    def _submit(self, chunk: list[Item]) -> None:
        if self._pool is None:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("fork"),
                initializer=_take,
                initargs=(self._job,),
            )
        try:
            self._given.append((self._pool.submit(_scan_here, chunk), chunk))
        except BrokenProcessPool:
            failed: concurrent.futures.Future[list[Result]] = concurrent.futures.Future()
            failed.set_exception(BrokenProcessPool())
            self._given.append((failed, chunk))

    def _next(self) -> Iterator[Result]:
        future, chunk = self._given.popleft()
        try:
            yield from future.result(timeout=CHUNK_SECONDS)
        except _FAILED:
            yield from self._recover(chunk)

    def _recover(self, chunk: list[Item]) -> Iterator[Result]:
        """Try the chunk once more by itself: it may have been another that broke the workers; then go on with those."""
        self.close()
        waiting = [held for _, held in self._given]
        self._given.clear()
        self._restarts += 1
        yield from self._alone(chunk)
        for held in waiting:
            if self._restarts > MAX_RESTARTS:
                yield _given_up(held)
            else:
                self._submit(held)

    def _alone(self, chunk: list[Item]) -> Iterator[Result]:
        self._submit(chunk)
        future, _ = self._given.pop()
        try:
            yield from future.result(timeout=CHUNK_SECONDS)
        except _FAILED:
            self.close()
            yield _given_up(chunk)


def _given_up(chunk: list[Item]) -> Skipped:
    detail = "a worker died over it, or did not come back"
    number = sum(each.last - each.first if isinstance(each, Share) else 1 for each in chunk)
    what = "objects" if isinstance(chunk[-1], Share) else "files"
    return Skipped(what=f"{number} {what} from {chunk[0].path[:2000]} on", reason="malformed", detail=detail)


def _end(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    workers = list((pool._processes or {}).values())
    for worker in workers:
        if worker.is_alive():
            worker.kill()
    pool.shutdown(wait=True, cancel_futures=True)
