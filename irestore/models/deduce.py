"""From the names and shapes of a checkpoint's tensors to the network that it belongs to, and what they cannot tell."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


# What has been published, at whatever scale: name, architecture, dialect, config. From 2minkyulee/i-LN@3266199c
# iLN/options, the-database/traiNNer-redux@68629319 traiNNer/archs and, HEART, Phips/HEART@868878ce. Where several
# ratios make the same shapes, it is the largest, as `deduce` finds it.
SIX = [6] * 6
LONG = {"depths": SIX * 2, "num_heads": SIX * 2}
COMMON = {"in_chans": 3, "resi_connection": "1conv", "upsampler": "pixelshuffle", "num_feat": 64, "num_heads": SIX}
HYBRID = COMMON | {"depths": SIX, "mlp_ratio": 2, "patch_norm": True, "conv_scale": 0.01}
HEART = HYBRID | {"window_size": 32, "rank": 8, "rib_hidden_dim": 32, "rib_n_freqs": 10, "attention_freq": 2}
HAT = HYBRID | {"window_size": 16, "overlap_ratio": 0.5, "qkv_bias": True, "img_size": 64, "stdnorm": True}
DAT = COMMON | {"depth": SIX, "embed_dim": 180, "expansion_factor": 2, "unshuffle": 1, "qkv_bias": True}
PLAIN = "(or a HAT without i-LN, which has the same shapes and would give nonsense)"
LIGHT = {"depth": [18], "num_heads": [6], "embed_dim": 60, "resi_connection": "3conv"}


def _sized(embed_dim: int, compress_ratio: int, squeeze_factor: int) -> dict[str, Any]:
    return {"embed_dim": embed_dim, "compress_ratio": compress_ratio, "squeeze_factor": squeeze_factor}


PUBLISHED: list[tuple[str, str, str | None, dict[str, Any]]] = [
    ("HEART", "heart", None, HEART | _sized(180, 3, 30)),
    ("HAT-mini i-LN", "hat-iln", "official", HAT | _sized(96, 24, 24)),
    ("HAT-dagger i-LN", "hat-iln", "official", HAT | _sized(180, 3, 30)),
    (f"hat_iln_s {PLAIN}", "hat-iln", None, HAT | _sized(144, 24, 24)),
    (f"hat_iln_m {PLAIN}", "hat-iln", None, HAT | _sized(180, 3, 30)),
    (f"hat_iln_l {PLAIN}", "hat-iln", None, HAT | _sized(180, 3, 30) | LONG),
    ("hat_iln_m_aligned", "hat-iln", None, HAT | _sized(192, 3, 32)),
    ("hat_iln_l_aligned", "hat-iln", None, HAT | _sized(192, 3, 32) | LONG),
    ("dat_iln", "dat-iln", "trainner-dat", DAT | {"expansion_factor": 4, "split_size": [8, 32]}),
    ("dat_iln_2", "dat-iln", "trainner-dat", DAT | {"split_size": [8, 32]}),
    ("dat_iln_s", "dat-iln", "trainner-dat", DAT | {"split_size": [8, 16]}),
    ("dat_iln_light", "dat-iln", "trainner-dat", DAT | LIGHT | {"split_size": [8, 32]}),
]


@dataclass(frozen=True)
class Deduced:
    """What the shapes say. `missing` maps each config key that they do not determine to what it is, for people, which
    ends with the value of published models: `(published: 32)`. Where all that shapes say is as in a published network,
    `published` is what that is called, and `taken` what is known of it beside, which is in `config` then.
    """

    architecture: str
    dialect: str | None
    config: dict[str, Any]
    missing: dict[str, str]
    published: str = ""
    taken: dict[str, Any] = field(default_factory=dict)


def deduce(shapes: Shapes) -> Deduced:
    """Architecture, dialect and config of a state dict of those shapes. Raises ValueError for an unknown network."""
    marks = {
        "heart": ".attn.to_hidden",
        "hat-iln": ".overlap_attn.relative_position_bias_table",
        "dat-iln": "before_RG.norm.weight",
    }
    found = [name for name, mark in marks.items() if any(key.endswith(mark) for key in shapes)]
    if len(found) != 1 or not _groups(shapes):
        raise ValueError(f"its tensors are those of no known network ({', '.join(marks)})")
    try:
        return _recognised({"heart": _heart, "hat-iln": _hat, "dat-iln": _dat}[found[0]](shapes))
    except KeyError as error:
        raise ValueError(f"it looks like {found[0]}, but lacks the tensor {error.args[0]}") from error


def _recognised(found: Deduced) -> Deduced:
    """With all that is known of the published network whose shapes these are, if there is one."""
    for name, architecture, dialect, known in PUBLISHED:
        told = {key: known.get(key) for key in found.config} | {"upscale": found.config["upscale"]}
        if (architecture, dialect, told) == (found.architecture, found.dialect, found.config):
            taken = {key: known[key] for key in found.missing}
            return replace(found, config=found.config | taken, missing={}, published=name, taken=taken)
    told = {key: value for key, value in found.config.items() if key not in found.missing}
    return replace(found, config=told)


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


def _dat(shapes: Shapes) -> Deduced:
    config, block = _ends(shapes), "layers.0.blocks.0"
    first = "conv_first.1.weight" if "conv_first.1.weight" in shapes else "conv_first.weight"
    dim, seen = shapes[first][:2]
    unshuffle = math.isqrt(seen // config["in_chans"])
    config |= {"embed_dim": dim, "unshuffle": unshuffle, "upscale": config["upscale"] // unshuffle}
    groups = _groups(shapes)
    config["depth"] = [len(blocks) for blocks in groups]
    heads = [shapes[f"layers.{i}.blocks.0.attn.attns.0.pos.pos3.2.weight"][0] for i in range(len(groups))]
    config["num_heads"] = [2 * each for each in heads]  # half of them are in each kind of window
    config["expansion_factor"] = shapes[f"{block}.ffn.fc1.weight"][0] / dim
    config["qkv_bias"] = f"{block}.attn.qkv.bias" in shapes
    area = shapes[f"{block}.attn.attns.0.relative_position_index"][0]  # a b
    offsets = shapes[f"{block}.attn.attns.0.rpe_biases"][0]  # (2 a - 1) (2 b - 1)
    both = (4 * area + 1 - offsets) // 2  # a + b
    short = (both - math.isqrt(max(both**2 - 4 * area, 0))) // 2
    config["split_size"] = [short, both - short]  # in this or the other order
    missing = {"split_size": f"height and width of the windows (published: {config['split_size']})"}
    return Deduced("dat-iln", "trainner-dat", config, missing)


def _trunk(shapes: Shapes, heads: Callable[[str], int]) -> tuple[dict[str, Any], dict[str, str]]:
    """What HEART and HAT-iLN have in common; `heads` reads the number of heads off a block's attention."""
    dim = shapes["conv_first.weight"][0]
    block = "layers.0.residual_group.blocks.0"
    groups = _groups(shapes)
    mid, squeezed = (
        shapes[f"{block}.conv_block.cab.0.weight"][0],
        shapes[f"{block}.conv_block.cab.3.attention.1.weight"][0],
    )
    config = _ends(shapes) | {
        "embed_dim": dim,
        "depths": [len(blocks) for blocks in groups],
        "num_heads": [heads(f"layers.{i}.residual_group.blocks.0") for i in range(len(groups))],
        "compress_ratio": _divisor(dim, mid),
        "squeeze_factor": _divisor(dim, squeezed),
        "mlp_ratio": shapes[f"{block}.mlp.fc1.weight"][0] / dim,
        "patch_norm": any(key.startswith("patch_embed.norm.") for key in shapes),
    }
    missing = {"conv_scale": "weight of the convolution branch (published: 0.01)"}
    if config["upsampler"] == "pixelshuffledirect":
        missing["global_skip"] = "whether the enlarged input is added to the result (published: false)"
    return config, missing


