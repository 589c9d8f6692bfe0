"""From the names and shapes of a checkpoint's tensors to the network that it belongs to, and what they cannot tell."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Deduced:
    """What the shapes say. `missing` maps each config key that they do not determine to what it is, for people, which
    ends with the value of published models: `(published: 32)`.
    """

    architecture: str
    dialect: str | None
    config: dict[str, Any]
    missing: dict[str, str]


def deduce(shapes: Shapes) -> Deduced:
    """Architecture, dialect and config of a state dict of those shapes. Raises ValueError for an unknown network."""
    marks = {"heart": ".attn.to_hidden", "hat-iln": ".overlap_attn.relative_position_bias_table"}
    found = [name for name, mark in marks.items() if any(key.endswith(mark) for key in shapes)]
    if len(found) != 1 or not _groups(shapes):
        raise ValueError(f"its tensors are those of no known network ({', '.join(marks)})")
    try:
        return {"heart": _heart, "hat-iln": _hat}[found[0]](shapes)
    except KeyError as error:
        raise ValueError(f"it looks like {found[0]}, but lacks the tensor {error.args[0]}") from error


def _heart(shapes: Shapes) -> Deduced:
    config, missing = _trunk(shapes, heads=lambda block: shapes[f"{block}.attn.to_q"][0])
    first = "layers.0.residual_group.blocks.0.attn"
    config["rank"] = shapes[f"{first}.to_q"][2]
    config["rib_hidden_dim"] = shapes[f"{first}.to_hidden"][1]
    config["rib_n_freqs"] = (shapes[f"{first}.to_hidden"][0] - 2) // 4
    config["attention_freq"] = _attention_freq(shapes)
    missing["window_size"] = "side of the attention windows in pixels (published: 32)"
    return Deduced("heart", None, config, missing)


def _hat(shapes: Shapes) -> Deduced:
    config, missing = _trunk(shapes, heads=lambda block: shapes[f"{block}.attn.relative_position_bias_table"][1])
    group = "layers.0.residual_group"
    window = (math.isqrt(shapes[f"{group}.blocks.0.attn.relative_position_bias_table"][0]) + 1) // 2
    outer = math.isqrt(shapes[f"{group}.overlap_attn.relative_position_bias_table"][0]) + 1 - window
    config["window_size"] = window
    config["overlap_ratio"] = (outer - window) / window
    config["qkv_bias"] = f"{group}.blocks.0.attn.qkv.bias" in shapes
    missing["img_size"] = "size of the training pictures; windows are shifted if it is above the window (published: 64)"
    official = "norm.gamma" in shapes
    if official:
        missing["stdnorm"] = "whether the input is divided by DIV2K's deviation (published: true)"
    return Deduced("hat-iln", "official" if official else None, config, missing)


def _trunk(shapes: Shapes, heads: Callable[[str], int]) -> tuple[dict[str, Any], dict[str, str]]:
    """What both networks have in common; `heads` reads the number of heads off a block's attention."""
    dim, in_chans = shapes["conv_first.weight"][:2]
    block = "layers.0.residual_group.blocks.0"
    groups = _groups(shapes)
    mid, squeezed = (
        shapes[f"{block}.conv_block.cab.0.weight"][0],
        shapes[f"{block}.conv_block.cab.3.attention.1.weight"][0],
    )
    config: dict[str, Any] = {
        "in_chans": in_chans,
        "embed_dim": dim,
        "depths": [len(blocks) for blocks in groups],
        "num_heads": [heads(f"layers.{i}.residual_group.blocks.0") for i in range(len(groups))],
        "compress_ratio": _divisor(dim, mid),
        "squeeze_factor": _divisor(dim, squeezed),
        "mlp_ratio": shapes[f"{block}.mlp.fc1.weight"][0] / dim,
        "patch_norm": any(key.startswith("patch_embed.norm.") for key in shapes),
        "resi_connection": "1conv" if "conv_after_body.weight" in shapes else "identity",
    }
    missing = {"conv_scale": "weight of the convolution branch (published: 0.01)"}
    if "conv_last.weight" in shapes:
        features = shapes["conv_last.weight"][1]
        stages = [shape[0] // features for key, shape in shapes.items() if re.fullmatch(r"upsample\.\d+\.weight", key)]
        config |= {"upsampler": "pixelshuffle", "num_feat": features, "upscale": math.isqrt(math.prod(stages))}
    else:
        zoom = math.isqrt(shapes["upsample.0.weight"][0] // in_chans)
        config |= {"upsampler": "pixelshuffledirect", "upscale": zoom}
        missing["global_skip"] = "whether the enlarged input is added to the result (published: false)"
    return config, missing


def _groups(shapes: Shapes) -> list[set[int]]:
    """The numbers of the blocks of each group."""
    groups: dict[int, set[int]] = {}
    for key in shapes:
        if match := re.match(r"layers\.(\d+)\.residual_group\.blocks\.(\d+)\.", key):
            groups.setdefault(int(match[1]), set()).add(int(match[2]))
    return [groups[i] for i in sorted(groups)]


def _attention_freq(shapes: Shapes) -> int:
    """Every how many blocks there is attention; if each group has it once only, the depth, which says the same."""
    with_attention = re.compile(r"layers\.\d+\.residual_group\.blocks\.(\d+)\.attn\.to_q")
    places = {int(match[1]) for key in shapes if (match := with_attention.fullmatch(key))} - {0}
    return min(places, default=max(len(blocks) for blocks in _groups(shapes)))


def _divisor(whole: int, part: int) -> int:
    """The largest n with whole // n == part: any other such n makes the same network. Raises ValueError if none."""
    n = whole // part if part else 0
    if n == 0 or whole // n != part:
        raise ValueError(f"its convolution branch has {part} channels, which {whole} divided by no whole number gives")
    return n
