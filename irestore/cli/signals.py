"""Ctrl-C, SIGTERM and SIGHUP (the terminal was closed) as one exception with an exit code."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop; `exit_code` is the shell's for the signal: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


@contextmanager
def stop_signals() -> Iterator[None]:
    """Inside, every stop signal raises `Interrupted` in the main thread, a second one while the first is tidied up.

    A SIGHUP that is ignored, as `nohup` has it, stays so.
    """

    def on_signal(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    ignored = [number for number in STOP_SIGNALS[2:] if signal.getsignal(number) == signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS if number not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
