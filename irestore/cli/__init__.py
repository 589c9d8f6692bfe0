"""The `irestore` command: the root group, and `main`, which turns every outcome into an exit code.

    0    every picture is done, or was done before
    1    a picture failed (the others are done)
    2    an option or argument makes no sense
    3    the model cannot be had
    130  stopped by Ctrl-C
    143  stopped by SIGTERM

Commands are imported when they are called, so that `--help` and `--version` cost no more than Click.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from irestore import __version__
from irestore.cli.signals import Interrupted, stop_signals
from irestore.errors import IrestoreError, UsageError, one_line
from irestore.tasks import TASKS

# Every command that is no task: (module, attribute, what it does)
OTHERS = {
    "models": ("irestore.cli.models", "models", "List, download, verify and remove models."),
    "eval": ("irestore.cli.eval", "command", "Measure a model: PSNR and SSIM on a folder of clean pictures."),
    "doctor": ("irestore.cli.doctor", "doctor", "Check this machine: versions, devices, memory, Hub, exactness."),
    "completion": ("irestore.cli.completion", "completion", "Print the completion script of a shell."),
}
COMMANDS = {name: task.summary for name, task in TASKS.items()} | {name: row[2] for name, row in OTHERS.items()}

EPILOG = """\b
irestore sr -x4 photos/*.png         writes photos/NAME_x4.png beside each
irestore sr -x2 -r photos -o large/  the whole tree below photos, kept
irestore denoise - -o - <a.png >b.png

Every option of a task can be set in the environment: IRESTORE_DEVICE=cpu, IRESTORE_MAX_MEMORY=6G, ...

Exit codes: 0 all done or skipped, 1 a picture failed, 2 usage, 3 model unavailable, 130 Ctrl-C, 143 SIGTERM.
"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None when there is none of that name."""
        if cmd_name in TASKS:
            module, attribute = "irestore.cli.tasks", cmd_name
        elif cmd_name in OTHERS:
            module, attribute, _ = OTHERS[cmd_name]
        else:
            return None
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    name="irestore",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "IRESTORE"},
)
@click.version_option(__version__, "-V", "--version", prog_name="irestore")
def root() -> None:
    """Restore photographs with Global-LN transformers: exact by tiles, in bounded memory."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error is one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _replace_closed_streams()
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python writes once more at its end
        if isinstance(error, BrokenPipeError):  # the reader has gone, as in `irestore models | head -1`
            return 1
        return _told(f"standard output: cannot be written: {error.strerror}", 1)
    return code


def _run(arguments: Sequence[str]) -> int:
    """The exit code; everything that went wrong is told."""
    try:
        # Left before any message: a signal that comes later than the work ends the process as it would any other.
        with stop_signals():
            if any("\0" in argument for argument in arguments):
                raise UsageError("an argument contains a NUL character, which no file name can contain")
            code = root.main(arguments, "irestore", standalone_mode=False, obj=arguments)
            return code if isinstance(code, int) else 0
    except click.ClickException as error:
        if not all(map(str.isprintable, arguments)):  # Click repeats some of what was typed
            click.UsageError(one_line(error.format_message()), getattr(error, "ctx", None)).show()
        else:
            error.show()
        return error.exit_code
    except IrestoreError as error:
        return _told(error, error.exit_code)
    except click.Abort as abort:
        cause = abort.__cause__ or abort.__context__
        return cause.exit_code if isinstance(cause, Interrupted) else 130
    except Interrupted as interrupted:
        return interrupted.exit_code
    except MemoryError:
        return _told("there is not enough memory; close other programs, or give fewer or smaller pictures", 1)
    except (ImportError, OSError) as error:
        try:
            sys.stdout.flush()
        except OSError:  # that was it: told by `main`
            return 1
        return _told(error, 1)


def _told(text: object, code: int) -> int:
    print(f"irestore: {one_line(text)}", file=sys.stderr)
    return code


def _replace_closed_streams() -> None:
    """Stand in for standard streams that the caller has closed: input is empty, output fails, messages are lost.

    In this order each gets its own number again, which no other file may have.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
