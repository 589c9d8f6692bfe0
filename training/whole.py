"""A Field without tiles, for training: whole tensors, which autograd and torch.compile can follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from irestore.statistics import Moments
from irestore.tiling import Padding, round_up


class WholeField:
    """A feature map (B, C, H, W); what `irestore.field.Field` computes by tiles, it computes at once.

    Statistics are taken in float32. Only what networks use of a Field is here; `tests` hold the two equal.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.batch, self.channels, self.height, self.width = tensor.shape

    def sibling(self, image: Tensor) -> WholeField:
        """The field of another image (B, C, H, W) of the same size."""
        return type(self)(image)

    def map(
        self,
        fn: Callable[..., Tensor],
        *others: WholeField,
        halo: int = 0,
        scale: object = 1,
        padding: Padding | None = None,
        into: WholeField | None = None,
    ) -> WholeField:
        """`fn(self, *others)`. A layer's own padding acts at the image's edge, so `halo` counts in `padding` only.

        Nothing is overwritten (`into`), for a gradient needs all maps.
        """
        maps = [field.tensor for field in (self, *others)]
        if padding is None:
            return type(self)(fn(*maps).to(self.tensor.dtype))
        before, height, width = padding.before + halo, self.height, self.width
        right, bottom = (
            round_up(side + padding.before, padding.multiple) - side - padding.before + halo for side in (width, height)
        )
        seen = [F.pad(each, (before, right, before, bottom), mode=padding.mode) for each in maps]
        inside = fn(*seen)[:, :, before : before + height, before : before + width]
        return type(self)(inside.to(self.tensor.dtype))

    def mean(self) -> Tensor:
        """The mean of each channel, (B, C, 1, 1)."""
        return self.tensor.mean((2, 3), keepdim=True)

    def moments(self, eps: float) -> Moments:
        """Mean and sqrt(variance + eps) over all pixels and channels of each image, (B, 1, 1, 1)."""
        variance, mean = torch.var_mean(self.tensor, (1, 2, 3), correction=0, keepdim=True)
        return Moments(mean, (variance + eps).sqrt())
