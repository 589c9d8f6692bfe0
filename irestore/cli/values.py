"""The kinds of value that options take, from a size of memory to a shard. Each raises click.BadParameter."""

import os
import re

import click

from irestore.batch.chain import MOST
from irestore.batch.shards import Shard
from irestore.tasks import TASKS

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
ONE = r"(cpu|mps|cuda(:[0-9]{1,4})?)"
DEVICE = re.compile(rf"auto|cuda:all|{ONE}(,{ONE})*")
# Where a scheduler says which one of how many tasks this is: index, count, and the first index if not 0.
SCHEDULERS = {
    "slurm": ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    "k8s": ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", ""),
    "aws": ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", ""),
}


class Text(click.types.StringParamType):
    """A text; where it may be repeated, the environment holds one, whatever spaces it has."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """The one text."""
        return [rv]


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


def factor(text: str) -> float:
    """How many times larger."""
    number = float(text) if NUMBER.fullmatch(text) else 0
    if number == 1:
        others = " ".join(f"irestore {name}," for name, task in TASKS.items() if not task.enlarges)
        raise click.BadParameter(f"1 keeps the size; to restore without enlarging: {others.removesuffix(',')}")
    if not 1 < number <= MOST:
        raise click.BadParameter(f"{text!r} is not how many times larger; write a number above 1, at most {MOST}")
    return number


def pixels(text: str) -> int:
    """The side of a picture."""
    if re.fullmatch("0*[1-9][0-9]{0,6}", text) is None:
        raise click.BadParameter(f"{text!r} is not a number of pixels, such as 3840")
    return int(text)


def fit(text: str) -> tuple[int, int]:
    """Width and height of `3840x2160`."""
    match = re.fullmatch("0*([1-9][0-9]{0,6})x0*([1-9][0-9]{0,6})", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a width and a height in pixels, such as 3840x2160")
    return int(match[1]), int(match[2])


def megapixels(text: str) -> float:
    """Millions of pixels."""
    number = float(text) if NUMBER.fullmatch(text) else 0
    if number * 1e6 < 1:
        raise click.BadParameter(f"{text!r} is not a number of megapixels, such as 24 or 0.5")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    if re.fullmatch(r"0|1(\.0*)?|0?\.[0-9]+|0\.", text) is None:
        raise click.BadParameter(f"{text!r} is not a number from 0 to 1, such as 0.5")
    return float(text)


def device(text: str) -> str:
    """A device's name; whether this machine has it is found out later."""
    if DEVICE.fullmatch(text) is None:
        raise click.BadParameter(
            f"{text!r} is not a device; write auto, cpu, mps, cuda, cuda:0, cuda:all or cuda:0,cuda:1"
        )
    return text


def shard(text: str) -> Shard:
    """`3/100`, or the name of a scheduler that has said so in the environment."""
    match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None and text not in (*SCHEDULERS, "auto"):
        raise click.BadParameter(f"{text!r} is not a shard; write 3/100, slurm, k8s, aws or auto")
    number, count = (int(match[1]), int(match[2])) if match else _scheduled(text)
    if not 1 <= number <= count:
        raise click.BadParameter(
            f"{text!r} gives {number}/{count}; I of I/N runs from 1 to N, in an array without gaps"
        )
    return Shard(number, count)


def _scheduled(name: str) -> tuple[int, int]:
    """Number, from 1, and count of shards as the scheduler of that name, or the only one, has said."""
    indices = {scheduler: variables[0] for scheduler, variables in SCHEDULERS.items()}
    there = [scheduler for scheduler, index in indices.items() if index in os.environ]
    if name == "auto" and len(there) != 1:
        found = " and ".join(indices[scheduler] for scheduler in there) or f"none of {', '.join(indices.values())}"
        raise click.BadParameter(f"auto: {found} is set; name the scheduler, or write the shard, as in 3/100")
    variables = [variable for variable in SCHEDULERS[there[0] if name == "auto" else name] if variable]
    values = [os.environ.get(variable, "") for variable in variables]
    for variable, value in zip(variables, values, strict=True):
        if re.fullmatch("[0-9]{1,9}", value) is None:
            state = f"is {value!r}, not a number" if value else "is not set"
            raise click.BadParameter(f"{name}: {variable} {state}; set it, or write the shard, as in 3/100")
    index, count, *first = map(int, values)
    return index - sum(first) + 1, count
