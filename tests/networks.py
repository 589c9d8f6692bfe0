"""Small networks with weights that hide nothing, and images to try them on."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from irestore import models
from irestore.field import Field
from irestore.models.network import Network
from irestore.runner import pad
from irestore.tiling import Tiling

HEART: dict[str, Any] = {
    "embed_dim": 12,
    "depths": [3, 1],
    "num_heads": [2, 3],
    "window_size": 4,
    "compress_ratio": 3,
    "squeeze_factor": 4,
    "conv_scale": 0.3,
    "num_feat": 4,
    "rank": 3,
    "rib_hidden_dim": 5,
    "rib_n_freqs": 3,
    "attention_freq": 1,
    "upscale": 2,
}
HAT: dict[str, Any] = {
    "embed_dim": 12,
    "depths": [2, 2],
    "num_heads": [2, 3],
    "window_size": 4,
    "compress_ratio": 3,
    "squeeze_factor": 4,
    "conv_scale": 0.3,
    "mlp_ratio": 2,
    "num_feat": 4,
    "upscale": 2,
}
UNET: dict[str, Any] = {
    "dims": [6, 8],
    "depths": [1, 2],
    "num_heads": 2,
    "window_size": 4,
    "compress_ratio": 2,
    "squeeze_factor": 2,
    "rank": 3,
    "rib_hidden_dim": 5,
    "rib_n_freqs": 3,
    "attention_freq": 1,
    "upscale": 2,
}
DAT: dict[str, Any] = {
    "embed_dim": 96,
    "depth": [3, 2],
    "num_heads": [4, 2],
    "split_size": [2, 4],
    "expansion_factor": 0.5,
    "num_feat": 4,
    "upscale": 2,
}
BASES = {"heart": HEART, "hat-iln": HAT, "unet": UNET, "dat-iln": DAT}


def network(
    architecture: str = "heart", *, seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any
) -> Network:
    """A small network in which every tensor matters, whose gates and biases are far from their initial values."""
    model = models.build(architecture, {**BASES[architecture], **config}).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(
            ("norm1.weight", "norm2.weight", "norm.weight", "pos1.0.weight", "pos2.0.weight", "pos3.0.weight")
        ):
            parameter.data = 1 + 0.3 * noise
        elif name.endswith("attention.1.bias"):
            parameter.data = 0.5 + noise.abs()  # no gate that its ReLU keeps shut
        elif parameter.ndim == 1:
            parameter.data = 0.3 * noise
        elif name.endswith(("bias_table", "to_hidden", "to_q", "to_k")):
            parameter.data = 0.6 * noise
        else:
            parameter.data = 0.7 * noise / parameter[0].numel() ** 0.5
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):  # of batch normalisation
            noise = torch.randn(buffer.shape, generator=generator)
            buffer.copy_(0.3 * noise if name.endswith("mean") else (0.3 * noise).exp())
    return model.to(dtype)


def pictures(height: int, width: int, *, channels: int = 3, batch: int = 1) -> Iterator[tuple[str, Tensor]]:
    """In float64: noise, flat grey (where people see seams), a strong gradient (where wrong statistics show)."""
    shape = (batch, channels, height, width)
    yield "noise", torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    yield "grey", torch.full(shape, 0.5, dtype=torch.float64)
    ramp = torch.linspace(0, 1, height, dtype=torch.float64)[:, None] * torch.linspace(1, 0, width, dtype=torch.float64)
    levels = torch.linspace(1, 0.3, batch * channels, dtype=torch.float64).view(batch, channels, 1, 1)
    yield "gradient", ramp * levels


def run(model: Network, image: Tensor, tile: tuple[int, int] | None = None, **options: Any) -> Tensor:
    """The network's result, not clipped, computed in tiles of that size (None: whole)."""
    height, width = image.shape[2:]
    tiling = Tiling(tile, multiple=model.window, **options)
    with torch.inference_mode():
        result = model(Field.of(pad(image, model.multiple), tiling)).tensor
    return result[:, :, : height * model.scale, : width * model.scale]


def tiles(window: int) -> dict[str, tuple[int, int]]:
    """One window, two windows, and tiles of unequal sides that do not divide the image evenly."""
    return {"one": (window, window), "two": (2 * window, 2 * window), "uneven": (window, 3 * window)}


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict as the official i-LN code spells it."""
    norms = ("norm", "norm1", "norm2")
    spelt = {}
    for key, value in state.items():
        parent, _, end = key.rpartition(".")
        is_norm = parent.rpartition(".")[2] in norms
        spelt[f"{parent}.{ {'weight': 'gamma', 'bias': 'beta'}[end] }" if is_norm else key] = value
    return spelt


def spelt(dialect: str | None, state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict as those spell it who published the network."""
    if dialect == "official":
        return official(state)
    if dialect is None:
        return dict(state)
    names = ((".residual_group", ""), ("patch_embed", "before_RG"))
    state = {functools.reduce(lambda key, pair: key.replace(*pair), names, key): state[key] for key in state}
    a, b = config["split_size"]
    for key in [key for key in state if key.endswith("pos.pos_proj.weight")]:
        stem = key.removesuffix("pos.pos_proj.weight")
        state[f"{stem}rpe_biases"] = torch.empty((2 * a - 1) * (2 * b - 1), 2)
        state[f"{stem}relative_position_index"] = torch.zeros(a * b, a * b, dtype=torch.int64)
        state[f"{stem}attn_mask_0".replace("attns.0.", "").replace("attns.1.", "")] = torch.empty(16, a * b, a * b)
    for key in [key for key in state if key.endswith("running_var")]:
        state[key.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return state
