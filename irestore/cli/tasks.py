"""The command of each task, as `irestore.tasks` lists them: `irestore sr`, `irestore denoise`, ..."""

from typing import Any

import click

from irestore.cli.options import DEFAULT_SCALE, SECTIONS, Options, build, declared
from irestore.cli.values import share
from irestore.tasks import TASKS

SCALE = click.Option(
    ["-x", "--scale"],
    type=click.Choice(["2", "3", "4"]),
    help=f"How many times larger.  [default: {DEFAULT_SCALE}, or what the model named is made for]",
)
STRENGTH = click.Option(
    ["--strength"],
    type=share,
    default=1.0,
    show_default=True,
    metavar="0-1",
    help="How much of the restoration to take: 0 is the input, 1 all of it.",
)


class TaskCommand(click.Command):
    """A command whose `--help` shows its options in sections."""

    def __init__(self, task: str) -> None:
        self.sections = {section.__name__: declared(section) for section in SECTIONS}
        self.sections["Computing"].insert(0, SCALE if TASKS[task].enlarges else STRENGTH)
        inputs = click.Argument(["inputs"], nargs=-1, metavar="INPUT...", type=click.Path(), required=False)
        super().__init__(
            task,
            params=[inputs, *(option for options in self.sections.values() for option in options)],
            callback=_restore,
            help=TASKS[task].summary,
            context_settings={"auto_envvar_prefix": "IRESTORE"},
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One definition list a section; `--help` itself is in the last one."""
        own = self.get_help_option(ctx)
        for title, options in self.sections.items():
            shown = [*options, own] if own is not None and title == "Messages" else options
            with formatter.section(title):
                formatter.write_dl([record for each in shown if (record := each.get_help_record(ctx)) is not None])


@click.pass_context
def _restore(ctx: click.Context, /, scale: str | None = None, strength: float = 1.0, **values: Any) -> None:
    from irestore.cli.job import restore_files

    sections: list[Any] = [build(section, values) for section in SECTIONS]
    options = Options(ctx.command.name or "", scale, strength, *sections)
    ctx.exit(restore_files(options, ctx.obj))


def __getattr__(name: str) -> TaskCommand:
    """The command of a task."""
    if name not in TASKS:
        raise AttributeError(name)
    return TaskCommand(name)
