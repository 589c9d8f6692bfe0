"""The frame that HEART, HAT-iLN and DAT-iLN share: shallow convolution, groups of blocks, upsampling tail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from irestore.field import Field
from irestore.models.layers import Affine, Conv
from irestore.models.network import Network

POSITIVE = ("in_chans", "embed_dim", "num_feat", "unshuffle")


@dataclass(frozen=True)
class TrunkConfig:
    """What all three have in common. Names are upstream's; `upscale` 1, 2, 3, 4 or 8.

    `upsampler`: "pixelshuffle" (features, then stages of 2 or one of 3) or "pixelshuffledirect" (SwinIR's term: one
    convolution and one shuffle). `global_skip` adds the nearest-upsampled input to the output. `unshuffle` n computes
    the body at 1/n of the resolution, by PixelUnshuffle(n) in front and PixelShuffle(n) at the back (both ours).
    """

    upscale: int = 4
    in_chans: int = 3
    embed_dim: int = 180
    num_heads: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    num_feat: int = 64
    patch_norm: bool = True
    resi_connection: str = "1conv"
    upsampler: str = "pixelshuffle"
    global_skip: bool = False
    unshuffle: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for a value that no network can be built from."""
        choices: dict[str, tuple[object, ...]] = {
            "upscale": (1, 2, 3, 4, 8),
            "resi_connection": ("1conv", "3conv", "identity"),
            "upsampler": ("pixelshuffle", "pixelshuffledirect"),
        }
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} = {getattr(self, key)!r}: must be one of {', '.join(map(repr, allowed))}")
        at_least_one(self, POSITIVE)
        zoom = self.upscale * self.unshuffle
        if self.upsampler == "pixelshuffle" and zoom != 3 and zoom & (zoom - 1):
            raise ValueError(f"upscale * unshuffle = {zoom}: with pixelshuffle it must be 3 or a power of two")
        for heads in self.num_heads:
            if heads < 1 or self.embed_dim % heads:
                raise ValueError(f"embed_dim = {self.embed_dim} is not a multiple of num_heads = {heads}")


def at_least_one(config: object, keys: Sequence[str]) -> None:
    """Raises ValueError where one of these values is below 1."""
    for key in keys:
        if getattr(config, key) < 1:
            raise ValueError(f"{key} = {getattr(config, key)}: must be at least 1")


