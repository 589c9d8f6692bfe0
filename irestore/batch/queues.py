"""A queue between two threads that holds a bounded number of bytes, not of things."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ClosedError(Exception):
    """The queue was closed while a thread waited to put something into it."""


class Pipe(Generic[T]):
    """First in, first out; holds at most `limit_bytes`, or one thing if that alone is larger."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._held: deque[tuple[T, int]] = deque()
        self._held_bytes = 0
        self._finished = False
        self._error: Exception | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, thing: T, size_bytes: int) -> None:
        """Wait until there is room, then append. Raises ClosedError when nobody will take it any more."""
        with self._changed:
            while self._held and self._held_bytes + size_bytes > self.limit_bytes and not self._closed:
                self._changed.wait()
            if self._closed:
                raise ClosedError
            self._held.append((thing, size_bytes))
            self._held_bytes += size_bytes
            self._changed.notify_all()

    def take(self) -> T | None:
        """Wait for the next thing; None says that the queue is finished and empty, or closed."""
        with self._changed:
            while not self._held and not self._finished and not self._closed:
                self._changed.wait()
            if not self._held and self._error is not None:
                raise self._error
            return self._pop() if self._held else None

    def take_more(self, at_most: int, alike: Callable[[T], bool]) -> list[T]:
        """The next things that are held now and all alike, without waiting."""
        with self._changed:
            taken: list[T] = []
            while self._held and len(taken) < at_most and alike(self._held[0][0]):
                taken.append(self._pop())
            return taken

    def finish(self, error: Exception | None = None) -> None:
        """Nothing more will be put; what is held can still be taken, and then the error is raised if there is one."""
        with self._changed:
            self._finished = True
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        """Drop what is held and wake everyone: nothing goes in or out any more."""
        with self._changed:
            self._closed = True
            self._held.clear()
            self._held_bytes = 0
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Take one by one until the queue is finished and empty, or closed."""
        while (thing := self.take()) is not None:
            yield thing

    def _pop(self) -> T:
        thing, size_bytes = self._held.popleft()
        self._held_bytes -= size_bytes
        self._changed.notify_all()
        return thing
