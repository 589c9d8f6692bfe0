"""Tensor to tensor: pads once, runs the network as planned, and cuts the padding off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isqrt, prod
from traceback import clear_frames

import torch
import torch.nn.functional as F
from torch import Tensor

from irestore.devices import exact_convolutions, free_bytes
from irestore.errors import NonFiniteError, OutOfMemoryError, RestoreError
from irestore.field import Field
from irestore.models.network import Network
from irestore.planning import PRECISIONS, SHARE, Settings, check_budget, cost, tail_tile
from irestore.team import forward
from irestore.tiling import Tiling, is_out_of_memory

STRIP = 256  # rows of the result that are checked and copied at once
PINNED_BYTES = 2**28  # of a result on the host that a GPU writes by itself; such memory is never given back


def restore(
    model: Network,
    image: Tensor,
    settings: Settings | None = None,
    progress: Callable[[float], None] | None = None,
    *,
    shrunk: Callable[[int], None] | None = None,
    beside: Sequence[Network] = (),
    halved: Sequence[Network] = (),
) -> Tensor:
    """The restored image, the same for every tile size: (B, C, H, W) in 0..1 -> (B, C, H * scale, W * scale) in 0..1.

    Computed on the model's device, returned on the CPU, channels last in memory, in its type (float32 or float64).
    `progress` is told the share done, rising to 1, after each tile; `shrunk` the side of the tiles that fitted, where
    those planned did not; `beside`, copies of the model on other devices, compute some; `halved`, all these as
    `Network.halved` makes them, are for callers with many images. Raises RestoreError where the image does not suit the
    model, OutOfMemoryError where not even one window fits, NonFiniteError for NaN or infinity.
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
    half, team = PRECISIONS.get(settings.precision), [model, *beside]
    quick = halved or [each.halved(half) for each in team] if half else team
    if settings.ensemble:

        def one(image: Tensor, progress: Callable[[float], None]) -> Tensor:
            single = replace(settings, ensemble=False)
            return restore(model, image, single, progress, shrunk=shrunk, beside=beside, halved=quick)

        return mean_over_turns(one, image, progress)
    storage = plan.storage
    if storage == "device" and settings.max_memory is None and plan.bytes > SHARE * free_bytes(model.device):
        storage = "scratch" if model.device.type == "cpu" else "host"
    tiling = Tiling(
        plan.tile,
        tail=plan.tile and tail_tile(model, plan.tile),
        multiple=model.window,
        device=model.device,
        storage=storage,
        progress=progress and PassCounter(progress, model.passes),
    )
    try:
        with torch.no_grad(), exact_convolutions(model.device):
            padded, planned = pad(image.to(model.dtype), model.multiple), tiling.tile

            def computed(networks: Sequence[Network]) -> Tensor:
                one = len(networks) == 1
                made = networks[0](Field.of(padded, tiling)) if one else forward(networks, padded, tiling)
                return finished(made, height * model.scale, width * model.scale)

            result = None
            try:
                result = computed(quick)
            except NonFiniteError:
                if not half:
                    raise
            if result is None:  # here, where the error no longer keeps the maps alive
                result = computed(team)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        clear_frames(error.__traceback__)  # which keep maps alive for a caller that tries again
        raise OutOfMemoryError(
            f"a picture of {height}x{width} pixels does not fit into the memory of {model.device}: "
            "close other programs, or allow less with --max-memory, so that maps lie in a file"
        ) from error
    if shrunk is not None and tiling.tile is not None and tiling.tile != planned:
        shrunk(isqrt(tiling.tile[0] * tiling.tile[1] * len(image)) // model.window * model.window or model.window)
    return result


def mean_over_turns(
    one: Callable[[Tensor, Callable[[float], None]], Tensor], image: Tensor, progress: Callable[[float], None] | None
) -> Tensor:
    """The mean of what `one` makes of the image's 8 turns and mirrors (Timofte et al., CVPR 2016, "self-ensemble")."""
    total: Tensor | None = None
    for i in range(8):

        def told(share: float, before: int = i) -> None:
            if progress is not None:
                progress((before + share) / 8)

        turned = torch.rot90(image, i % 4, (2, 3))
        part = one(turned.flip(3) if i >= 4 else turned, told)
        part = torch.rot90(part.flip(3) if i >= 4 else part, -(i % 4), (2, 3))
        total = part if total is None else total.add_(part)
    assert total is not None
    return total.div_(8)


class PassCounter:
    """Turns shares of one map, of `passes` maps, into the share of the whole run."""

    def __init__(self, told: Callable[[float], None], passes: int) -> None:
        self.told, self.passes, self.done = told, passes, 0.0

    def __call__(self, share: float) -> None:
        """A tile is done that was this share of its map."""
        self.done += share / self.passes
        self.told(min(self.done, 1.0))


def finished(field: Field, height: int, width: int) -> Tensor:
    """The field without its padding, clipped to 0..1, on the CPU; raises NonFiniteError. Strip by strip, so that no
    second copy is made and no more than a strip of a scratch file is resident; the CPU waits for a GPU at the end."""
    whole, spans = field.tensor, []
    shape = field.batch, height, width, field.channels
    pinned = whole.is_cuda and prod(shape) * whole.itemsize <= PINNED_BYTES
    out = torch.empty(shape, dtype=whole.dtype, pin_memory=pinned)
    out = out.permute(0, 3, 1, 2)  # channels last
    for top in range(0, height, STRIP):
        strip = whole[:, :, top : min(top + STRIP, height), :width]
        low, high = torch.aminmax(strip)
        spans.append(high - low)
        out[:, :, top : top + STRIP].copy_(strip.clamp(0, 1), non_blocking=pinned)
        field.release()
    if not torch.isfinite(torch.stack(spans)).all():
        raise NonFiniteError(
            "the network gave NaN or infinity even in float32: are the weights intact? (irestore models verify)"
        )
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
