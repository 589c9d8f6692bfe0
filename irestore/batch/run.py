"""A plan carried out: reading, computing and writing at the same time, in bounded memory, every picture on its own.

    reader thread --decoded--> calling thread (and its lanes) --restored--> writer threads

On a CPU small pictures are computed side by side, on lanes: a thread each does more than all threads on one. Results
are the same bit for bit, and are handed on in the order in which they were decoded.

A picture that fails is reported by name and the rest goes on. A stop (`KeyboardInterrupt`, `fail_fast`, a full disk)
ends reading and computing; what is computed already is still written. Frames of an animation go through one by one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from irestore import images
from irestore.batch.files import discard_unfinished, is_full_disk, read, size_bytes, write
from irestore.batch.plan import Item
from irestore.batch.queues import ClosedError, Pipe
from irestore.batch.report import Outcome, Report
from irestore.batch.restorer import PENDING_A_LANE, Restores
from irestore.errors import IrestoreError, RestoreError, WriteError


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How pictures are read and written, and how much may wait between the stages."""

    load: images.LoadOptions = field(default_factory=images.LoadOptions)
    save: images.SaveOptions = field(default_factory=images.SaveOptions)
    keep_alpha: bool = True
    fail_fast: bool = False
    writers: int = 1
    waiting_bytes: int = 2**21  # decoded, and as much again restored


@dataclass(frozen=True)
class Frame:
    """One decoded frame of an item, or the error that it ended in; `seconds` went into decoding it."""

    item: Item
    number: int
    content: images.Picture | IrestoreError
    seconds: float


@dataclass(frozen=True)
class Computed:
    """The restored pictures of some frames, in order; `seconds` of computing went into each."""

    pictures: list[images.Picture]
    seconds: float


@dataclass
class Result:
    """The restored frames of one item on their way to its file; `seconds` went into it so far, in all stages."""

    item: Item
    frames: Pipe[images.Picture]
    seconds: float = 0.0
    size: tuple[int, int] = (0, 0)  # height, width


def run(items: Iterable[Item], restorer: Restores, report: Report, options: RunOptions) -> None:
    """Every item restored and written, or reported as failed.

    Raises WriteError when a disk is full, and KeyboardInterrupt as it came; both after what was computed is written.
    """
    _Run(restorer, report, options).run(items)


