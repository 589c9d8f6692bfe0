"""A plan carried out: reading, computing and writing at the same time, in bounded memory, every picture on its own.

    reader thread --decoded--> calling thread (and its lanes) --restored--> writer threads

On a CPU small pictures are computed side by side, on lanes: a thread each does more than all threads on one. Which
they are depends on their size, not on what happens to run beside them, since the number of threads that compute a
picture can move its last bit. Results are handed on in the order in which they were decoded.

A picture that fails is reported by name and the rest goes on. A stop (`KeyboardInterrupt`, `fail_fast`, a full disk)
ends reading and computing; what is computed already is still written. Frames of an animation go through one by one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
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
    lanes: bool = True  # whether pictures are computed side by side where the network can
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
class Done:
    """A restored frame; `seconds` of computing went into it."""

    picture: images.Picture
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


class Stage(threading.Thread):
    """A thread of a run; a second Ctrl-C does not wait for it.

    `ended` is there to be waited for: a `join` that was interrupted takes the thread for dead.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.work = work
        self.ended = threading.Event()

    def run(self) -> None:
        """Called in the thread."""
        try:
            self.work()
        finally:
            self.ended.set()


class _Run:
    def __init__(self, restorer: Restores, report: Report, options: RunOptions) -> None:
        self.restorer = restorer
        self.report = report
        self.options = options
        self.decoded: Pipe[Frame] = Pipe(options.waiting_bytes)
        self.restored: Pipe[Result] = Pipe(options.waiting_bytes)
        self.lanes = ThreadPoolExecutor(restorer.lanes, "lane", restorer.enter_lane)
        self.pending: deque[tuple[Frame, Future[Done]]] = deque()  # computed, or on the lanes; not yet handed on
        self.stopped = False  # nothing more is begun
        self.halted = False  # lanes give up what they have begun
        self.open: Result | None = None  # an animation of which frames are still to come
        self.given_up: Item | None = None  # of which more frames may come, in vain
        self.writing: set[Path | None] = set()
        self.broken: BaseException | None = None  # what ends the run and nobody foresaw, or a full disk

    def run(self, items: Iterable[Item]) -> None:
        stages = [Stage("reader", partial(self._reader, items))]
        stages += [Stage(f"writer {number}", self._writer) for number in range(self.options.writers)]
        for stage in stages:
            stage.start()
        stop: BaseException | None = None
        try:
            self._compute()
        except BaseException as error:
            stop = error
        while stages:
            try:
                self._wind_up(stages)
            except KeyboardInterrupt as error:
                if isinstance(stop, KeyboardInterrupt):
                    self._abandon()
                    raise
                stop = error
        if stop is not None:
            raise stop
        if self.broken is not None:
            raise self.broken

    def _wind_up(self, stages: list[Stage]) -> None:
        """Hand on what is through, drop the rest, and end all stages. Goes on where an interrupt cut it off."""
        self.stopped = self.halted = True
        self.decoded.close()
        self.lanes.shutdown(cancel_futures=True)
        self._settle()
        if self.open is not None:
            self._drop(self.open.item)
        self.restored.finish()
        while stages:
            stages[-1].ended.wait()
            stages.pop().join()

    def _stop(self, error: BaseException | None) -> None:
        self.stopped = True
        self.broken = self.broken or error
        self.decoded.close()

    def _abandon(self) -> None:
        """Leave the writers to their fate, and nothing of their unfinished files."""
        self.restored.close()
        for target in list(self.writing):
            discard_unfinished(target)

    def _reader(self, items: Iterable[Item]) -> None:
        """Reads; what it does not foresee ends the run instead of being lost."""
        try:
            self._read(items)
        except ClosedError:
            pass  # the run is being stopped
        except BaseException as error:
            self._stop(error)

    def _writer(self) -> None:
        """Writes; what it does not foresee ends the run, and nobody waits for it in vain."""
        try:
            self._write()
        except BaseException as error:
            self._stop(error)
            self.restored.close()
            if (left := self.open) is not None:
                left.frames.close()

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
        """Every decoded frame becomes pending: failed already, on a lane, or computed here and now."""
        most = PENDING_A_LANE * self.restorer.lanes
        for frame in self.decoded:
            if frame.item is self.given_up and not isinstance(frame.content, IrestoreError):
                self.report.advance(frame.item.info.pixels)
            elif isinstance(frame.content, IrestoreError):
                self.pending.append((frame, _failed(frame.content)))
                self._settle(most)
            elif self.options.lanes and self.restorer.beside(frame.content.height, frame.content.width):
                self._settle(most - 1)
                self.pending.append((frame, self.lanes.submit(self._on_lane, frame)))
            else:
                self._settle()
                more = self.restorer.together(frame.content.height, frame.content.width) - 1
                self._compute_here([frame, *self.decoded.take_more(more, partial(self._is, self._kind(frame)))])
                self._settle()
        self._settle()

    def _is(self, kind: tuple[int, int] | None, frame: Frame) -> bool:
        return self._kind(frame) == kind

    def _kind(self, frame: Frame) -> tuple[int, int] | None:
        """Equal for frames that can be restored at once."""
        if isinstance(frame.content, IrestoreError) or frame.item is self.given_up:
            return None
        return self.restorer.padded(frame.content.height, frame.content.width)

    def _on_lane(self, frame: Frame) -> Done:
        if self.stopped:
            raise ClosedError
        return self._restored([frame])[0]

    def _compute_here(self, group: list[Frame]) -> None:
        """Compute frames together in this thread; if that fails, each on its own: one of them may be to blame."""
        if self.stopped:
            self.pending += [(frame, _failed(ClosedError())) for frame in group]
            return
        try:
            results = self._restored(group)
        except (RestoreError, MemoryError) as error:
            if len(group) == 1:
                self.pending.append((group[0], _failed(error)))
            else:
                for frame in group:
                    self._compute_here([frame])
        except Exception as error:
            self.pending += [(frame, _failed(error)) for frame in group]
        else:
            for frame, done in zip(group, results, strict=True):
                future: Future[Done] = Future()
                future.set_result(done)
                self.pending.append((frame, future))

    def _settle(self, left: int = 0) -> None:
        """Hand on the oldest of what is pending: all that is ready, and waiting for it until so many are left."""
        while self.pending and (len(self.pending) > left or self.pending[0][1].done()):
            self._conclude(*self.pending[0])  # an interrupt leaves it pending
            self.pending.popleft()

    def _conclude(self, frame: Frame, pending: Future[Done]) -> None:
        """Hand on a restored frame, or report why there is none."""
        try:
            done = pending.result()
        except (ClosedError, CancelledError):
            self._drop(frame.item)
        except (IrestoreError, MemoryError) as error:
            if error is frame.content:  # no more frames will come
                self.report.advance(frame.item.info.pixels * (frame.item.frames - frame.number))
            self._fail(frame.item, error if isinstance(error, IrestoreError) else RestoreError("out of memory"))
        except Exception as error:
            self._drop(frame.item)
            self._stop(error)
        else:
            self._deliver(frame, done)

    def _restored(self, group: list[Frame]) -> list[Done]:
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
        seconds = (time.monotonic() - started) / len(group)
        return [Done(picture, seconds) for picture in restored]

    def _deliver(self, frame: Frame, done: Done) -> None:
        """Hand a restored frame on; the result of an animation goes to a writer with its first frame, to be filled."""
        item, picture = frame.item, done.picture
        if item is self.given_up:
            return
        size = size_bytes(picture)
        result = self.open
        if result is None or result.item is not item:
            result = Result(item, Pipe(self.options.waiting_bytes), size=(picture.height, picture.width))
        result.seconds += frame.seconds + done.seconds
        try:
            if item.frames == 1:
                result.frames.put(picture, size)
                result.frames.finish()
                self.restored.put(result, size)
                return
            if frame.number == 0:
                self.open = result
                self.restored.put(result, 0)
            result.frames.put(picture, size)
            if frame.number == item.frames - 1:
                result.frames.finish()
                self.open = None
        except ClosedError:  # its writer failed, and has told it
            self.open, self.given_up = None, item

    def _fail(self, item: Item, error: IrestoreError) -> None:
        """Report an item as failed, once: now, or by its writer if that has begun."""
        if item is self.given_up:
            return
        self.given_up = item
        if self.open is not None:
            self.open.frames.finish(error)
            self.open = None
        else:
            self._failed(item, error)

    def _drop(self, item: Item) -> None:
        """Leave an item that the run was stopped over; an animation that is being written fails."""
        self.given_up = item
        if self.open is not None:
            self.open.frames.finish(WriteError(f"{item.target}: stopped before its last frame"))
            self.open = None

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
            except BaseException:
                result.frames.close()
                raise
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


def _failed(error: Exception) -> Future[Done]:
    future: Future[Done] = Future()
    future.set_exception(error)
    return future
