"""The `irestore` command: the root group, and `main`, which turns every outcome into an exit code (see EPILOG).

Commands are imported when they are called, so that `--help` and `--version` cost no more than Click.
"""

import atexit
import difflib
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from irestore import __version__
from irestore.cli.signals import Interrupted, stop_signals
from irestore.errors import IrestoreError, UsageError, one_line, say
from irestore.tasks import TASKS

# Every command that is no task: what it does; irestore.cli has a module of its name, and that a function of its name.
OTHERS = {
    "models": "List, download, verify and remove models.",
    "compare": "Show pictures under a slider, on a page of one file, or on a contact sheet.",
    "eval": "Measure a model: PSNR and SSIM on a folder of clean pictures.",
    "inspect": "Look into a network: magnitude and entropy of its features, block by block.",
    "doctor": "Check this machine: versions, devices, memory, Hub, exactness.",
    "completion": "Print the completion script of a shell.",
}
COMMANDS = {name: task.summary for name, task in TASKS.items()} | OTHERS

GARBAGE = 10_000  # new objects after which Python looks for garbage; at its own 700 that is a sixth of a short run

EPILOG = """\b
irestore sr -x4 photos/*.png         writes photos/NAME_x4.png beside each
irestore sr -x2 -r photos -o large/  the whole tree below photos, kept
irestore denoise - -o - <a.png >b.png

Every option of a task can be set in the environment: IRESTORE_DEVICE=cpu, IRESTORE_MAX_MEMORY=6G, ...

Exit codes: 0 done or skipped, 1 a picture failed, 2 usage, 3 model unavailable, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM.
"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"irestore.cli.{cmd_name if cmd_name in OTHERS else 'tasks'}")
        command = module.TaskCommand(cmd_name) if cmd_name in TASKS else getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As Click's; `help sr` is `sr --help`, and a picture is told where it goes."""
        if args[0] == "help":
            args = [*args[1:], "--help"]
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(_no_command(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _no_command(name: str) -> str:
    """What to say about a word that is no command."""
    if Path(name).suffix or os.path.exists(name):  # noqa: PTH110 Path raises for long names
        return f"{name} is no command: say first what to do with it, as in: irestore sr {name}"
    *before, last = name.split(",")
    if before and {*before, last} <= TASKS.keys():
        return f"no such command {name!r}; several tasks at once: irestore {last} --first {' --first '.join(before)}"
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(COMMANDS)}"
    return f"no such command {name!r}; {hint}"


@click.group(
    cls=LazyGroup,
    name="irestore",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "IRESTORE"},
)
@click.version_option(__version__, "-V", "--version", prog_name="irestore")
def root() -> None:
    """Restore photographs with Global-LN networks: exact by tiles, in bounded memory."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error is one line on stderr."""
    # Threads that wait for each other sleep instead of spinning: on a busy machine that is several times as fast. Read
    # by OpenMP when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    gc.set_threshold(GARBAGE)
    atexit.register(gc.freeze)  # else Python walks through all of torch once more at its end
    # Streams that the caller has closed (`>&-`) get stand-ins of their own numbers, which no other file may have.
    sys.stdin = sys.stdin or os.fdopen(os.open(os.devnull, os.O_RDONLY))
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")  # every write fails
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    code = _run(sys.argv[1:] if arguments is None else list(arguments))
    try:
        sys.stdout.flush()
    except OSError:  # it has been told; without this Python tries once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(arguments: Sequence[str]) -> int:
    told: object
    try:
        # Left before any message: a signal that comes later than the work ends the process as it would any other.
        with stop_signals():
            if any("\0" in argument for argument in arguments):
                raise UsageError("an argument contains a NUL character, which no file name can contain")
            code: int = root.main(arguments, "irestore", standalone_mode=False, obj=arguments) or 0
            sys.stdout.flush()
            return code
    except click.ClickException as error:
        if not all(map(str.isprintable, arguments)):  # Click repeats some of what was typed
            error = click.UsageError(one_line(error.format_message()), getattr(error, "ctx", None))
        error.show()
        return error.exit_code
    except click.Abort as abort:
        cause = abort.__cause__ or abort.__context__
        return cause.exit_code if isinstance(cause, Interrupted) else 130
    except Interrupted as interrupted:
        return interrupted.exit_code
    except BrokenPipeError:  # the reader of our stdout has gone, as in `irestore models | head -1`
        return 1
    except IrestoreError as error:
        told, code = error, error.exit_code
    except MemoryError:
        told, code = "there is not enough memory; close other programs, or give fewer or smaller pictures", 1
    except ImportError as error:
        told, code = f"a library cannot be loaded ({error}); free some memory, or install irestore again", 1
    except OSError as error:  # without a name it is standard output: other files are opened, read and written by name
        told, code = error if error.filename else f"standard output: cannot be written: {error.strerror}", 1
    say(told)
    return code
