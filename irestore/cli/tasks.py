"""`irestore sr`, `denoise`, `dejpeg`, `deblur`, `derain`: their options, each handed to `job.restore_files`."""

from typing import Any

import click

from irestore.cli.options import DEFAULT_SCALE, Options, SectionedCommand, shared
from irestore.cli.values import share


def _task(name: str, summary: str, own: click.Option) -> click.Command:
    """The command of one task; `own` is the option that only it has."""

    @click.pass_context
    def callback(ctx: click.Context, /, **values: Any) -> None:
        from irestore.cli.job import restore_files

        ctx.exit(restore_files(name, Options(**values), ctx.obj))

    sections = shared()
    sections["Computing"].insert(0, own)
    return SectionedCommand(
        name, sections, callback=callback, help=summary, context_settings={"auto_envvar_prefix": "IRESTORE"}
    )


def _strength() -> click.Option:
    return click.Option(
        ["--strength"],
        type=share,
        default=1.0,
        show_default=True,
        metavar="0-1",
        help="How much of the restoration to take: 0 is the input, 1 all of it.",
    )


sr = _task(
    "sr",
    "Enlarge pictures 2, 3 or 4 times.",
    click.Option(
        ["-x", "--scale"],
        type=click.Choice(["2", "3", "4"]),
        help=f"How many times larger.  [default: {DEFAULT_SCALE}, or what the model named is made for]",
    ),
)
denoise = _task("denoise", "Remove noise from pictures.", _strength())
dejpeg = _task("dejpeg", "Remove JPEG artefacts from pictures.", _strength())
deblur = _task("deblur", "Remove motion blur and defocus from pictures.", _strength())
derain = _task("derain", "Remove rain from pictures.", _strength())
