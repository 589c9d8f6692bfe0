"""How far a run is, on stderr: on a terminal a line that is drawn again and again, elsewhere one every half minute."""

import math
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from tqdm import tqdm

from irestore.errors import duration, one_line

DRAW_SECONDS = 0.1
LINE_SECONDS = 30.0
WINDOW_SECONDS = 120.0  # over which speed is averaged, so that the time left does not jump
TRUST_SECONDS = 10.0  # after which the time left is believed
LONG_SECONDS = 120.0  # a run that takes longer is told at its start what would be faster


def attend(
    work: Callable[[], None], many: int, tick: Callable[[], None], stop: Callable[[BaseException], None]
) -> None:
    """Have so many threads do it, and wait for them, with a `tick` now and then; `stop` is told of each Ctrl-C."""
    ended = threading.Event()

    def whole() -> None:
        work()
        ended.set()

    workers = [threading.Thread(target=whole, name="worker", daemon=True) for _ in range(many)]
    waiting = list(workers)  # to be started
    while True:
        try:
            while waiting:
                waiting.pop().start()
            while any(worker.is_alive() for worker in workers):  # a `join` cut short by Ctrl-C takes it for dead
                ended.wait(DRAW_SECONDS)
                ended.clear()
                tick()
            return
        except KeyboardInterrupt as interrupt:
            stop(interrupt)


class Progress:
    """Counts pixels that any thread has done; `tick`, called again and again, shows their share of all."""

    def __init__(
        self, total_pixels: int, pictures: int, *, shown: bool, hint: Callable[[float], str] | None = None
    ) -> None:
        self.pixels, self.total_pixels = 0.0, total_pixels
        self.concluded, self.pictures = 0, pictures
        self.hint = hint  # what to say of a run that will take so many seconds
        self._name = ""
        self._lock = threading.RLock()
        self._computed = self._seconds = 0.0  # pixels, and the time they took, of the last WINDOW_SECONDS
        self._fresh = 0.0  # pixels that were computed since the last tick
        self._began = self._ticked = self._told = monotonic()
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._lines = shown and not terminal
        self._bar = tqdm(
            total=1,
            bar_format="{desc} {percentage:3.0f}% |{bar}|{postfix}",
            file=sys.stderr,
            disable=not (shown and terminal),
            dynamic_ncols=True,
            delay=DRAW_SECONDS,  # not before there is something to tell
        )

    def present(self, path: Path) -> None:
        """Show the name of this picture from now on."""
        name = one_line(path.name)
        self._name = name if len(name) <= 30 else f"{name[:14]}…{name[-15:]}"

    def advance(self, pixels: float, *, computed: bool = True) -> None:
        """Count pixels as done; not `computed` are those of a picture that failed, which say nothing about speed."""
        with self._lock:
            self.pixels += pixels
            self._fresh += pixels if computed else 0.0

    @property
    def seconds_left(self) -> float:
        """Estimate it from the speed of the last minutes; infinite where no speed is known."""
        left = max(self.total_pixels - self.pixels, 0.0)
        return left * self._seconds / self._computed if self._computed > 0 else math.inf

    def start(self) -> None:
        """Start the clock: the time for loading does not count."""
        self._began = self._ticked = self._told = monotonic()

    def tick(self) -> None:
        """Draw the bar, or print a line, where it is time to."""
        with self._lock:
            now = monotonic()
            passed = now - self._ticked
            if passed < DRAW_SECONDS:
                return
            kept = math.exp(-passed / WINDOW_SECONDS)
            self._computed, self._seconds = self._computed * kept + self._fresh, self._seconds * kept + passed
            self._fresh, self._ticked = 0.0, now
            known = now - self._began >= TRUST_SECONDS and self._computed > 0
            if self.hint is not None and known and now - self._began + self.seconds_left > LONG_SECONDS:
                self.say(f"irestore: {self.hint(now - self._began + self.seconds_left)}")
                self.hint = None
            place = f"{min(self.concluded + 1, self.pictures)}/{self.pictures} {self._name}"
            share = min(max(self.pixels / self.total_pixels, 0.0), 1.0) if self.total_pixels else 1.0
            speed = f"{self._computed / self._seconds / 1e6:.2g} MP/s" if self._computed > 0 else "..."
            left = f"{speed}, {duration(self.seconds_left)} left" if known else speed
            if self._lines and now - self._told >= LINE_SECONDS:
                self.say(f"irestore: {place} {share:.0%}, {left}")
                self._told = now
            if not self._bar.disable:
                self._bar.n = share
                self._bar.set_description_str(place, refresh=False)
                self._bar.set_postfix_str(left)

    def say(self, text: str) -> None:
        """Print one line on stderr, above the bar."""
        with self._lock:
            tqdm.write(one_line(text), file=sys.stderr)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self._bar.leave = False
        self._bar.close()
