"""Tensor to tensor: plans how to cut and where to keep maps, pads once, runs the network, and cuts the padding off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from irestore.devices import exact_convolutions, free_bytes, total_bytes
from irestore.errors import NonFiniteError, OutOfMemoryError, RestoreError, UsageError
from irestore.field import Field
from irestore.models.network import Network
from irestore.team import forward
from irestore.tiling import Tiling, is_out_of_memory, round_up

SHARE = 0.7  # of the memory is taken where --max-memory does not say
TILE_BYTES = 128 * 2**20  # what a tile may take on a CPU: measured, smaller ones cost more than the cache gains
STRIP = 256  # rows of the result that are checked and copied at once
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
    if model.device.type == "cpu":
        room = min(room, TILE_BYTES)
    if working_bytes(model, size, None) <= room:
        return None
    side = window
    while side + window < max(size) and working_bytes(model, size, (side + window, side + window)) <= room:
        side += window
    return side, side


def working_bytes(model: Network, size: tuple[int, int], tile: tuple[int, int] | None) -> int:
    """Bytes that computing takes at the peak, beside whole maps, in tiles or (None) of the whole image at once."""
    if tile is None:
        return max(model.body_bytes(*size), model.tail_bytes(*size))
    height, width = (min(side, whole) for side, whole in zip(tile, size, strict=True))
    tail = (round_up(-(-side // model.scale), model.window) for side in (height, width))  # as Tiling cuts it
    return max(model.body_bytes(height, width), model.tail_bytes(*tail))


def restore(
    model: Network,
    image: Tensor,
    settings: Settings | None = None,
    progress: Callable[[float], None] | None = None,
    *,
    shrunk: Callable[[int], None] | None = None,
    beside: Sequence[Network] = (),
) -> Tensor:
    """The restored image, the same for every tile size: (B, C, H, W) in 0..1 -> (B, C, H * scale, W * scale) in 0..1.

    Computed on the model's device, returned on the CPU, channels last in memory, in its type (float32 or float64).
    `progress` is told the share done, rising to 1, after each tile; `shrunk` the side of the tiles that fitted, where
    those planned did not; `beside`, copies of the model on other devices, compute some. Raises RestoreError where the
    image does not suit the model, OutOfMemoryError where not even one window fits, NonFiniteError for NaN or infinity.
    """
    settings = settings or Settings()
    if image.ndim != 4 or image.shape[1] != model.in_chans or 0 in image.shape:
        raise RestoreError(
            f"image of shape {tuple(image.shape)}: the model takes (batch, {model.in_chans}, height, width)"
        )
    if not is_finite(image):
        raise RestoreError("the image itself holds NaN or infinity")
    height, width = image.shape[2:]
    plan = cost(model, height, width, settings, len(image))
    check_budget(plan, settings)
    if settings.ensemble:
        return mean_over_turns(model, image, replace(settings, ensemble=False), progress, shrunk=shrunk, beside=beside)
    storage = plan.storage
    if storage == "device" and settings.max_memory is None and plan.bytes > SHARE * free_bytes(model.device):
        storage = "scratch" if model.device.type == "cpu" else "host"
    tiling = Tiling(
        plan.tile,
        multiple=model.window,
        device=model.device,
        storage=storage,
        precision=PRECISIONS.get(settings.precision),
        progress=progress and Progress(progress, model.passes),
    )
    try:
        with torch.no_grad(), exact_convolutions(model.device):
            padded = pad(image.to(model.dtype), model.multiple)
            planned = tiling.tile
            made = forward([model, *beside], padded, tiling) if beside else model(Field.of(padded, tiling))
            result = finished(made, height * model.scale, width * model.scale)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"a picture of {height}x{width} pixels does not fit into the memory of {model.device}: "
            "close other programs, or allow less with --max-memory, so that maps lie in a file"
        ) from error
    if shrunk is not None and tiling.tile is not None and tiling.tile != planned:
        shrunk(isqrt(tiling.tile[0] * tiling.tile[1]) // model.window * model.window or model.window)
    return result


def mean_over_turns(
    model: Network,
    image: Tensor,
    settings: Settings,
    progress: Callable[[float], None] | None = None,
    *,
    shrunk: Callable[[int], None] | None = None,
    beside: Sequence[Network] = (),
) -> Tensor:
    """As `restore`, the mean over the image's 8 turns and mirrors (Timofte et al., CVPR 2016, "self-ensemble")."""
    total: Tensor | None = None
    for i in range(8):

        def told(share: float, before: int = i) -> None:
            if progress is not None:
                progress((before + share) / 8)

        turned = torch.rot90(image, i % 4, (2, 3))
        part = restore(model, turned.flip(3) if i >= 4 else turned, settings, told, shrunk=shrunk, beside=beside)
        part = torch.rot90(part.flip(3) if i >= 4 else part, -(i % 4), (2, 3))
        total = part if total is None else total.add_(part)
    assert total is not None
    return total.div_(8)


class Progress:
    """Turns shares of one map, of `passes` maps, into the share of the whole run."""

    def __init__(self, told: Callable[[float], None], passes: int) -> None:
        self.told, self.passes, self.done = told, passes, 0.0

    def __call__(self, share: float) -> None:
        """A tile is done that was this share of its map."""
        self.done += share / self.passes
        self.told(min(self.done, 1.0))


def finished(field: Field, height: int, width: int) -> Tensor:
    """The field without its padding, clipped to 0..1, on the CPU; raises NonFiniteError. Strip by strip, so that no
    second copy is made and no more than a strip of a scratch file is resident."""
    whole = field.tensor
    out = torch.empty(field.batch, field.channels, height, width, dtype=whole.dtype)
    out = out.contiguous(memory_format=torch.channels_last)
    for top in range(0, height, STRIP):
        strip = whole[:, :, top : min(top + STRIP, height), :width].cpu()
        if not is_finite(strip):
            raise NonFiniteError(
                "the network gave NaN or infinity even in float32: are the weights intact? (irestore models verify)"
            )
        torch.clamp(strip, 0, 1, out=out[:, :, top : top + STRIP])
        field.release()
    return out


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinity; without a copy of them."""
    low, high = torch.aminmax(values)
    return bool(torch.isfinite(high - low))


def pad(image: Tensor, multiple: int) -> Tensor:
    """The image with right and bottom sides padded to multiples, by reflection, or by repetition where it is too small.

    As upstream (traiNNer-redux heart_arch.py, check_image_size); works down to 1x1.
    """
    height, width = image.shape[2:]
    below, right = -height % multiple, -width % multiple
    reflects = below < height and right < width
    return F.pad(image, (0, right, 0, below), mode="reflect" if reflects else "replicate")
