"""What became of every picture: one line each, a bar over the pixels of all of them, one summary."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from tqdm import tqdm

from irestore.errors import RestoreError, one_line

Status = Literal["planned", "done", "skipped", "failed"]


def duration(seconds: float) -> str:
    """Seconds as people say them: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


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

    def record(self) -> dict[str, Any]:
        """The outcome as the JSON object of `--json`."""
        return {
            "status": self.status,
            "input": str(self.input),
            "output": None if self.target is None else str(self.target),
            "input_size": size_record(self.input_size),
            "output_size": size_record(self.output_size),
            "model": self.model,
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "reason": self.reason if self.status == "skipped" else None,
            "error": self.reason if self.status == "failed" else None,
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

    def summary(self) -> str:
        """One line for people."""
        line = f"{self.done} done, {self.skipped} skipped, {self.failed} failed"
        if not self.done:
            return line
        line += f" in {duration(self.seconds)}: {self.pixels / 1e6:.3g} megapixels read, "
        return line + f"computing {self.busy:.0%} of the time"


@dataclass
class Report:
    """Takes outcomes from any thread, in any order; people read stderr, programs read `records`."""

    total_pixels: int = 0
    verbosity: int = 0  # -1 only errors, 0 also notes and the summary, 1 every picture
    records: TextIO | None = None
    progress: bool = True
    totals: Totals = field(default_factory=Totals)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._shown_pixels = 0.0
        self._computing = 0  # pictures, or batches of them, at this moment
        self._computing_since = 0.0
        self._started = time.monotonic()
        self._bar = tqdm(
            total=round(self.total_pixels / 1e6, 3),
            unit="MP",
            bar_format="{desc}: {percentage:3.0f}% |{bar}| {n:.2f}/{total:.2f} MP [{elapsed}<{remaining}]",
            file=sys.stderr,
            disable=None if self.progress and self.verbosity >= 0 else True,
            dynamic_ncols=True,
        )

    def add(self, outcome: Outcome, pixels: int = 0) -> None:
        """Count a picture, write its record, and say what people should know about it."""
        with self._lock:
            setattr(self.totals, outcome.status, getattr(self.totals, outcome.status) + 1)
            if outcome.status == "done":
                self.totals.pixels += pixels
            if self.records is not None:
                self.records.write(json.dumps(outcome.record()) + "\n")
                self.records.flush()
            if outcome.status == "failed":
                self.say(f"irestore: {outcome.reason}")
            elif self.verbosity > 0:
                self.say(_told(outcome))

    def note(self, text: str) -> None:
        """Tell people something that is no error."""
        if self.verbosity >= 0:
            self.say(f"irestore: {text}")

    def say(self, text: str) -> None:
        """One line on stderr, above the bar."""
        with self._lock:
            tqdm.write(one_line(text), file=sys.stderr)

    def present(self, path: Path) -> None:
        """The bar names this picture."""
        name = one_line(path.name)
        with self._lock:
            self._bar.set_description(name if len(name) <= 30 else f"{name[:14]}…{name[-15:]}", refresh=False)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside, the network computes; time in which it does so for several pictures at once counts once."""
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

    def advance(self, pixels: float) -> None:
        """So many pixels of input are done with (finished, skipped or failed)."""
        with self._lock:
            self._shown_pixels += pixels
            self._bar.update(self._shown_pixels / 1e6 - self._bar.n)

    def started(self) -> None:
        """Loading is over: the wall time counts from here."""
        self._started = time.monotonic()

    def close(self) -> None:
        """The wall time ends here and the bar is taken off the screen."""
        self.totals.seconds = time.monotonic() - self._started
        self._bar.close()


def _told(outcome: Outcome) -> str:
    told = f"{outcome.input} -> {outcome.target}" if outcome.target else f"{outcome.input}"
    if outcome.status == "skipped":
        return f"{told}: skipped, {outcome.reason}"
    return f"{told} ({duration(outcome.seconds or 0.0)})"
