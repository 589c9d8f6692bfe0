"""The kinds of value that options take: a size of memory, a tile, a share, a device. Each raises click.BadParameter."""

import math
import re

import click

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+|:all)?")


def byte_size(text: str) -> int:
    """Bytes of `6G`, `1.5GiB`, `800M` or a plain number; powers of 1024."""
    match = SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if size == 0:
        raise click.BadParameter(f"{text!r} is no size of memory; write 6G, 800M or a number of bytes")
    return size


def tile(text: str) -> int | str:
    """`auto`, `off` or a tile's side in pixels."""
    if text in ("auto", "off"):
        return text
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise click.BadParameter(f"{text!r} is no tile; write auto, off or a number of pixels")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise click.BadParameter(f"{text!r} is no share; write a number from 0 to 1, as in 0.5")
    return value


def device(text: str) -> str:
    """A device's name; whether this machine has it is found out later."""
    if DEVICE.fullmatch(text) is None:
        raise click.BadParameter(f"{text!r} is no device; write auto, cpu, mps, cuda, cuda:0 or cuda:all")
    return text
