"""A Field without tiles, for training: whole tensors, which autograd and torch.compile can follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from irestore.statistics import Moments
from irestore.tiling import Box, Padding


class WholeField:
    """A feature map (B, C, H, W); what `irestore.field.Field` computes by tiles, it computes at once.

    Statistics are taken in float32. Only what networks use of a Field is here; `tests` hold the two equal.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.batch, self.channels, self.height, self.width = tensor.shape

    def map(
        self,
        fn: Callable[..., Tensor],
        *others: WholeField,
        halo: int = 0,
        scale: object = 1,
        padding: Padding | None = None,
        into: WholeField | None = None,
        placed: bool = False,
    ) -> WholeField:
        """`fn(self, *others)`. A layer's own padding acts at the image's edge, so `halo` counts in `padding` only.

        Nothing is overwritten (`into`), for a gradient needs all maps. `placed`: see `Field.map`.
        """
        maps, image = [field.tensor for field in (self, *others)], Box(0, 0, self.height, self.width)
        seen = padding.around(image).grow(halo) if padding else image
        if padding is not None:
            edges = (-seen.left, seen.right - image.right, -seen.top, seen.bottom - image.bottom)
            maps = [F.pad(each, edges, mode=padding.mode) for each in maps]
        result = (fn(*maps, box=seen) if placed else fn(*maps)).to(self.tensor.dtype)
        rows, columns = image.within(seen)
        return type(self)(result if padding is None else result[:, :, rows, columns])

    def mean(self) -> Tensor:
        """The mean of each channel, (B, C, 1, 1)."""
        return self.tensor.mean((2, 3), keepdim=True)

    def moments(self, eps: float) -> Moments:
        """Mean and sqrt(variance + eps) over all pixels and channels of each image, (B, 1, 1, 1)."""
        variance, mean = torch.var_mean(self.tensor, (1, 2, 3), correction=0, keepdim=True)
        return Moments(mean, (variance + eps).sqrt())

    def gram(self, fn: Callable[[Tensor], Tensor], heads: int) -> Tensor:
        """Products of the channels of `fn(self)`, those of each head, summed over the map: (B, heads, N, N)."""
        vectors = fn(self.tensor).to(self.tensor.dtype).reshape(self.batch, heads, -1, self.height * self.width)
        with torch.autocast(vectors.device.type, enabled=False):
            products: Tensor = vectors @ vectors.mT
        return products
