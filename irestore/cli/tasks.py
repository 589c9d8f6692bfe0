"""The command of a task, as `irestore.tasks` has it: `irestore sr`, `irestore denoise`, ..."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from irestore.batch.chain import Size
from irestore.cli.options import DEFAULT_SCALE, SECTIONS, Options, build, declared, option
from irestore.cli.values import factor, fit, megapixels, pixels, share
from irestore.errors import UsageError
from irestore.tasks import TASKS

STRENGTH = click.Option(
    ["--strength"],
    type=share,
    default=["1.0"],
    multiple=True,
    show_default=True,
    metavar="0-1",
    help="How much of the restoration to take: 0 is the input, 1 all of it.",
)
FIRST = click.Option(
    ["--first"],
    multiple=True,
    metavar="TASK|MODEL",
    shell_complete=lambda *typed: [name for name in TASKS if not TASKS[name].enlarges and name.startswith(typed[2])],
    help="Another task to do before, without a file between: dejpeg, or a model for it. Repeatable.",
)
PREVIEW = click.Option(
    ["--preview"],
    type=click.Path(path_type=Path),
    metavar="PAGE.html",
    help="Write no results but a page that shows those of the first 4 pictures; repeat -m or --strength to compare.",
)


# fmt: off
@dataclass(frozen=True)
class Sizes:
    """How large results are to be."""

    scale: float | None = option("-x", type=factor, metavar="N",
        help=f"How many times larger: 2, 1.5.  [default: {DEFAULT_SCALE} or the model's]")
    width: int | None = option(type=pixels, metavar="N", help="So many pixels wide: enlarged enough, then reduced.")
    height: int | None = option(type=pixels, metavar="N", help="So many pixels high.")
    fit: tuple[int, int] | None = option(type=fit, metavar="WxH", help="As large as fits inside, as in 3840x2160.")
    megapixels: float | None = option(type=megapixels, metavar="N", help="So many megapixels, as in 24.")
# fmt: on


class TaskCommand(click.Command):
    """A command whose `--help` shows its options in sections."""

    def __init__(self, task: str) -> None:
        self.sections = {section.__name__: declared(section, ["model"]) for section in SECTIONS}
        self.sections["Files"].append(PREVIEW)
        self.sections["Model"].insert(0, FIRST)
        if TASKS[task].enlarges:
            files, *others = self.sections.items()
            self.sections = dict([files, ("Size", declared(Sizes)), *others])
        else:
            self.sections["Computing"].insert(0, STRENGTH)
        inputs = click.Argument(["inputs"], nargs=-1, metavar="INPUT...", type=click.Path(), required=False)
        params = [inputs, *(option for options in self.sections.values() for option in options)]
        settings = {"auto_envvar_prefix": "IRESTORE"}
        super().__init__(task, settings, callback=restore, params=params, help=TASKS[task].summary)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One definition list a section; `--help` itself is in the last one."""
        for title, options in self.sections.items():
            shown = [*options, self.get_help_option(ctx)] if title == "Messages" else options
            records = [record for each in shown if each and (record := each.get_help_record(ctx))]
            with formatter.section(title):
                formatter.write_dl(records)


@click.pass_context
def restore(
    ctx: click.Context,
    /,
    first: tuple[str, ...],
    model: tuple[str, ...],
    strength: tuple[float, ...] = (1.0,),
    preview: Path | None = None,
    **values: Any,
) -> None:
    """What each of the commands does."""
    if preview is None and max(len(model), len(strength)) > 1:
        raise UsageError("-m and --strength are given once; several are compared by --preview page.html")
    task = ctx.command.name or ""
    size = _size(ctx, values) if TASKS[task].enlarges else Size(factor=1)
    values["model"] = model[0] if model else None
    sections: list[Any] = [build(section, values) for section in SECTIONS]
    options = Options(task, first, size, strength[0], *sections)
    if preview is not None:
        from irestore.cli.preview import show_on_page

        ctx.exit(show_on_page(options, model, strength, preview))
    from irestore.cli.job import restore_files

    ctx.exit(restore_files(options))


def _size(ctx: click.Context, values: dict[str, Any]) -> Size | None:
    """The one size that is asked for; what is typed beats the environment. Raises UsageError for several."""
    given = [each.name for each in fields(Sizes) if values[each.name] is not None]
    typed = [name for name in given if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    match typed or given:
        case []:
            return None
        case ["scale"]:
            return Size(factor=values["scale"])
        case ["fit"]:
            return Size(width=values["fit"][0], height=values["fit"][1])
        case [name]:
            return Size(**{name: values[name]})
        case several:
            named = " and ".join(f"--{name}" for name in several)
            raise UsageError(f"{named}: give one of them; --fit WIDTHxHEIGHT keeps within both sides")
