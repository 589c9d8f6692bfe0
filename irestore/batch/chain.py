"""What is done to a picture: networks one after the other, and a reduction where they give more than is wanted."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import NamedTuple

from irestore.tasks import TASKS, task_name

MOST = 16  # times larger: of more, hardly anything would come from the picture


class Step(NamedTuple):
    """What one network does; `scale` is 1 where the size stays. `lossy`: to pictures that were compressed with loss."""

    task: str
    scale: int
    lossy: bool = False

    def __str__(self) -> str:
        """As people say it: `dejpeg`, `sr x4`."""
        return task_name(self.task, self.scale)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large results are to be: as large as what is given allows, in the proportions of the picture."""

    factor: float | None = None
    width: int | None = None
    height: int | None = None
    megapixels: float | None = None

    @property
    def label(self) -> str:
        """How file names tell it: `4`, `w3840`, `h2160`, `3840x2160`, `24mp`."""
        if self.factor is not None or self.megapixels is not None:
            return f"{self.factor:.10g}" if self.factor is not None else f"{self.megapixels:.10g}mp"
        if self.width is not None and self.height is not None:
            return f"{self.width}x{self.height}"
        return f"h{self.height}" if self.width is None else f"w{self.width}"

    def factor_of(self, height: int, width: int) -> float:
        """How many times larger a picture of this size has to become; below 1 where it is too large already."""
        allowed = [self.factor, self.width and self.width / width, self.height and self.height / height]
        allowed.append(self.megapixels and sqrt(self.megapixels * 1e6 / (height * width)))
        return min(each for each in allowed if each)


def stages(steps: Sequence[Step], height: int, width: int) -> Iterator[tuple[Step, int, int]]:
    """Each step with the height and the width of the picture that it is given."""
    for step in steps:
        yield step, height, width
        height, width = height * step.scale, width * step.scale


@dataclass(frozen=True)
class Chain:
    """What is done to one picture. Sizes are (height, width)."""

    steps: tuple[Step, ...]
    source: tuple[int, int]
    restored: tuple[int, int]  # by the networks, before it is reduced
    size: tuple[int, int]  # of the result, never larger

    @property
    def pixels(self) -> int:
        """Pixels that networks are given; those of the picture where there are none."""
        return sum(height * width for _, height, width in stages(self.steps, *self.source)) or prod(self.source)

    def reduced(self, height: int, width: int) -> tuple[int, int]:
        """The final size of a restored frame of that size; one that differs from the others stays in proportion."""
        tall, wide = (round(a * b / c) for a, b, c in zip((height, width), self.size, self.restored, strict=True))
        return max(1, tall), max(1, wide)

    def __str__(self) -> str:
        """As people say it: `dejpeg, sr x4, reduced`."""
        return ", ".join([*map(str, self.steps), *(["reduced"] if self.size != self.restored else [])])


def chain_of(
    tasks: Sequence[str], known: Collection[Step], size: Size, height: int, width: int, *, lossy: bool = False
) -> Chain:
    """The chain of these tasks for a picture of height x width, of steps that are known.

    To enlarge, it takes the network of the smallest scale that reaches the size wanted; where none does, that of the
    largest scale, and goes on from its result. A picture that is that large already is only reduced. A `lossy` picture
    is first given to a network for such ones, where there is any.
    """
    factor, reached, steps = size.factor_of(height, width), 1, list[Step]()
    for task in tasks:
        if not TASKS[task].enlarges:
            steps.append(Step(task, 1))
            continue
        while reached < factor:
            damaged = lossy and not steps and any(step.lossy for step in known)
            scales = sorted(step.scale for step in known if (step.task, step.lossy) == (task, damaged))
            scale = next((each for each in scales if reached * each >= factor), scales[-1])
            steps.append(Step(task, scale, damaged))
            reached *= scale
    restored, result = (height * reached, width * reached), (round(height * factor), round(width * factor))
    return Chain(tuple(steps), (height, width), restored, (max(1, result[0]), max(1, result[1])))
