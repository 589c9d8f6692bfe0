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

    A signal that is ignored stays so: SIGHUP under `nohup`, SIGINT in what a script started in the background.
    """

    def on_signal(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    heard = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
