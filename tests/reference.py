"""The networks once more, plainly: whole images, in float64, equation by equation. Slow on purpose.

It shares no code with the package, so that both must be wrong in the same way to agree. i-LN and HAT-iLN: arXiv
2504.06629, HAT: arXiv 2205.04437, DAT: arXiv 2308.03364, RIB: arXiv 2603.06738. All maps are (B, C, H, W), all windows
(B, C, pixels of a window, windows).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

DEFAULTS: dict[str, Any] = {
    "in_chans": 3,
    "conv_scale": 0.01,
    "patch_norm": True,
    "resi_connection": "1conv",
    "upsampler": "pixelshuffle",
    "global_skip": False,
    "unshuffle": 1,
    "rank": 8,
    "rib_n_freqs": 10,
    "attention_freq": 2,
    "img_size": 64,
    "overlap_ratio": 0.5,
    "qk_scale": None,
    "img_range": 1.0,
    "stdnorm": None,
    "eps": 1e-4,
    "window_size": 1,
}


def restore(architecture: str, weights: Mapping[str, Tensor], config: Mapping[str, Any], image: Tensor) -> Tensor:
    """What the network makes of an image (B, C, H, W) of any size, in float64, not clipped.

    weights: upstream's state dict in either dialect; config: upstream's, where `stdnorm` None means traiNNer-redux.
    """
    if architecture == "unet":
        return unet(Reference(None, weights, {"conv_scale": 1.0, **config}), image)
    if architecture == "dat-iln":  # the map is padded inside; upstream's names of these tensors, or ours
        names = ((".residual_group", ""), ("before_RG", "patch_embed"), ("conv_first.1.", "conv_first."))
        weights = {functools.reduce(lambda key, pair: key.replace(*pair), names, key): weights[key] for key in weights}
    bodies = {"heart": heart_body, "hat-iln": hat_body, "dat-iln": dat_body}
    return Reference(bodies[architecture], weights, config)(image)


class Reference:
    def __init__(self, body: Any, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        self.body = body
        self.config = {**DEFAULTS, **config}
        self.weights = {key: value.double() if value.is_floating_point() else value for key, value in weights.items()}

    def __call__(self, image: Tensor) -> Tensor:
        config, (height, width) = self.config, image.shape[2:]
        n, zoom = config["unshuffle"], config["upscale"]
        image = self.normalised(padded(image.double(), config["window_size"] * n))
        first = self.conv(F.pixel_unshuffle(image, n), "conv_first")
        x = self.affine(first, "patch_embed.norm") if config["patch_norm"] else first
        x = self.residual_conv(self.affine(self.body(self, x), "norm"), "conv_after_body") + first
        if config["upsampler"] == "pixelshuffle":
            x = F.leaky_relu(self.conv(x, "conv_before_upsample.0"), 0.01)
            for i, factor in enumerate({1: [], 2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[zoom * n]):
                x = F.pixel_shuffle(self.conv(x, f"upsample.{2 * i}"), factor)
            x = self.conv(x, "conv_last")
        else:
            x = F.pixel_shuffle(self.conv(x, "upsample.0"), zoom * n)
        if config["global_skip"]:
            x = x + image.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
        return self.denormalised(x)[:, :, : height * zoom, : width * zoom]

    def statistics(self) -> tuple[Tensor, Tensor]:
        rgb, whiten = self.config["in_chans"] == 3, self.config["stdnorm"]
        mean = torch.tensor([0.4488, 0.4371, 0.4040] if rgb else [0.0], dtype=torch.float64)
        std = torch.tensor(([0.2842, 0.2701, 0.2920] if rgb else [0.2842]) if whiten else [1.0], dtype=torch.float64)
        mean, std = (value.to(self.weights["conv_first.bias"]) for value in (mean, std))
        return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    def normalised(self, image: Tensor) -> Tensor:
        if self.config["stdnorm"] is None:
            return image
        mean, std = self.statistics()
        return (image - mean) * self.config["img_range"] / std

    def denormalised(self, x: Tensor) -> Tensor:
        if self.config["stdnorm"] is None:
            return x
        mean, std = self.statistics()
        return x * std / self.config["img_range"] + mean

    def conv(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(x, weight, self.weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def residual_conv(self, x: Tensor, name: str) -> Tensor:
        if self.config["resi_connection"] == "3conv":
            for i in (0, 2):
                x = F.leaky_relu(self.conv(x, f"{name}.{i}"), 0.2)
            return self.conv(x, f"{name}.4")
        return self.conv(x, name) if self.config["resi_connection"] == "1conv" else x

    def linear(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"].flatten(1), self.weights.get(f"{name}.bias")
        y = torch.einsum("oc,bchw->bohw", weight, x)
        return y if bias is None else y + bias[:, None, None]

    def affine(self, x: Tensor, name: str) -> Tensor:
        scale, shift = ("gamma", "beta") if f"{name}.gamma" in self.weights else ("weight", "bias")
        return x * self.weights[f"{name}.{scale}"][:, None, None] + self.weights[f"{name}.{shift}"][:, None, None]

    def iln(self, x: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """The normalised map, and the deviation that the residual branch is multiplied by."""
        mean = x.mean((1, 2, 3), keepdim=True)
        std = torch.sqrt(((x - mean) ** 2).mean((1, 2, 3), keepdim=True) + self.config["eps"])
        return self.affine((x - mean) / std, name), std

    def convolutions(self, x: Tensor, name: str) -> Tensor:
        """CAB: convolutions, and a gate of each channel from its mean over the whole image."""
        c = self.conv(F.gelu(self.conv(x, f"{name}.cab.0")), f"{name}.cab.2")
        mean = c.mean((2, 3), keepdim=True)
        squeezed = F.relu(self.conv(mean, f"{name}.cab.3.attention.1"))
        return c * torch.sigmoid(self.conv(squeezed, f"{name}.cab.3.attention.3"))

    def mlp_step(self, x: Tensor, name: str) -> Tensor:
        y, std = self.iln(x, f"{name}.norm2")
        return x + std * self.linear(F.gelu(self.linear(y, f"{name}.mlp.fc1")), f"{name}.mlp.fc2")

    def hybrid_block(self, x: Tensor, name: str, attention: Any) -> Tensor:
        y, std = self.iln(x, f"{name}.norm1")
        x = x + std * (attention(y) + self.config["conv_scale"] * self.convolutions(y, f"{name}.conv_block"))
        return self.mlp_step(x, name)

    def bias(self, name: str, index: str) -> Tensor:
        return self.weights[f"{name}.relative_position_bias_table"][self.weights[index]].permute(2, 0, 1)


def padded(image: Tensor, multiple: int) -> Tensor:
    """Right and bottom, by reflection; by repetition of the edge where the image is too small for that."""
    height, width = image.shape[2:]
    below, right = -height % multiple, -width % multiple
    can_reflect = (below == 0 or below < height) and (right == 0 or right < width)
    return F.pad(image, (0, right, 0, below), mode="reflect" if can_reflect else "replicate")


def windows(x: Tensor, side: int) -> Tensor:
    return F.unfold(x, side, stride=side).unflatten(1, (x.shape[1], side * side))


def whole(parts: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    return F.fold(parts.flatten(1, 2), size, side, stride=side)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """softmax(scale q k + bias + mask) v of each window; bias (heads, queries, keys), mask (windows, queries, keys)."""
    heads = bias.shape[0]
    q, k, v = (t.unflatten(1, (heads, -1)) for t in (q, k, v))
    out = []
    for i in range(q.shape[-1]):
        logits = scale * torch.einsum("bhcq,bhck->bhqk", q[..., i], k[..., i]) + bias
        if mask is not None:
            logits = logits + mask[i]
        share = torch.exp(logits - logits.amax(-1, keepdim=True))
        share = share / share.sum(-1, keepdim=True)
        out.append(torch.einsum("bhqk,bhck->bhcq", share, v[..., i]).flatten(1, 2))
    return torch.stack(out, -1)


def heart_body(net: Reference, x: Tensor) -> Tensor:
    config = net.config
    for g, depth in enumerate(config["depths"]):
        start, attentions = x, 0
        for i in range(depth):
            name = f"layers.{g}.residual_group.blocks.{i}"
            if i % config["attention_freq"] == 0:
                shifted = attentions % 2 == 1
                attentions += 1
                x = net.hybrid_block(x, name, lambda y, name=name, s=shifted: rib_attention(net, y, f"{name}.attn", s))
            else:
                x = net.hybrid_block(x, name, torch.zeros_like)
        x = net.residual_conv(x, f"layers.{g}.conv") + start
    return x


def unet(net: Reference, image: Tensor) -> Tensor:
    config, (height, width) = net.config, image.shape[2:]
    n, zoom, below = config["unshuffle"], config["upscale"], len(config["dims"]) - 1
    image = padded(image.double(), config["window_size"] * n * 2**below)

    def blocks(x: Tensor, name: str, depth: int, attends: bool) -> Tensor:
        attentions = 0
        for i in range(depth):
            attend = torch.zeros_like
            if attends and i % config["attention_freq"] == 0:
                block, shifted = f"{name}.{i}.attn", attentions % 2 == 1
                attend = partial(rib_attention, net, name=block, shifted=shifted)
                attentions += 1
            x = net.hybrid_block(x, f"{name}.{i}", attend)
        return x

    first = x = net.conv(F.pixel_unshuffle(image, n), "conv_first")
    skips = []
    for level in range(below):
        x = blocks(x, f"encoder.{level}", config["depths"][level], attends=False)
        skips.append(x)
        x = F.conv2d(x, net.weights[f"down.{level}.weight"], net.weights[f"down.{level}.bias"], stride=2)
    x = blocks(x, "bottom", config["depths"][below], attends=True)
    for level in reversed(range(below)):
        x = skips[level] + F.pixel_shuffle(net.conv(x, f"up.{level}.0"), 2)
        x = blocks(x, f"decoder.{level}", config["depths"][level], attends=False)
    x = net.conv(net.conv(x, "conv_after_body") + first, "conv_last")
    x = F.pixel_shuffle(x, zoom * n) + image.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    return x[:, :, : height * zoom, : width * zoom]


def rib_attention(net: Reference, y: Tensor, name: str, shifted: bool) -> Tensor:
    side, (height, width) = net.config["window_size"], y.shape[2:]
    border = side // 2 if shifted else 0
    y = F.pad(y, (border, border, border, border), mode="reflect")
    q, k, v = windows(net.linear(y, f"{name}.to_qkv"), side).chunk(3, 1)
    out = whole(attend(q, k, v, rib_bias(net, name), (q.shape[1] // heads_of(net, name)) ** -0.5), side, y.shape[2:])
    return net.linear(out[:, :, border : border + height, border : border + width], f"{name}.to_out")


def heads_of(net: Reference, name: str) -> int:
    return net.weights[f"{name}.to_q"].shape[0]


def rib_bias(net: Reference, name: str) -> Tensor:
    """(heads, window^2, window^2). The coordinates are upstream's buffer, hence of float32."""
    side, w = net.config["window_size"], net.weights
    axis = 2.0 * (torch.arange(side, dtype=torch.float32) + 0.5) / side - 1.0
    x, y = axis.repeat(side), axis.repeat_interleave(side)
    features = [x, y]
    for i in range(net.config["rib_n_freqs"]):
        features += [torch.sin(x * 2**i), torch.sin(y * 2**i), torch.cos(x * 2**i), torch.cos(y * 2**i)]
    hidden = F.relu(torch.stack(features, -1).double() @ w[f"{name}.to_hidden"] + w[f"{name}.hidden_b"])
    q_pos, k_pos = (torch.einsum("nd,hdr->hnr", hidden, w[f"{name}.{key}"]) for key in ("to_q", "to_k"))
    return torch.einsum("hnr,hmr->hnm", q_pos, k_pos) * net.config["rank"] ** -0.5


