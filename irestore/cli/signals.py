"""Ctrl-C and SIGTERM as one exception with an exit code."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop; `exit_code` is the shell's for the signal: 130 Ctrl-C, 143 SIGTERM."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


@contextmanager
def stop_signals() -> Iterator[None]:
    """Inside, every stop signal raises `Interrupted` in the main thread, a second one while the first is tidied up."""

    def on_signal(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
