"""One image computed by several devices: each has a copy of the network, and computes some tiles of every map.

Each runs the whole of `Network.forward` in a thread of its own; a map, and statistics, are ready for all at once. Maps
lie on the first device, or wherever they do not need a device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from fractions import Fraction
from itertools import count
from traceback import clear_frames
from typing import Any, TypeVar

import torch
from torch import Tensor

from irestore.field import Field
from irestore.models.network import Network
from irestore.scratch import Store
from irestore.tiling import Box, Tiling, is_out_of_memory, round_up

T = TypeVar("T")
Share = tuple[Store | None, Any]  # a part of a map, and sums over it


def forward(networks: Sequence[Network], image: Tensor, tiling: Tiling) -> Field:
    """What each of these networks, copies on several devices, makes of an image (B, C, H, W): to rounding, the same.

    `tiling` is for the first of them, and used alone where a tile does not fit into the memory of a device.
    """
    dealt = copy(tiling)
    if dealt.tile is None:  # a strip for each
        dealt.tile = round_up(-(-image.shape[2] // len(networks)), tiling.multiple), image.shape[3]
    team = _Team(dealt, len(networks))

    def work(number: int) -> Field:
        try:
            with torch.no_grad():
                made: Field = networks[number](Field.of(image, _Member(team, number, networks[number].device)))
            return made
        except BaseException:
            team.ends.abort()  # else the others would wait for this one
            raise

    with ThreadPoolExecutor(len(networks)) as pool:
        calls = [pool.submit(work, number) for number in range(len(networks))]
    errors = [error for call in calls if (error := call.exception())]
    for error in errors:
        if is_out_of_memory(error):
            for each in errors:
                clear_frames(each.__traceback__)  # which keep the maps of all alive
            alone: Field = networks[0](Field.of(image, tiling))
            return alone
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return calls[0].result()


class _Team:
    """What the members share."""

    def __init__(self, tiling: Tiling, size: int) -> None:
        self.tiling, self.size, self.lock = tiling, size, threading.Lock()
        self.room: Store | None = None  # for the map that is being computed
        self.shares: list[Share] = [(None, None)] * size
        self.agreed: Share = None, None
        self.ends = threading.Barrier(size, self._agree)

    def told(self, share: float) -> None:
        """Count a tile."""
        with self.lock:
            if self.tiling.progress:
                self.tiling.progress(share)

    def _agree(self) -> None:
        """At the end of a map: where it lies, and the statistics of all tiles, merged in the order of the members."""
        store = next((store for store, _ in self.shares if store is not None), None)
        merged: Any = None
        for _, statistics in self.shares:
            if statistics is not None:
                merged = merged.merge(statistics) if merged else statistics
        self.agreed, self.room = (store, merged), None


class _Member(Tiling):
    """How one device takes part: of every map it has each so many-th tile."""

    def __init__(self, team: _Team, number: int, device: torch.device) -> None:
        like = team.tiling
        super().__init__(like.tile, multiple=like.multiple, device=device, storage=like.storage)
        self.progress = team.told
        self._team, self._number = team, number

    def over(
        self, canvas: Box, grid: int, resolution: Fraction, scale: Fraction | int, compute: Callable[[Box], T]
    ) -> Iterator[tuple[Box, T]]:
        """Its tiles of a canvas. None is cut smaller, so that all deal alike: too little memory is an error."""
        dealt = count()
        for box, number in super().over(canvas, grid, resolution, scale, lambda _: next(dealt)):
            if number % self._team.size == self._number:
                yield box, compute(box)

    def store(self, shape: tuple[int, ...], like: Tensor) -> Store:
        """Room for the map that all compute."""
        with self._team.lock:
            if self._team.room is None:
                self._team.room = self._team.tiling.store(shape, like)
            return self._team.room

    def agreed(self, store: Store | None, sums: Any) -> Share:
        """What all members together have made, as soon as they have."""
        self._team.shares[self._number] = store, sums
        self._team.ends.wait()
        return self._team.agreed