def _ends(shapes: Shapes) -> dict[str, Any]:
    """What the first and the last convolutions tell."""
    convolutions = {"conv_after_body.weight": "1conv", "conv_after_body.0.weight": "3conv"}
    config: dict[str, Any] = {
        "resi_connection": next((name for key, name in convolutions.items() if key in shapes), "identity")
    }
    if "conv_last.weight" in shapes:
        in_chans, features = shapes["conv_last.weight"][:2]
        stages = [shape[0] // features for key, shape in shapes.items() if re.fullmatch(r"upsample\.\d+\.weight", key)]
        zoom = math.isqrt(math.prod(stages))
        return config | {"in_chans": in_chans, "upsampler": "pixelshuffle", "num_feat": features, "upscale": zoom}
    in_chans = shapes.get("conv_first.weight", (0, 3))[1]  # unless it stands behind a PixelUnshuffle: then 3
    zoom = math.isqrt(shapes["upsample.0.weight"][0] // in_chans)
    return config | {"in_chans": in_chans, "upsampler": "pixelshuffledirect", "upscale": zoom}


def _groups(shapes: Shapes) -> list[set[int]]:
    """The numbers of the blocks of each group."""
    groups: dict[int, set[int]] = {}
    for key in shapes:
        if match := re.match(r"layers\.(\d+)\.(?:residual_group\.)?blocks\.(\d+)\.", key):
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
