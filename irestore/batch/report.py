"""What became of every picture: one line each, progress over the pixels of all of them, one summary."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from irestore.batch.progress import Progress
from irestore.errors import RestoreError, duration, named

Status = Literal["planned", "done", "skipped", "failed"]
SHOWN = 20  # failures that are named again at the end


def size_record(size: tuple[int, int] | None) -> dict[str, int] | None:
    """A size as JSON has it."""
    return None if size is None else {"height": size[0], "width": size[1]}


@dataclass(frozen=True)
class Outcome:
    """What became of one picture. Sizes are (height, width); `peak_bytes` is the process's or the GPU's so far."""

    status: Status
    input: Path
    target: Path | None = None
    reason: str = ""
    input_size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    model: str | None = None
    seconds: float | None = None
    peak_bytes: int | None = None
    foreseen: bool = True  # what made it fail

    def record(self) -> dict[str, Any]:
        """The outcome as the JSON object of `--json`."""
        return {
            "status": self.status,
            "input": named(self.input),
            "output": None if self.target is None else named(self.target),
            "input_size": size_record(self.input_size),
            "output_size": size_record(self.output_size),
            "model": self.model,
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "reason": named(self.reason) if self.status == "skipped" else None,
            "error": named(self.reason) if self.status == "failed" else None,
        }


@dataclass
class Totals:
    """Counts over all pictures, and how long they took."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    pixels: int = 0
    busy_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """1 when a picture failed, else 0."""
        return 1 if self.failed else 0

    @property
    def busy(self) -> float:
        """The share of the wall time in which the network computed."""
        return self.busy_seconds / self.seconds if self.seconds else 0.0

    def check_complete(self, planned: int) -> None:
        """Check whether every picture of a plan has an outcome. Raises RestoreError."""
        if missing := planned - self.done - self.skipped - self.failed:
            raise RestoreError(f"{missing} of {planned} pictures have no outcome; please report this, and run again")


@dataclass
class Report:
    """Takes outcomes from any thread, in any order; people read stderr, programs read `records`."""

    total_pixels: int = 0
    pictures: int = 0
    verbosity: int = 0  # -1 only errors, 0 also notes and the summary, 1 every picture
    records: TextIO | None = None
    progress: bool = True
    totals: Totals = field(default_factory=Totals)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._computing = 0  # pictures, or batches of them, at this moment
        self._computing_since = 0.0
        self._started = time.monotonic()
        self._slowest: Outcome | None = None
        self.unforeseen = 0  # failures in a row that nobody foresaw
        self._failures: list[str] = []
        self._models: dict[str, None] = {}  # in the order of their first result
        self._folders: dict[Path, None] = {}
        self._last: Path | None = None  # result
        self._shown = Progress(self.total_pixels, self.pictures, shown=self.progress and self.verbosity >= 0)
        self.present, self.advance = self._shown.present, self._shown.advance
        self.tick, self.say = self._shown.tick, self._shown.say

    def add(self, outcome: Outcome, pixels: int = 0) -> None:
        """Count a picture, write its record, and say what people should know about it."""
        with self._lock:
            setattr(self.totals, outcome.status, getattr(self.totals, outcome.status) + 1)
            self.unforeseen = 0 if outcome.foreseen else self.unforeseen + 1
            if outcome.status == "done":
                self._made(outcome, pixels)
            if self.records is not None:
                self.records.write(json.dumps(outcome.record()) + "\n")
                self.records.flush()
            if outcome.status == "failed":
                self._failures.append(outcome.reason)
                self.say(f"irestore: {outcome.reason}")
            elif self.verbosity > 0:
                self.say(_told(outcome))

    def _made(self, outcome: Outcome, pixels: int) -> None:
        self.totals.pixels += pixels
        if self._slowest is None or (outcome.seconds or 0.0) > (self._slowest.seconds or 0.0):
            self._slowest = outcome
        self._models[outcome.model or "no network"] = None
        if outcome.target is not None:
            self._folders[outcome.target.parent] = None
            self._last = outcome.target

    def note(self, text: str) -> None:
        """Tell people something that is no error."""
        if self.verbosity >= 0:
            self.say(f"irestore: {text}")

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count the time inside as computing; time in which several pictures are computed counts once."""
        with self._lock:
            if not self._computing:
                self._computing_since = time.monotonic()
            self._computing += 1
        try:
            yield
        finally:
            with self._lock:
                self._computing -= 1
                if not self._computing:
                    self.totals.busy_seconds += time.monotonic() - self._computing_since

    def concluded(self, pixels: float) -> None:
        """Count a picture of the plan as finished, with the pixels of it that need no computing any more."""
        with self._lock:
            self._shown.concluded += 1
        self._shown.advance(pixels, computed=False)

    def started(self, hint: Callable[[float], str] | None = None) -> None:
        """Start the clock, after loading. `hint` says what would be faster, for a run that will take long."""
        self._started = time.monotonic()
        self._shown.hint = hint if self.verbosity >= 0 else None
        self._shown.start()

    def close(self) -> None:
        """Stop the clock and remove the bar."""
        self.totals.seconds = time.monotonic() - self._started
        self._shown.close()

    def summary(self) -> list[str]:
        """Lines for people: the failures again and the slowest picture, then counts, place of results and models."""
        totals, lines = self.totals, []
        several = totals.done + totals.skipped + totals.failed > 1
        if several and totals.done:
            lines += [f"failed: {reason}" for reason in self._failures[:SHOWN]]
            if len(self._failures) > SHOWN:
                lines.append(f"failed: {len(self._failures) - SHOWN} more")
        if totals.done > 2 and self._slowest is not None:
            lines.append(f"slowest: {self._slowest.input}, {duration(self._slowest.seconds or 0.0)}")
        last = f"{totals.done} done, {totals.skipped} skipped, {totals.failed} failed"
        if totals.done:
            last += f" in {duration(totals.seconds)}"
            if self.verbosity > 0:
                busy = f", computing {totals.busy:.0%} of the time" if totals.busy else ""
                last += f" ({totals.pixels / 1e6:.3g} megapixels read{busy})"
            last += f": {self._place()}made by {', '.join(self._models)}"
        return [*lines, last]

    def _place(self) -> str:
        if self.totals.done == 1 and self._last is not None:
            return f"{self._last}, "
        if not self._folders:
            return ""
        try:
            common = os.path.commonpath(self._folders)
        except ValueError:  # absolute and relative ones, or several drives
            return f"in {len(self._folders)} folders, "
        return f"{'in' if len(self._folders) == 1 else 'below'} {common or '.'}{os.sep}, "


class Collected(Report):
    """Keeps what is reported, for another process to report."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.outcomes, self.notes = list[tuple[Outcome, int]](), list[str]()

    def add(self, outcome: Outcome, pixels: int = 0) -> None:
        """Keep an outcome, with the pixels of its picture."""
        self.outcomes.append((outcome, pixels))

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)


def _told(outcome: Outcome) -> str:
    told = f"{outcome.input} -> {outcome.target}" if outcome.target else f"{outcome.input}"
    if outcome.status == "skipped":
        return f"{told}: skipped, {outcome.reason}"
    return f"{told} ({duration(outcome.seconds or 0.0)})"