class Blocks(nn.Module):
    """The blocks of a group, in order; HAT's overlapping attention is the last and has a name of its own."""

    def __init__(self, blocks: Sequence[nn.Module], overlap_attn: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if overlap_attn is not None:
            self.overlap_attn = overlap_attn

    def __iter__(self) -> Iterator[Any]:
        """All blocks: each has `passes`, and maps a Field and what the run shares to a Field."""
        yield from self.blocks
        if hasattr(self, "overlap_attn"):
            yield self.overlap_attn


class Group(nn.Module):
    """Blocks one after another, then a convolution, and the group's input added."""

    def __init__(self, blocks: Blocks, conv: nn.Module) -> None:
        super().__init__()
        self.residual_group = blocks
        self.conv = conv

    @property
    def passes(self) -> int:
        """Walks over the whole map."""
        return 1 + sum(int(block.passes) for block in self.residual_group)

    def forward(self, x: Field, *shared: object) -> Field:
        """The map after this group. `shared` is what every block of the run is told."""
        y = x
        for block in self.residual_group:
            y = block(y, *shared)
        return y.map(lambda y, x: self.conv(y) + x, x, halo=reach(self.conv))


class Trunk(Network):
    """conv -> affine -> groups -> affine -> conv, + the first conv's output -> upsampling tail.

    Takes the Field of an image whose sides are multiples of `multiple` (pad first: the padding enters every statistic)
    and gives the Field of the result, `scale` times as large.
    """

    config: TrunkConfig

    def __init__(self, config: TrunkConfig, groups: Sequence[Group]) -> None:
        super().__init__()
        dim, n = config.embed_dim, config.unshuffle
        self.config = config
        self.conv_first = nn.Conv2d(config.in_chans * n * n, dim, 3, padding=1)
        self.patch_embed = nn.ModuleDict({"norm": Affine(dim)} if config.patch_norm else {})
        self.layers = nn.ModuleList(groups)
        self.norm = Affine(dim)
        self.conv_after_body = body_conv(config)
        zoom = config.upscale * n
        if config.upsampler == "pixelshuffle":
            self.conv_before_upsample = nn.Sequential(Conv(dim, config.num_feat, 3, padding=1), nn.LeakyReLU())
            self.upsample = shuffle_stages(config.num_feat, zoom)
            self.conv_last = Conv(config.num_feat, config.in_chans, 3, padding=1)
        else:
            out = config.in_chans * zoom * zoom
            self.upsample = nn.Sequential(Conv(dim, out, 3, padding=1), nn.PixelShuffle(zoom))

    @property
    def groups(self) -> list[Group]:
        """All groups, in order."""
        return [group for group in self.layers if isinstance(group, Group)]

    @property
    def passes(self) -> int:
        """How many times `forward` walks over the whole map, for progress."""
        return 2 + sum(group.passes for group in self.groups)

    @property
    def map_bytes(self) -> int:
        """Bytes of all maps alive at the peak, a pixel of the input: the group's and the block's input, the result."""
        return 3 * 4 * self.config.embed_dim // self.config.unshuffle**2 + 4

    def tail_bytes(self, height: int, width: int) -> int:
        """The last convolution's and its shuffle's."""
        config, n = self.config, self.config.unshuffle
        zoomed = config.num_feat if config.upsampler == "pixelshuffle" else config.in_chans
        pixel = 4 * (config.embed_dim + 3 * zoomed * (config.upscale * n) ** 2)
        halo = 2 * tail_halo(config) * n
        return (height + halo) * (width + halo) * pixel // n**2

    def last_layer(self) -> nn.Module:
        """The last convolution."""
        return self.conv_last if self.config.upsampler == "pixelshuffle" else self.upsample[0]

    def forward(self, image: Field) -> Field:
        """Field (B, in_chans, H, W) -> Field (B, in_chans, H * scale, W * scale)."""
        n = self.config.unshuffle
        x = image.map(self.head, halo=n, scale=Fraction(1, n))
        for group in self.groups:
            x = group(x, *self.shared)
        halo = tail_halo(self.config)
        return x.map(self.tail, image, halo=halo, scale=self.scale * n)

    @property
    def shared(self) -> tuple[object, ...]:
        """What every block is told."""
        return ()

    def shallow(self, image: Tensor) -> Tensor:
        """The first convolution's features. Cheap, so the tail computes them again instead of keeping a map."""
        features: Tensor = self.conv_first(F.pixel_unshuffle(self.normalised(image), self.config.unshuffle))
        return features

    def normalised(self, image: Tensor) -> Tensor:
        """The image as the network wants it."""
        return image

    def head(self, image: Tensor) -> Tensor:
        """What the first group receives."""
        x = self.shallow(image)
        return self.patch_embed["norm"](x) if self.config.patch_norm else x

    def tail(self, x: Tensor, image: Tensor) -> Tensor:
        """From the last group's output, and the image at the same place, to the result."""
        x = self.conv_after_body(self.norm(x)) + self.shallow(image)
        if self.config.upsampler == "pixelshuffle":
            x = self.conv_last(self.upsample(self.conv_before_upsample(x)))
        else:
            x = self.upsample(x)
        if self.config.global_skip:
            x = x + F.interpolate(self.normalised(image), scale_factor=self.scale, mode="nearest")
        return x


def body_conv(config: TrunkConfig) -> nn.Module:
    """The convolution that ends a group or the body, or three of which the inner ones are narrow, or none."""
    dim, narrow = config.embed_dim, config.embed_dim // 4
    if config.resi_connection == "3conv":
        first, last = Conv(dim, narrow, 3, padding=1), Conv(narrow, dim, 3, padding=1)
        return nn.Sequential(first, nn.LeakyReLU(0.2), Conv(narrow, narrow, 1), nn.LeakyReLU(0.2), last)
    return Conv(dim, dim, 3, padding=1) if config.resi_connection == "1conv" else nn.Identity()


def reach(layers: nn.Module) -> int:
    """How far convolutions, one after another, see beyond a pixel."""
    return sum(each.kernel_size[0] // 2 for each in layers.modules() if isinstance(each, nn.Conv2d))


def shuffle_factors(zoom: int) -> tuple[int, ...]:
    """The PixelShuffle factors of "pixelshuffle", one after another: 3 for 3, else 2 log2(zoom) times."""
    return (3,) if zoom == 3 else (2,) * (zoom.bit_length() - 1)


def shuffle_stages(dim: int, zoom: int) -> nn.Sequential:
    """A convolution and a PixelShuffle for each factor."""
    stages: list[nn.Module] = []
    for factor in shuffle_factors(zoom):
        stages += [Conv(dim, factor * factor * dim, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*stages)


def tail_halo(config: TrunkConfig) -> int:
    """How far the tail reaches, in pixels of its input, rounded up."""
    body, zoom = (2 if config.resi_connection == "3conv" else 1), 1  # conv_after_body, and conv_first beside it
    if config.upsampler == "pixelshuffledirect":
        return body + 1
    far = Fraction(body + 1)  # conv_before_upsample
    for factor in shuffle_factors(config.upscale * config.unshuffle):
        far += Fraction(1, zoom)
        zoom *= factor
    far += Fraction(1, zoom)  # conv_last
    return -int(-far // 1)
