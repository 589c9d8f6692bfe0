"""The networks: a dict from the manifest's architecture name to the class, and how one is built from its config."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from irestore.errors import WeightsError
from irestore.models.dat import DAT
from irestore.models.hat import HAT
from irestore.models.heart import Heart
from irestore.models.network import Network
from irestore.models.unet import UNet

# Name: a Network whose `Config`, a dataclass, is all that its constructor takes.
ARCHITECTURES: dict[str, Any] = {"heart": Heart, "hat-iln": HAT, "dat-iln": DAT, "unet": UNet}

# Upstream's configurations also say how to train, or name the only value that there is.
WITHOUT_EFFECT: dict[str, object] = {"patch_size": 1, "ape": False, "norm_layer": None, "unshuffle_mod": False}
TRAINING_ONLY = {"drop_rate", "attn_drop_rate", "drop_path_rate", "use_checkpoint", "use_chk"}

# No published network is near these. A config may come from a file that is out to keep us busy.
MOST: dict[str, float] = {
    "embed_dim": 2048,
    "window_size": 64,
    "rib_n_freqs": 32,
    "overlap_ratio": 1,
    "depths": 128,
    "depth": 128,
    "split_size": 64,
}
MOST_OTHERS = 4096
MOST_LEVELS = 64  # length of a list
MOST_PARAMETERS = 500_000_000
MOST_PIXELS = 2048  # of `Network.window`


def build(architecture: str, config: Mapping[str, Any], check: Callable[[Network], None] | None = None) -> Network:
    """A network of that architecture with fresh weights; raises WeightsError naming what is unknown or impossible.

    One that is large takes seconds to build: `check` is first asked about its sketch, without memory, on the device
    "meta" (which takes a second to import, and so not for others).
    """
    if architecture not in ARCHITECTURES:
        raise WeightsError(f"architecture {architecture!r} is unknown: must be one of {', '.join(ARCHITECTURES)}")
    network = ARCHITECTURES[architecture]
    values = _checked(architecture, network.Config, config)
    try:
        settings = network.Config(**values)
        if _is_large(vars(settings)):
            with torch.device("meta"):
                sketch = network(settings)
            count = sum(parameter.numel() for parameter in sketch.parameters())
            if count > MOST_PARAMETERS:
                raise ValueError(f"the config makes {count:,} parameters, more than {MOST_PARAMETERS:,}")
            if check is not None:
                check(sketch)
        model: Network = network(settings)
        if model.window > MOST_PIXELS:
            raise ValueError(f"the config makes windows of {model.window} pixels, more than {MOST_PIXELS}")
    except (ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise WeightsError(f"{architecture}: {error}") from error
    return model


def _checked(architecture: str, kind: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config, of the right types and sane; raises WeightsError naming a key."""
    known, values = get_type_hints(kind), {}
    for key, value in config.items():
        if key in known:
            values[key] = tuple(value) if isinstance(value, list) else value
            if not suits(values[key], known[key]):
                raise WeightsError(
                    f"{architecture}: {key} = {repr(value)[:80]} is of the wrong type: must be {told(known[key])}"
                )
            if problem := _excess(key, values[key]):
                raise WeightsError(f"{architecture}: {key} = {repr(value)[:80]} is out of range: {problem}")
        elif key in WITHOUT_EFFECT and value != WITHOUT_EFFECT[key]:
            raise WeightsError(f"{architecture}: {key} = {value!r} is not supported, only {WITHOUT_EFFECT[key]!r}")
        elif key not in WITHOUT_EFFECT and key not in TRAINING_ONLY:
            raise WeightsError(f"{architecture}: unknown config key {key!r}; known: {', '.join(sorted(known))}")
    return values


def _excess(key: str, value: object) -> str | None:
    """The limit that a config's value exceeds, in words; None where it exceeds none."""
    numbers, most = _numbers(value), MOST.get(key, MOST_OTHERS)
    if len(numbers) > MOST_LEVELS:
        return f"at most {MOST_LEVELS} numbers"
    if not all(abs(number) <= most for number in numbers):  # NaN too
        return f"at most {most:g}"
    return f"at most {most:g} in all" if key in ("depths", "depth") and sum(numbers) > most else None


def _numbers(value: object) -> list[float]:
    return [item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, (int, float))]


def _is_large(values: Mapping[str, Any]) -> bool:
    """Whether building it can take more than a second or two."""
    widest = max(number for value in (0, *values.values()) for number in _numbers(value))
    blocks = sum(_numbers(values.get("depths", values.get("depth", 1))))
    return bool(blocks * widest**2 > 4_000_000 or values.get("window_size", 0) > 32 or values.get("mlp_ratio", 0) > 8)


def suits(value: object, hint: Any) -> bool:
    """Whether a config's value is of that type: int, float, bool, str, None, tuple[int, ...] or a union of them."""
    if hint == tuple[int, ...]:
        return isinstance(value, tuple) and all(type(item) is int for item in value)
    if isinstance(hint, type):
        return type(value) is hint or (hint is float and type(value) is int)
    return any(suits(value, choice) for choice in get_args(hint))


def told(hint: Any) -> str:
    """That type in words."""
    return "a list of int" if hint == tuple[int, ...] else hint.__name__ if isinstance(hint, type) else str(hint)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of 2minkyulee/i-LN: its i-LN and affine layers call weight and bias gamma and beta."""
    ends = {".gamma": ".weight", ".beta": ".bias"}
    renamed = {}
    for key, value in state.items():
        stem, dot, end = key.rpartition(".")
        renamed[stem + ends[dot + end] if dot + end in ends else key] = value
    return renamed


def from_trainner_dat(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of traiNNer-redux's DAT-iLN as the other networks have them, without what is no weight.

    That is masks and places, which follow from the configuration, and how many batches training has seen.
    """
    derived = re.compile(r".*\.(attn_mask_\d|rpe_biases|relative_position_index|num_batches_tracked)")
    names = {
        r"^(layers\.\d+)\.blocks\.": r"\1.residual_group.blocks.",
        r"^before_RG\.": "patch_embed.",
        r"^conv_first\.1\.": "conv_first.",
    }
    renamed = {}
    for key, value in state.items():
        if not derived.fullmatch(key):
            for old, new in names.items():
                key = re.sub(old, new, key)
            renamed[key] = value
    return renamed


DIALECTS = {"official": from_official, "trainner-dat": from_trainner_dat}


def rename(dialect: str | None, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict in this package's spelling; raises WeightsError for an unknown dialect."""
    if dialect is None:
        return dict(state)
    if dialect not in DIALECTS:
        raise WeightsError(f"dialect {dialect!r} is unknown: must be one of {', '.join(DIALECTS)}")
    return DIALECTS[dialect](state)
