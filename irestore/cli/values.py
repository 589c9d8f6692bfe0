"""The kinds of value that options take: a size of memory, a tile, a share, a device. Each raises click.BadParameter."""

import re

import click

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,4}|:all)?")


def byte_size(text: str) -> int:
    """Bytes of `6G`, `1.5GiB`, `800M`, powers of 1024; or a plain number, which cannot be meant where it is small."""
    match = SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if size == 0:
        raise click.BadParameter(f"{text!r} is not a size of memory; write 6G, 800M or a number of bytes")
    if size < 2**20 and match and not match[2]:
        raise click.BadParameter(f"{text!r} needs a unit; write {text.strip()}M or {text.strip()}G")
    return size


def tile(text: str) -> int | str:
    """`auto`, `off` or a tile's side in pixels."""
    if text not in ("auto", "off") and re.fullmatch("0*[1-9][0-9]{0,8}", text) is None:
        raise click.BadParameter(f"{text!r} is not the side of a tile; write auto, off or a number of pixels")
    return text if text in ("auto", "off") else int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    if re.fullmatch(r"0|1(\.0*)?|0?\.[0-9]+|0\.", text) is None:
        raise click.BadParameter(f"{text!r} is not a number from 0 to 1, such as 0.5")
    return float(text)


def device(text: str) -> str:
    """A device's name; whether this machine has it is found out later."""
    if DEVICE.fullmatch(text) is None:
        raise click.BadParameter(f"{text!r} is not a device; write auto, cpu, mps, cuda, cuda:0 or cuda:all")
    return text
