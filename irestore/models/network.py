"""The contract between a network and those who run it: the runner, the Python interface, the batches and training."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from irestore.field import Field
from irestore.models.layers import Conv, Linear
from irestore.tasks import task_name


class Network(nn.Module, ABC):
    """A network that restores the Field of an image. Whatever runs networks knows these members and no others.

    What it computes must obey the law of `irestore.field`: values of the whole image come from the Field's statistics,
    and every map reaches no further than its halo. Sides of the input are multiples of `multiple` (the runner pads).
    """

    name = ""  # of the model whose weights it has, and its task; set when they are loaded
    task = ""

    def __repr__(self) -> str:
        """One line, in place of every layer."""
        millions = sum(each.numel() for each in self.parameters()) / 1e6
        does = task_name(self.task, self.scale) if self.task else f"x{self.scale}"
        return f"<{type(self).__name__} {self.name}: {does}, {millions:.1f} M parameters, {self.device}>"

    config: Any  # the frozen dataclass that it was built from

    @property
    def scale(self) -> int:
        """How many times larger the result is, 1 or more."""
        return int(self.config.upscale)

    @property
    @abstractmethod
    def window(self) -> int:
        """What the sides of tiles must be multiples of, in pixels of the input."""

    @property
    def multiple(self) -> int:
        """What the sides of the input must be multiples of."""
        return self.window

    @property
    def in_chans(self) -> int:
        """Channels of the input and of the result."""
        return int(self.config.in_chans)

    @property
    @abstractmethod
    def passes(self) -> int:
        """How many times `forward` walks over a whole map, for progress."""

    @property
    @abstractmethod
    def map_bytes(self) -> int:
        """Bytes, for each pixel of the input, of all float32 maps that are alive at the peak; the output aside."""

    @abstractmethod
    def body_bytes(self, height: int, width: int) -> int:
        """Bytes that a tile of that size (in pixels of the input) takes in any map but the last, about, in float32."""

    @abstractmethod
    def tail_bytes(self, height: int, width: int) -> int:
        """The same for the last map, the result."""

    @abstractmethod
    def forward(self, image: Field) -> Field:
        """The Field of an image (B, in_chans, H, W), values in 0..1 -> (B, in_chans, H * scale, W * scale)."""

    @abstractmethod
    def last_layer(self) -> nn.Module:
        """The layer whose output, with the input added where there is a global skip, is the result. For training."""

    def halved(self, dtype: torch.dtype) -> Network:
        """This network with the weights of its `Conv` and `Linear` layers, but the last, in that type.

        So these compute in it. All else is shared and stays in float32: the first and the last layer, gates, positions,
        normalisations, and so what they give and whatever that is added to: the maps between blocks.
        """
        known: dict[int, object] = {id(each): each for each in (*self.parameters(), *self.buffers())}
        for layer in self.modules():
            if isinstance(layer, (Conv, Linear)) and layer is not self.last_layer():
                for each in layer.parameters(recurse=False):
                    form = torch.channels_last if each.ndim == 4 else torch.preserve_format
                    known[id(each)] = nn.Parameter(each.detach().to(dtype, memory_format=form), requires_grad=False)
        return copy.deepcopy(self, known)

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and so where is computed."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, and so of the maps: float32, or float64 in tests."""
        return next(self.parameters()).dtype
