"""A plan carried out by worker threads: each takes a picture, reads it, computes it when its turn comes, and writes it.

Reading, computing and writing overlap because the workers are at different stages; their number bounds the memory.
What is computed at once, and with how many threads, follows from the plan and the sizes alone, so the same command
gives the same bytes.

A picture that fails is reported by name and the rest goes on. After a stop (`KeyboardInterrupt`, `fail_fast`, a full
disk) nothing more is begun, and what is computed is still written.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from pathlib import Path

from irestore.batch import files
from irestore.batch.chain import Step
from irestore.batch.files import RunOptions
from irestore.batch.inputs import Item
from irestore.batch.plan import EXISTS
from irestore.batch.pool import Pool, batches
from irestore.batch.progress import attend
from irestore.batch.report import Outcome, Report, Status
from irestore.errors import WriteError
from irestore.images import Picture, reduced

UNFORESEEN = 3  # pictures that fail in a row, each by an error that nobody foresaw, end the run


class StoppedError(Exception):
    """The run is being stopped: what is not computed yet is left."""


@dataclass
class Work:
    """An item on its way, with what is known of it so far."""

    item: Item
    side_by_side: int  # pictures that may be computed at the same time as this one, itself included
    notes: list[str] = field(default_factory=list)
    shown: float = 0.0  # pixels that the bar has counted
    seconds: float = 0.0  # spent on it, without the time in which it waited for its turn


def run(items: Sequence[Item], pool: Pool, report: Report, options: RunOptions) -> None:
    """Restore and write the items; those that fail are reported.

    Raises WriteError when a disk is full, and KeyboardInterrupt as it came; both after what was computed is written.
    """
    units = batches(items, pool)
    _Run(iter(units), min(pool.workers, len(units)), pool, report, options).run()


@dataclass
class _Run:
    units: Iterator[list[Item]]
    workers: int
    pool: Pool
    report: Report
    options: RunOptions
    stop: threading.Event = field(default_factory=threading.Event)  # nothing more is begun
    cause: BaseException | None = None  # of the stop, where it is to be raised

    def __post_init__(self) -> None:
        self.lock, self.taking = threading.Lock(), threading.Lock()
        self.writing: set[Path | None] = set()

    def run(self) -> None:
        """Start the workers and wait for them."""
        attend(self._work, self.workers, self.report.tick, self._interrupted)
        if self.cause is not None:
            raise self.cause

    def _interrupted(self, interrupt: BaseException) -> None:
        if isinstance(self.cause, KeyboardInterrupt):  # the second one
            for target in list(self.writing):
                files.discard_unfinished(target)
            raise interrupt
        self._stop(interrupt)

    def _stop(self, cause: BaseException | None) -> None:
        with self.lock:
            if self.cause is None or isinstance(cause, KeyboardInterrupt):
                self.cause = cause
        self.stop.set()

    def _work(self) -> None:
        """What a worker does. An error that is no picture's ends the run instead of being lost."""
        try:
            while unit := self._take():
                try:
                    self._make(unit)
                finally:
                    if unit[0].side_by_side == 1:
                        self.pool.large.release()
        except BaseException as error:
            self._stop(error)

    def _take(self) -> list[Work]:
        """The next unit, none at the end. One at a time waits for room for a large picture, and the others for it."""
        with self.taking:
            items = [] if self.stop.is_set() else next(self.units, [])
            if not items:
                return []
            size, steps = items[0].chain.source, items[0].chain.steps
            many = self.pool.side_by_side(*size, steps) if self.options.side_by_side else 1
            if many == 1:
                self.pool.large.acquire()
        return [Work(item, many) for item in items]

    def _make(self, unit: list[Work]) -> None:
        restored = self._at_once(unit) if len(unit) > 1 else []
        for number, work in enumerate(unit):
            self._write(work, iter([restored[number]]) if restored else self._restored(work))

    def _at_once(self, unit: list[Work]) -> list[Picture]:
        """The restored pictures of a batch; none where one of them fails: each on its own tells which."""
        began = time.monotonic()
        try:
            restored = self._compute([picture for work in unit for picture in self._read(work)], unit)
        except Exception:
            restored = []
        for work in unit:
            work.seconds += (time.monotonic() - began) / len(unit)
            if not restored:
                self._advance(work, -work.shown)
        return restored

    def _restored(self, work: Work) -> Iterator[Picture]:
        """The restored frames of an item, as they are taken; of an animation some at once."""
        item, frames = work.item, self._read(work)
        if item.frames == 1:
            yield self._compute(list(frames), [work])[0]
            return
        batches = self._batches(frames, item.chain.steps)
        with ThreadPoolExecutor(work.side_by_side) as pool:
            while some := list(islice(batches, work.side_by_side)):
                for restored in pool.map(partial(self._compute, unit=[work]), some):
                    yield from restored

    def _batches(self, frames: Iterator[Picture], steps: tuple[Step, ...]) -> Iterator[list[Picture]]:
        """The frames of a file as they are restored at once; those of a file of pages may differ in size."""
        for padded, alike in groupby(frames, lambda frame: self.pool.padded(frame.height, frame.width, steps)):
            size = self.pool.batch_size(*padded[0], steps) if padded else 1
            while batch := list(islice(alike, size)):
                yield batch

    def _read(self, work: Work) -> Iterator[Picture]:
        if self.stop.is_set():
            raise StoppedError
        for picture in files.read_item(work.item, self.options):
            work.notes += picture.notes
            yield picture

    def _compute(self, pictures: list[Picture], unit: list[Work]) -> list[Picture]:
        """The results for the pictures, each of one of the unit or all of the only one. Raises StoppedError."""
        chains, shown = [work.item.chain for work in unit], 0.0

        def progress(fraction: float) -> None:
            nonlocal shown
            if isinstance(self.cause, KeyboardInterrupt):
                raise StoppedError
            for work in unit:
                self._advance(work, work.item.chain.pixels * len(pictures) / len(unit) * (fraction - shown))
            shown = fraction

        came = time.monotonic()
        with self.pool.turn(unit[0].side_by_side) as restorer:
            waited = (time.monotonic() - came) / (unit[0].side_by_side if unit[0].item.frames > 1 else len(unit))
            with self.lock:  # frames of one animation wait side by side
                for work in unit:
                    work.seconds -= waited
            if self.stop.is_set():
                raise StoppedError
            self.report.present(unit[0].item.input.path)
            with self.report.computing():
                restored = restorer(pictures, progress, chains[0].steps)
        chains = chains if len(unit) > 1 else chains * len(restored)
        return [
            reduced(each, *chain.reduced(each.height, each.width)) for each, chain in zip(restored, chains, strict=True)
        ]

    def _advance(self, work: Work, pixels: float) -> None:
        with self.lock:
            work.shown += pixels
        self.report.advance(pixels)

    def _write(self, work: Work, pictures: Iterator[Picture]) -> None:
        """Write an item, taking its pictures one by one, and report what became of it."""
        began = time.monotonic()
        self.writing.add(work.item.target)
        try:
            work.notes += files.write_item(pictures, work.item, self.options)
        except Exception as error:
            self._fail(work, error)
        else:
            work.seconds += time.monotonic() - began
            self._conclude(work, "done")
        finally:
            self.writing.discard(work.item.target)

    def _fail(self, work: Work, error: Exception) -> None:
        """Report an item that failed, and stop the run where the others would fail alike."""
        target = work.item.target
        if isinstance(error, StoppedError):
            if not work.shown or work.item.frames == 1:
                return
            error = WriteError(f"{target}: stopped before its last frame")
        if files.is_there_already(error):
            return self._conclude(work, "skipped", EXISTS)
        if self.options.fail_fast:
            with self.lock:
                if self.stop.is_set():
                    return  # only the first is told
                self.stop.set()
        self._conclude(work, "failed", files.reason_of(error, work.item), foreseen=files.is_foreseen(error))
        if self.report.unforeseen >= UNFORESEEN:
            self._stop(error)
        elif target is not None and isinstance(error, (WriteError, OSError)) and files.is_full_disk(error):
            self._stop(WriteError(f"{target}: the disk is full; free some space and run again"))

    def _conclude(self, work: Work, status: Status, reason: str = "", *, foreseen: bool = True) -> None:
        """Report what became of an item, with every note on it once."""
        item, done = work.item, status == "done"
        for note in dict.fromkeys(work.notes):
            self.report.note(f"{item.input.path}: {note}")
        outcome = Outcome(
            status,
            item.input.path,
            item.target,
            reason,
            input_size=(item.info.height, item.info.width),
            output_size=item.chain.size if done else None,
            model=item.model or None,
            seconds=round(max(0.0, work.seconds), 3) if done else None,
            peak_bytes=self.pool.peak_bytes() if done else None,
            foreseen=foreseen,
        )
        self.report.add(outcome, item.pixels)
        self.report.concluded(item.work - work.shown)
