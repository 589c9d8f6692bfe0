"""What a network's features are like after each of its blocks: of the whole picture, exactly, gathered by tiles.

arXiv 2504.06629 shows by magnitude and channel entropy that LayerNorm drives features apart and i-LN does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn

from irestore.field import Field
from irestore.models.layers import ILN
from irestore.plot import Panel


class Features(NamedTuple):
    """Of a map of features x with C channels, over all its pixels, padding too.

    `magnitude`: mean of |x|; `largest`: greatest |x|; `std`: deviation over pixels and channels, as i-LN takes it.
    `entropy`: of the shares x_c^2 / sum x^2 that the channels have at a pixel, in nats, the mean over the pixels: log C
    where all channels are as strong, 0 where one is alone.
    """

    channels: int
    magnitude: float
    largest: float
    std: float
    entropy: float

    @classmethod
    def of(cls, x: Field) -> Features:
        """Of the map of one picture, or of several: then the means, and the greatest of all."""
        each = x.map(of_pixels)
        magnitude, entropy, _ = each.mean().mean(0).flatten().tolist()
        largest = each.tensor[:, 2].amax().item()
        std = x.moments(0.0).std.mean().item()
        return cls(x.channels, magnitude, largest, std, entropy)


def of_pixels(t: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, 3, h, w): of the channels of each pixel mean |x|, entropy of the shares and greatest |x|."""
    magnitude, energy = t.abs(), t.square()
    share = energy / energy.sum(1, keepdim=True).clamp_min(torch.finfo(t.dtype).tiny)
    return torch.stack([magnitude.mean(1), torch.special.entr(share).sum(1), magnitude.amax(1)], 1)


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a network by name, in order: the modules that have an i-LN of their own."""
    named = model.named_modules()
    return {name: module for name, module in named if any(isinstance(child, ILN) for child in module.children())}


@contextmanager
def watched(model: nn.Module, see: Callable[[str, Field], None]) -> Iterator[None]:
    """Inside, `see` is told the name and the result of each block as soon as it is computed."""
    hooks = [
        block.register_forward_hook(lambda _block, _given, result, name=name: see(name, result))
        for name, block in blocks(model).items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def panels(seen: dict[str, Features]) -> list[Panel]:
    """What to draw of the features of blocks in order: magnitudes, and entropy beside the most that it can be."""
    numbered = list(enumerate(seen.values(), 1))
    kinds = {"largest": "largest", "standard deviation": "std", "mean": "magnitude"}
    sizes = {name: [(number, getattr(each, kind)) for number, each in numbered] for name, kind in kinds.items()}
    entropies = {
        "log of channels": [(number, log(each.channels)) for number, each in numbered],
        "entropy": [(number, each.entropy) for number, each in numbered],
    }
    return [
        Panel("magnitude of features", "block", sizes, log=True),
        Panel("channel entropy, nats", "block", entropies),
    ]