def hat_body(net: Reference, x: Tensor) -> Tensor:
    config = net.config
    side = config["window_size"]
    for g, (depth, heads) in enumerate(zip(config["depths"], config["num_heads"], strict=True)):
        start, group = x, f"layers.{g}.residual_group"
        for i in range(depth):
            shift = side // 2 if i % 2 == 1 and config["img_size"] > side else 0
            name = f"{group}.blocks.{i}"
            x = net.hybrid_block(
                x, name, lambda y, name=name, h=heads, s=shift: window_attention(net, y, f"{name}.attn", h, s)
            )
        x = overlapping_block(net, x, f"{group}.overlap_attn", heads)
        x = net.residual_conv(x, f"layers.{g}.conv") + start
    return x


def window_attention(net: Reference, y: Tensor, name: str, heads: int, shift: int) -> Tensor:
    side, size = net.config["window_size"], y.shape[2:]
    y = torch.roll(y, (-shift, -shift), (2, 3))
    q, k, v = windows(net.linear(y, f"{name}.qkv"), side).chunk(3, 1)
    scale = net.config["qk_scale"] or (q.shape[1] // heads) ** -0.5
    mask = shift_mask(size, side, shift) if shift else None
    out = whole(attend(q, k, v, net.bias(name, "relative_position_index_SA"), scale, mask), side, size)
    return net.linear(torch.roll(out, (shift, shift), (2, 3)), f"{name}.proj")


def shift_mask(size: tuple[int, int], side: int, shift: int) -> Tensor:
    """-100 between pixels that the roll has brought together from opposite edges, (windows, pixels, pixels)."""
    region = torch.zeros(1, 1, *size, dtype=torch.float64)
    for axis, weight in ((2, 3.0), (3, 1.0)):
        start, stop = size[axis - 2] - side, size[axis - 2] - shift
        region.narrow(axis, start, side - shift).add_(weight)
        region.narrow(axis, stop, shift).add_(2 * weight)
    of_pixel = windows(region, side)[0, 0].T
    return torch.where(of_pixel[:, :, None] == of_pixel[:, None, :], 0.0, -100.0).double()


def overlapping_block(net: Reference, x: Tensor, name: str, heads: int) -> Tensor:
    """Queries of a window, keys and values of a larger one around it; outside the image they are zero, not masked."""
    config, size = net.config, x.shape[2:]
    side = config["window_size"]
    outer = side + int(side * config["overlap_ratio"])
    y, std = net.iln(x, f"{name}.norm1")
    q, k, v = net.linear(y, f"{name}.qkv").chunk(3, 1)
    k, v = (F.unfold(t, outer, stride=side, padding=(outer - side) // 2) for t in (k, v))
    k, v = (t.unflatten(1, (-1, outer * outer)) for t in (k, v))
    scale = config["qk_scale"] or (q.shape[1] // heads) ** -0.5
    out = attend(windows(q, side), k, v, net.bias(name, "relative_position_index_OCA"), scale)
    x = x + std * net.linear(whole(out, side, size), f"{name}.proj")
    return net.mlp_step(x, name)


def dat_body(net: Reference, x: Tensor) -> Tensor:
    config = net.config
    for g, (depth, heads) in enumerate(zip(config["depth"], config["num_heads"], strict=True)):
        start = x
        for i in range(depth):
            name = f"layers.{g}.blocks.{i}"
            y, std = net.iln(x, f"{name}.norm1")
            shifted = i % 4 == 2 if g % 2 == 0 else i % 4 == 0
            x = x + std * (
                dat_spatial(net, y, name, heads, shifted) if i % 2 == 0 else dat_channel(net, y, name, heads)
            )
            y, std = net.iln(x, f"{name}.norm2")
            x = x + std * dat_feed_forward(net, y, f"{name}.ffn")
        x = net.residual_conv(x, f"layers.{g}.conv") + start
    return x


def depthwise(net: Reference, x: Tensor, name: str) -> Tensor:
    return F.conv2d(x, net.weights[f"{name}.weight"], net.weights[f"{name}.bias"], padding=1, groups=x.shape[1])


def batch_norm(net: Reference, x: Tensor, name: str) -> Tensor:
    mean, variance = (net.weights[f"{name}.running_{each}"][:, None, None] for each in ("mean", "var"))
    return net.affine((x - mean) / torch.sqrt(variance + 1e-5), name)


def layer_norm(net: Reference, x: Tensor, name: str) -> Tensor:
    """Over the channels of each pixel, (B, C, H, W)."""
    centred = x - x.mean(1, keepdim=True)
    return net.affine(centred / torch.sqrt((centred**2).mean(1, keepdim=True) + 1e-5), name)


def dat_feed_forward(net: Reference, y: Tensor, name: str) -> Tensor:
    value, gate = F.gelu(net.linear(y, f"{name}.fc1")).chunk(2, 1)
    return net.linear(
        value * depthwise(net, layer_norm(net, gate, f"{name}.sg.norm"), f"{name}.sg.conv"), f"{name}.fc2"
    )


def dat_gate(net: Reference, x: Tensor, name: str, first: int) -> Tensor:
    x = F.gelu(batch_norm(net, net.conv(x, f"{name}.{first}"), f"{name}.{first + 1}"))
    return torch.sigmoid(net.conv(x, f"{name}.{first + 3}"))


def dat_convolution(net: Reference, v: Tensor, name: str) -> Tensor:
    return F.gelu(batch_norm(net, depthwise(net, v, f"{name}.dwconv.0"), f"{name}.dwconv.1"))


def dat_channel(net: Reference, y: Tensor, block: str, heads: int) -> Tensor:
    name = f"{block}.attn"
    q, k, v = net.linear(y, f"{name}.qkv").chunk(3, 1)
    c = dat_convolution(net, v, name)
    q, k, values = (t.flatten(2).unflatten(1, (heads, -1)) for t in (q, k, v))  # (B, heads, d, pixels)
    q, k = (t / t.norm(dim=-1, keepdim=True).clamp_min(1e-12) for t in (q, k))
    share = torch.softmax(torch.einsum("bhcn,bhdn->bhcd", q, k) * net.weights[f"{name}.temperature"], -1)
    a = torch.einsum("bhcd,bhdn->bhcn", share, values).reshape(v.shape)
    by_channel = dat_gate(net, a.mean((2, 3), keepdim=True), f"{name}.channel_interaction", 1)
    return net.linear(a * dat_gate(net, c, f"{name}.spatial_interaction", 0) + c * by_channel, f"{name}.proj")


def dat_spatial(net: Reference, y: Tensor, block: str, heads: int, shifted: bool) -> Tensor:
    name, (height, width) = f"{block}.attn", y.shape[2:]
    sides, side = net.config["split_size"], max(net.config["split_size"])
    qkv = net.linear(y, f"{name}.qkv")
    c = dat_convolution(net, qkv.chunk(3, 1)[2], name)
    qkv = F.pad(qkv, (0, -width % side, 0, -height % side))  # zeros, after the linear layer
    halves = []
    for i, window in enumerate((tuple(sides), tuple(reversed(sides)))):
        shift = tuple(each // 2 for each in window) if shifted else (0, 0)
        parts = torch.stack([t.chunk(2, 1)[i] for t in qkv.chunk(3, 1)])
        q, k, v = torch.roll(parts, tuple(-each for each in shift), (3, 4))
        halves.append(
            torch.roll(dat_windows(net, (q, k, v), f"{name}.attns.{i}", window, shift, heads // 2), shift, (2, 3))
        )
    a = torch.cat(halves, 1)[:, :, :height, :width]
    by_channel = dat_gate(net, c.mean((2, 3), keepdim=True), f"{name}.channel_interaction", 1)
    return net.linear(a * by_channel + c * dat_gate(net, a, f"{name}.spatial_interaction", 0), f"{name}.proj")


def dat_windows(
    net: Reference, qkv: tuple[Tensor, ...], name: str, window: tuple[int, int], shift: tuple[int, int], heads: int
) -> Tensor:
    """Window by window, (B, C / 2, H, W); after a roll pixels of opposite edges are 100 apart."""
    q, k, v = qkv
    height, width = q.shape[2:]
    bias, out = dat_bias(net, name, window), torch.zeros_like(q)
    wrapped = (torch.arange(height) >= height - shift[0])[:, None] * 2 + (torch.arange(width) >= width - shift[1])
    for top in range(0, height, window[0]):
        for left in range(0, width, window[1]):
            here = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            region = wrapped[here].flatten()
            mask = torch.where(region[:, None] == region, 0.0, -100.0).double()
            scale = net.config["qk_scale"] or (q.shape[1] // heads) ** -0.5
            one = attend(*(t[here].flatten(2)[..., None] for t in (q, k, v)), bias, scale, mask[None])
            out[here] = one[..., 0].unflatten(2, window)
    return out


def dat_bias(net: Reference, name: str, window: tuple[int, int]) -> Tensor:
    """(heads, pixels, pixels) from a small network of the offset of each query from each key."""
    rows, columns = torch.arange(window[0]).repeat_interleave(window[1]), torch.arange(window[1]).repeat(window[0])
    offset = torch.stack([rows[:, None] - rows, columns[:, None] - columns])[None].double()
    x = net.linear(offset, f"{name}.pos.pos_proj")
    for i in (1, 2, 3):
        x = net.linear(F.relu(layer_norm(net, x, f"{name}.pos.pos{i}.0")), f"{name}.pos.pos{i}.2")
    return x[0]
