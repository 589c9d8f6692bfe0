"""The networks: a dict from the manifest's architecture name to the class, and how one is built from its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from torch import Tensor

from irestore.errors import WeightsError
from irestore.models.hat import HAT
from irestore.models.heart import Heart
from irestore.models.network import Network
from irestore.models.unet import UNet

ARCHITECTURES: dict[str, type[Heart] | type[HAT] | type[UNet]] = {"heart": Heart, "hat-iln": HAT, "unet": UNet}

# Upstream's configurations also say how to train, or name the only value that there is.
WITHOUT_EFFECT: dict[str, object] = {"patch_size": 1, "ape": False, "norm_layer": None}
TRAINING_ONLY = {"drop_rate", "attn_drop_rate", "drop_path_rate", "use_checkpoint"}


def build(architecture: str, config: Mapping[str, Any]) -> Network:
    """A network of that architecture with fresh weights; raises WeightsError naming what is unknown or impossible."""
    if architecture not in ARCHITECTURES:
        raise WeightsError(f"architecture {architecture!r} is unknown: must be one of {', '.join(ARCHITECTURES)}")
    network = ARCHITECTURES[architecture]
    known = get_type_hints(network.Config)
    values: dict[str, Any] = {}
    for key, value in config.items():
        if key in known:
            values[key] = tuple(value) if isinstance(value, list) else value
            if not suits(values[key], known[key]):
                raise WeightsError(
                    f"{architecture}: {key} = {value!r} is of the wrong type: must be {told(known[key])}"
                )
        elif key in WITHOUT_EFFECT and value != WITHOUT_EFFECT[key]:
            raise WeightsError(f"{architecture}: {key} = {value!r} is not supported, only {WITHOUT_EFFECT[key]!r}")
        elif key not in WITHOUT_EFFECT and key not in TRAINING_ONLY:
            raise WeightsError(f"{architecture}: unknown config key {key!r}; known: {', '.join(sorted(known))}")
    try:
        return network(network.Config(**values))  # type: ignore[arg-type]
    except (ValueError, TypeError, ZeroDivisionError, RuntimeError) as error:
        raise WeightsError(f"{architecture}: {error}") from error


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


DIALECTS = {"official": from_official}


def rename(dialect: str | None, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict in this package's spelling; raises WeightsError for an unknown dialect."""
    if dialect is None:
        return dict(state)
    if dialect not in DIALECTS:
        raise WeightsError(f"dialect {dialect!r} is unknown: must be one of {', '.join(DIALECTS)}")
    return DIALECTS[dialect](state)
