"""The tasks: one row each, for the command line, the manifest, `irestore eval` and the cards of models."""

from typing import NamedTuple  # not dataclasses, which `irestore --help` would wait for


class Task(NamedTuple):
    """What irestore knows about a task. Its name is also its command, its `task` in a manifest, and in `{task}`."""

    summary: str  # of `irestore --help`
    does: str  # of the card of a model
    enlarges: bool = False  # has --scale; the others keep the size and have --strength
    on_luma: bool = False  # whether papers measure it on Y; else on RGB
    damage: str | None = None  # the option of `irestore eval` that makes damaged pictures from clean ones


TASKS = {
    "sr": Task(
        summary="Enlarge pictures, some times or to a size.",
        does="enlarges pictures {scale} times",
        enlarges=True,
        on_luma=True,
    ),
    "restore": Task(
        summary="Clean pictures of noise, JPEG artefacts and slight blur together, whatever they have.",
        does="removes noise, JPEG artefacts and slight blur of unknown strength",
    ),
    "denoise": Task(summary="Remove noise.", does="removes noise", damage="sigma"),
    "dejpeg": Task(summary="Remove JPEG artefacts.", does="removes JPEG artefacts", on_luma=True, damage="quality"),
    "deblur": Task(summary="Remove motion blur and defocus.", does="removes motion blur and defocus"),
    "derain": Task(summary="Remove rain.", does="removes rain streaks", on_luma=True),
}


def task_name(task: str, scale: int) -> str:
    """A task at a scale, as people say it: `sr x4`, or `dejpeg`, which keeps the size."""
    return f"{task} x{scale}" if TASKS[task].enlarges else task
