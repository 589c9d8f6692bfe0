"""`--preview`: what a run would make of its first pictures, and what others would, on a page instead of in files."""

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from irestore import images
from irestore.batch.inputs import STDIN, Input, find, read_list
from irestore.batch.remote import is_url
from irestore.batch.shards import WHOLE
from irestore.cli.job import prepare, restore_files, run_job
from irestore.cli.options import Files, Options
from irestore.compare import MOST, Shown, check_page, read, save_page
from irestore.errors import IrestoreError, UsageError, say
from irestore.tasks import TASKS

PICTURES = 4


def show_on_page(options: Options, models: Sequence[str], strengths: Sequence[float], page: Path) -> int:
    """Restore the first pictures by each model with each strength, and write the page; the exit code.

    The first `PICTURES` of different names are taken. A model that fails is told, and the others go on.
    """
    names: Sequence[str | None] = models or [None]
    candidates = [
        replace(options, model=replace(options.model, model=name), strength=strength)
        for name, strength in product(names, strengths)
    ]
    files = options.files
    check_page(page)
    if page.exists() and not files.overwrite:
        raise UsageError(f"--preview {page}: exists already; give another name, or --overwrite")
    if STDIN in (*files.inputs, files.files_from) or files.ray or files.dry_run or options.messages.json:
        raise UsageError("--preview shows results of files on a page: leave out -, --ray, --dry-run and --json")
    if len(candidates) >= MOST:
        raise UsageError(f"--preview: {len(candidates)} results of a picture; a page shows up to {MOST - 1}")
    paths = _first(files)
    if not paths:
        return restore_files(options)  # which says why
    with TemporaryDirectory(prefix="irestore-") as folder:
        results, code = _restored(candidates, paths.values(), Path(folder))
        made = {stem: [each for each in results if (each[1] / f"{stem}.png").exists()] for stem in paths}
        if any(made.values()):
            scenes = (
                (paths[stem].name, _shown(paths[stem], those, candidates)) for stem, those in made.items() if those
            )
            save_page(page, options.task, scenes, overwrite=files.overwrite)
            say(f"{page}: open it in a browser; nothing else was written")
    return code


def _restored(
    candidates: Sequence[Options], paths: Iterable[Path], folder: Path
) -> tuple[list[tuple[Options, Path]], int]:
    """Each candidate with the folder of its results, but for those that use the same weights as one before; exit code.

    An error of one is told, and the others go on.
    """
    results: dict[object, tuple[Options, Path]] = {}  # by the weights for each picture, and the strength
    code = 0
    for number, candidate in enumerate(candidates, 1):
        told, quiet = typed(candidate, candidates) or candidate.task, candidate.messages.quiet
        if not quiet:
            say(f"preview {number} of {len(candidates)}: {told}")
        result = candidate, folder / str(number)
        wanted = _into(result[1], candidate, paths)
        try:
            job = prepare(wanted, ExitStack())  # nothing to close: there are no URLs
            used = tuple(tuple(job.paths[step] for step in item.chain.steps) for item in job.plan.items)
            first = results.setdefault((used, candidate.strength), result)
            if first is result:
                code = max(code, run_job(wanted, job, summary=False))
            elif not quiet:
                say(f"{told} gives the same as {typed(first[0], candidates)}, which is shown")
        except IrestoreError as error:
            say(error)
            code = max(code, error.exit_code)
    return list(results.values()), code


def _first(files: Files) -> dict[str, Path]:
    """The first pictures by their stems."""
    listed = read_list(files.files_from) if files.files_from is not None else []
    paths: dict[str, Path] = {}
    inputs, is_listed = [*files.inputs, *listed], files.files_from is not None
    if any(map(is_url, inputs)):
        raise UsageError("--preview shows pictures of this machine: leave out URLs")
    for found in find(inputs, recursive=files.recursive, listed=is_listed, shard=files.shard):
        if isinstance(found, Input) and len(paths) < PICTURES:
            paths.setdefault(found.path.stem, found.path)
    return paths


def _shown(path: Path, made: Sequence[tuple[Options, Path]], candidates: Sequence[Options]) -> list[Shown]:
    """The original and its results, each labelled with the options that made it."""
    targets = [folder / f"{path.stem}.png" for _, folder in made]
    before, *after = read([path, *targets], sys.maxsize)
    shown = [replace(before, name=path.name)]
    for result, target, (candidate, _) in zip(after, targets, made, strict=True):
        models = re.findall(r"model=(\S+)", images.probe(target).provenance or "")
        strength = f"strength {candidate.strength:g}" if candidate.strength < 1 else ""
        option = typed(candidate, candidates) or "the same command without --preview"
        shown.append(replace(result, name=" then ".join(models) or "result", facts=strength, option=option))
    return shown


def typed(candidate: Options, candidates: Sequence[Options]) -> str:
    """The options to type to get what this candidate gives."""
    options = [word for first in candidate.first for word in ("--first", first)]
    options += ["-m", candidate.model.model] if candidate.model.model is not None else []
    if not TASKS[candidate.task].enlarges and len({each.strength for each in candidates} | {1.0}) > 1:
        options += ["--strength", f"{candidate.strength:g}"]
    return shlex.join(options)


def _into(folder: Path, candidate: Options, paths: Iterable[Path]) -> Options:
    """The candidate with these pictures as inputs, and PNG files of their names in the folder as results."""
    inputs = tuple(map(str, paths))
    files = replace(
        candidate.files, inputs=inputs, files_from=None, output=f"{folder}/", name="{stem}{ext}", shard=WHOLE
    )
    pictures = replace(candidate.pictures, format="png", quality=None, lossless=None)
    return replace(candidate, files=files, pictures=pictures)