class _Run:
    def __init__(self, restorer: Restores, report: Report, options: RunOptions) -> None:
        self.restorer = restorer
        self.report = report
        self.options = options
        self.decoded: Pipe[Frame] = Pipe(options.waiting_bytes)
        self.restored: Pipe[Result] = Pipe(options.waiting_bytes)
        self.lanes = ThreadPoolExecutor(restorer.lanes, "lane", restorer.enter_lane)
        self.pending: deque[tuple[Frame, Future[Computed]]] = deque()  # on the lanes, or through and not yet delivered
        self.stopped = False  # nothing more is begun
        self.halted = False  # lanes give up what they compute
        self.open: Result | None = None  # of which frames are still to come
        self.given_up: Item | None = None  # of which more frames may come, in vain
        self.writing: set[Path | None] = set()
        self.broken: BaseException | None = None  # what ends the run, met in a thread

    def run(self, items: Iterable[Item]) -> None:
        threads = [threading.Thread(target=self._guarded, args=(lambda: self._read(items),), name="reader")]
        for number in range(self.options.writers):
            threads.append(threading.Thread(target=self._guarded, args=(self._write,), name=f"writer {number}"))
        for thread in threads:
            thread.daemon = True  # a second Ctrl-C does not wait for them
            thread.start()
        try:
            self._compute()
        finally:
            try:
                self._wind_up(threads)
            except KeyboardInterrupt:
                self._abandon()
                raise
        if self.broken is not None:
            raise self.broken

    def _wind_up(self, threads: list[threading.Thread]) -> None:
        """End all stages. After an exception, pictures that are through on the lanes are still written."""
        self.halted = True
        self.decoded.close()
        if self.open is not None:
            self.open.frames.finish(WriteError(f"{self.open.item.target}: stopped before its last frame"))
            self.open = None
        self.lanes.shutdown(cancel_futures=True)
        for frame, computed in self.pending:
            if frame.item.frames == 1 and not computed.cancelled() and computed.exception() is None:
                self._conclude([frame], computed.result)
        self.restored.finish()
        for thread in threads:
            thread.join()

    def _guarded(self, stage: Callable[[], None]) -> None:
        """Run a stage in its thread; what it does not foresee ends the run instead of being lost."""
        try:
            stage()
        except ClosedError:
            pass  # the run is being stopped
        except BaseException as error:
            self._stop(error)
            self.restored.close()

    def _stop(self, error: BaseException | None) -> None:
        self.stopped = True
        self.broken = self.broken or error
        self.decoded.close()

    def _abandon(self) -> None:
        """Leave the writers to their fate, and nothing of their unfinished files."""
        self.restored.close()
        for target in list(self.writing):
            discard_unfinished(target)

    def _read(self, items: Iterable[Item]) -> None:
        for item in items:
            number = 0
            started = time.monotonic()
            try:
                for picture in read(item, self.options.load, self.options.save, keep_alpha=self.options.keep_alpha):
                    frame = Frame(item, number, picture, time.monotonic() - started)
                    self.decoded.put(frame, size_bytes(picture))
                    number += 1
                    started = time.monotonic()
            except IrestoreError as error:
                self.decoded.put(Frame(item, number, error, 0.0), 0)
        self.decoded.finish()

    def _compute(self) -> None:
        for frame in self.decoded:
            if self._beside(frame):
                while len(self.pending) >= PENDING_A_LANE * self.restorer.lanes:
                    self._settle()
                self.pending.append((frame, self.lanes.submit(self._restored, [frame])))
            else:
                while self.pending:
                    self._settle()
                self._alone(frame)
        while self.pending:
            self._settle()

    def _beside(self, frame: Frame) -> bool:
        """Whether to compute it on a lane: it is small, and there are others to share the machine with."""
        if isinstance(frame.content, IrestoreError) or frame.item is self.given_up:
            return False
        if not (self.pending or self.decoded.holds_some()):
            return False
        return self.restorer.beside(frame.content.height, frame.content.width)

    def _settle(self) -> None:
        """Deliver the oldest of what is on the lanes; drop it instead if the run is stopped and it was not begun."""
        frame, computed = self.pending.popleft()
        if not (self.stopped and computed.cancel()):
            self._conclude([frame], computed.result)

    def _alone(self, frame: Frame) -> None:
        """Compute a frame in this thread, with others like it where the network takes several at once."""
        if frame.item is self.given_up:
            self.report.advance(frame.item.info.pixels)
        elif isinstance(frame.content, IrestoreError):
            self._fail(frame.item, frame.content)
            self.report.advance(frame.item.info.pixels * (frame.item.frames - frame.number))
        else:
            more = self.restorer.together(frame.content.height, frame.content.width) - 1
            group = [frame, *self.decoded.take_more(more, partial(self._is, self._kind(frame)))]
            self._conclude(group, partial(self._restored, group))

    def _is(self, kind: tuple[int, int] | None, frame: Frame) -> bool:
        return self._kind(frame) == kind

    def _kind(self, frame: Frame) -> tuple[int, int] | None:
        """Equal for frames that can be restored at once."""
        if isinstance(frame.content, IrestoreError) or frame.item is self.given_up:
            return None
        return self.restorer.padded(frame.content.height, frame.content.width)

    def _conclude(self, group: list[Frame], compute: Callable[[], Computed]) -> None:
        """Deliver what `compute` gives, or report its error. It may wait for a lane."""
        try:
            computed = compute()
        except (RestoreError, MemoryError) as error:
            if len(group) > 1:  # one of them may be to blame: each on its own
                for frame in group:
                    self._conclude([frame], partial(self._restored, [frame]))
            elif group[0].item is not self.given_up:
                self._fail(group[0].item, error if isinstance(error, RestoreError) else RestoreError("out of memory"))
            return
        for frame, picture in zip(group, computed.pictures, strict=True):
            self._deliver(frame, picture, frame.seconds + computed.seconds)

    def _restored(self, group: list[Frame]) -> Computed:
        """Called in a lane or in the run's own thread. The bar moves on in the end even where it fails for good."""
        pixels = sum(frame.item.info.pixels for frame in group)
        shown = 0.0

        def progress(fraction: float) -> None:
            nonlocal shown
            if self.halted:
                raise ClosedError
            self.report.advance(pixels * (fraction - shown))
            shown = fraction

        self.report.present(group[0].item.source.path)
        pictures = [frame.content for frame in group if isinstance(frame.content, images.Picture)]
        started = time.monotonic()
        with self.report.computing():
            try:
                restored = self.restorer(pictures, progress)
            except (RestoreError, MemoryError):
                progress(0.0 if len(group) > 1 else 1.0)
                raise
        progress(1.0)
        return Computed(restored, (time.monotonic() - started) / len(group))

    def _deliver(self, frame: Frame, picture: images.Picture, seconds: float) -> None:
        """Hand a restored frame on; the result of an animation goes to a writer with its first frame, to be filled."""
        if frame.item is self.given_up:
            return
        result = self.open
        if result is None:
            result = Result(frame.item, Pipe(self.options.waiting_bytes), size=(picture.height, picture.width))
        result.seconds += seconds
        try:
            if frame.number == 0:
                self.open = result
                if frame.item.frames > 1:
                    self.restored.put(result, 0)
            result.frames.put(picture, size_bytes(picture))
            if frame.number == frame.item.frames - 1:
                result.frames.finish()
                self.open = None
                if frame.item.frames == 1:
                    self.restored.put(result, size_bytes(picture))
        except ClosedError:  # its writer failed, and has told it
            self.open, self.given_up = None, frame.item

    def _fail(self, item: Item, error: IrestoreError) -> None:
        """Report an item as failed: at once, or by its writer if that has begun."""
        if self.open is not None:
            self.open.frames.finish(error)
            self.open = None
        else:
            self._failed(item, error)
        self.given_up = item

    def _write(self) -> None:
        for result in self.restored:
            started = time.monotonic()
            item = result.item
            self.writing.add(item.target)
            try:
                notes = write(result.frames, item, self.options.save)
            except (IrestoreError, OSError, MemoryError) as error:
                result.frames.close()
                self._failed(item, error)
                if is_full_disk(error):
                    self._stop(WriteError(f"{item.target}: the disk is full; free some space and run again"))
                continue
            finally:
                self.writing.discard(item.target)
            for note in notes:
                self.report.note(f"{item.source.path}: {note}")
            self.report.add(self._outcome(result, time.monotonic() - started), item.pixels)

    def _outcome(self, result: Result, seconds: float) -> Outcome:
        info = result.item.info
        return Outcome(
            "done",
            result.item.source.path,
            result.item.target,
            input_size=(info.height, info.width),
            output_size=result.size,
            model=self.restorer.name,
            seconds=round(result.seconds + seconds, 3),
            peak_bytes=self.restorer.peak_bytes(),
        )

    def _failed(self, item: Item, error: BaseException) -> None:
        path, reason, info = str(item.source.path), str(error) or type(error).__name__, item.info
        self.report.add(
            Outcome(
                "failed",
                item.source.path,
                item.target,
                reason=reason if path in reason else f"{path}: {reason}",
                input_size=(info.height, info.width),
                model=self.restorer.name,
            )
        )
        if self.options.fail_fast:
            self._stop(None)
