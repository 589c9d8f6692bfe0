"""The devices of a run: each has networks of its own, and whichever is free computes the next picture."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from irestore.batch.inputs import Item
from irestore.batch.restorer import Restorer


class Pool:
    """Restorers of the same models, one per device, all devices of one kind, so that it does not matter which computes.

    Limits are those of the first.
    """

    def __init__(self, restorers: Sequence[Restorer]) -> None:
        first = restorers[0]
        self.device = first.device
        self.padded, self.batch_size, self.side_by_side = first.padded, first.batch_size, first.side_by_side
        self.workers = sum(each.workers for each in restorers)
        self.large = threading.Semaphore(sum(each.large_pictures for each in restorers))
        self._restorers = restorers
        self._free = [each.beside for each in restorers]  # permits to compute that each device has left
        self._door, self._freed = threading.Lock(), threading.Condition()

    @contextmanager
    def turn(self, side_by_side: int) -> Iterator[Restorer]:
        """Wait until this thread may compute, as one of so many at once on a device: that device's restorer."""
        permits = self._restorers[0].beside // side_by_side
        with self._door, self._freed:  # the door, so that none overtakes one that waits for all permits
            self._freed.wait_for(lambda: max(self._free) >= permits)
            number = self._free.index(max(self._free))
            self._free[number] -= permits
        try:
            self._restorers[number].share_threads(side_by_side)
            yield self._restorers[number]
        finally:
            with self._freed:
                self._free[number] += permits
                self._freed.notify()

    def peak_bytes(self) -> int:
        """The largest of `Restorer.peak_bytes`."""
        return max(each.peak_bytes() for each in self._restorers)


def batches(items: Sequence[Item], pool: Pool) -> list[list[Item]]:
    """The items that are computed at once: each alone, but for stills that networks compute in one size on a GPU."""
    done: list[list[Item]] = []
    growing: dict[tuple[object, ...], list[Item]] = {}
    batch_size = cache(pool.batch_size)
    for number, item in enumerate(items):
        steps, padded = item.chain.steps, pool.padded(*item.chain.source, item.chain.steps)
        alone = item.frames > 1 or not steps
        key = (number,) if alone else (steps, padded)
        batch = growing.setdefault(key, [])
        if not batch:
            done.append(batch)
        batch.append(item)
        if alone or len(batch) == batch_size(*padded[0], steps):
            del growing[key]
    return done
