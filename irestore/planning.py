"""How a picture is to be computed, and what that takes: settings, tiles, where maps lie, and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from irestore.devices import free_bytes, total_bytes
from irestore.errors import OutOfMemoryError, UsageError
from irestore.models.network import Network
from irestore.tiling import round_up

SHARE = 0.7  # of the memory is taken where --max-memory does not say
TILE_BYTES = 256 * 2**20  # what a tile may take on a CPU: measured, smaller ones cost more than the cache gains
CUDA_TILE_BYTES = 24 * 2**30  # so no tensor has 2^31 elements, which not every kernel takes
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Settings:
    """How to compute; none of it changes the result beyond rounding (`precision` and `ensemble` aside).

    `tile`: side of a tile in pixels of the input, rounded up to whole windows; "auto" the fastest that fits, "off" the
    whole image at once. `precision`: "auto" is float32. `max_memory`: bytes that a run may take beyond the loaded
    model; by default tiles are chosen for 70 % of what the device has, since the result should not depend on what is
    free at the moment. Where maps do not fit into 70 % of that they go to host memory, then to a scratch file.
    `ensemble` takes the mean over the image's 8 turns and mirrors, which is a little better and takes 8 times as long.
    """

    tile: int | Literal["auto", "off"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    max_memory: int | None = None
    ensemble: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for an impossible value."""
        if self.tile not in ("auto", "off") and (not isinstance(self.tile, int) or self.tile < 1):
            raise UsageError(f"tile {self.tile!r}: must be auto, off or a number of pixels from 1")
        if self.precision != "auto" and self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r}: must be auto, {', '.join(PRECISIONS)}")
        if self.max_memory is not None and self.max_memory < 1:
            raise UsageError(f"max_memory {self.max_memory}: must be a positive number of bytes")


@dataclass(frozen=True)
class Cost:
    """What a run is planned to take: `bytes` at the peak beyond the loaded model (a scratch file not counted)."""

    bytes: int
    tile: tuple[int, int] | None
    storage: Literal["device", "host", "scratch"]


def cost(model: Network, height: int, width: int, settings: Settings, batch: int = 1) -> Cost:
    """Tile, storage and expected memory for pictures of that size on the model's device."""
    device = model.device
    height, width = round_up(height, model.window), round_up(width, model.window)
    room = budget(device, settings)
    pixels = batch * height * width
    maps = pixels * model.map_bytes
    ends = 4 * pixels * model.in_chans * (1 + 2 * model.scale**2)  # input, output and its copy: always on the host
    if settings.ensemble:
        ends += 4 * pixels * model.in_chans * (1 + model.scale**2)  # the turned input, the sum
    on_host = ends if device.type == "cpu" else 0
    tile = choose_tile(model, (height, width), settings, (room - on_host - maps) // batch)
    working = batch * working_bytes(model, (height, width), tile)
    if maps + working + on_host <= room:
        return Cost(maps + working + on_host, tile, "device")
    tile = choose_tile(model, (height, width), settings, (room - on_host) // batch)
    working = batch * working_bytes(model, (height, width), tile)
    if device.type != "cpu" and maps + ends <= SHARE * free_bytes(torch.device("cpu")):
        return Cost(working, tile, "host")
    return Cost(working + on_host, tile, "scratch")


def budget(device: torch.device, settings: Settings) -> int:
    """Bytes that a plan may take on the device beyond the loaded model, whatever is free at the moment."""
    return settings.max_memory or int(SHARE * total_bytes(device))


def check_budget(plan: Cost, settings: Settings) -> None:
    """Raises OutOfMemoryError where even the plan needs more than the memory that was allowed."""
    if settings.max_memory is None or plan.bytes <= settings.max_memory:
        return
    remedy = "allow as much" if settings.tile == "auto" else "allow as much, or take --tile auto"
    needed, allowed = (f"{size / 2**20:.0f} MiB" for size in (plan.bytes, settings.max_memory))
    raise OutOfMemoryError(f"about {needed} are needed, more than the {allowed} of --max-memory: {remedy}")


def choose_tile(model: Network, size: tuple[int, int], settings: Settings, room: int) -> tuple[int, int] | None:
    """Height and width of tiles, or None for the whole image: as asked, or the fastest that needs at most `room`."""
    window = model.window
    if settings.tile == "off":
        return None
    if settings.tile != "auto":
        side = round_up(settings.tile, window)
        return (side, side) if side < max(size) else None
    room = min(room, {"cpu": TILE_BYTES, "cuda": CUDA_TILE_BYTES}.get(model.device.type, room))
    if working_bytes(model, size, None) <= room:
        return None
    side = window
    while side < max(size) and working_bytes(model, size, (side + window, side + window)) <= room:
        side += window
    side = round_up(-(-max(size) // -(-max(size) // side)), window)  # as many tiles, all of about one size
    return side, side


def working_bytes(model: Network, size: tuple[int, int], tile: tuple[int, int] | None) -> int:
    """Bytes that computing takes at the peak, beside whole maps, in tiles or (None) of the whole image at once."""
    if tile is None:
        return max(model.body_bytes(*size), model.tail_bytes(*size))
    height, width = (min(side, whole) for side, whole in zip(tile, size, strict=True))
    return max(model.body_bytes(height, width), model.tail_bytes(*tail_tile(model, (height, width))))


def tail_tile(model: Network, tile: tuple[int, int]) -> tuple[int, int]:
    """Height and width of tiles of the last map: like the others, unless they would take more memory than those."""
    side, least = max(tile), round_up(-(-max(tile) // model.scale), model.window)
    most = model.body_bytes(*tile)
    while side > least and model.tail_bytes(min(tile[0], side), min(tile[1], side)) > most:
        side -= model.window
    return min(tile[0], side), min(tile[1], side)
