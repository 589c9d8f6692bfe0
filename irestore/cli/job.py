"""One call of a task: what was found -> the model -> the plan -> the run -> the exit code."""

import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import irestore
from irestore import images, weights
from irestore.batch.inputs import STDIN, find, read_list
from irestore.batch.naming import STDOUT
from irestore.batch.plan import EXISTS, MADE_BEFORE, Plan, Request, plan
from irestore.batch.report import Report
from irestore.cli.dryrun import show
from irestore.cli.options import Options
from irestore.errors import IrestoreError, UsageError
from irestore.tasks import TASKS
from irestore.weights.paths import sha256


@dataclass(frozen=True)
class Job:
    """What is to be done: the pictures and the model."""

    plan: Plan
    entry: weights.Entry
    path: Path | None  # of the weights; None where nothing is to be computed


def restore_files(options: Options, *, summary: bool = True) -> int:
    """Carry out a task and return the exit code. Raises IrestoreError for what concerns the run as a whole.

    `summary`: whether to tell at the end how it went; what failed is always told.
    """
    job = prepare(options)
    if not options.files.dry_run:
        return _run(options, job, summary)
    show(job.plan, job.entry, options)
    report = Report(verbosity=options.messages.verbosity, progress=False)
    _report_settled(job.plan, options, report)
    return report.totals.exit_code


def prepare(options: Options) -> Job:
    """The plan, and verified weights if there is anything to compute. Imports no torch.

    Raises UsageError for what cannot be meant, ModelError for a model that cannot be had.
    """
    files, model = options.files, options.model
    _check_alone()
    _check_streams(options)
    if not files.inputs and files.files_from is None:
        raise UsageError(f"no pictures to restore; name files or folders, as in: irestore {options.task} photos/*.png")
    listed = read_list(files.files_from) if files.files_from is not None else []
    wanted = model.candidates(options.task, options.scale)
    # Before the plan where only the file itself tells the scale, or where what is used depends on what is here.
    early = not wanted[0].scale or (files.dry_run and model.offline)
    obtained = model.obtain(wanted, quiet=options.messages.quiet) if early else None
    entry = check_fits(obtained.entry if obtained else wanted[0], options.task, options.scale)
    inputs, is_listed = [*files.inputs, *listed], files.files_from is not None
    found = list(find(inputs, recursive=files.recursive, listed=is_listed, shard=files.shard))
    request = Request(
        task=options.task,
        scale=entry.scale,
        model=name_safe(entry.name),
        output=files.output,
        template=files.name,
        overwrite=files.overwrite,
        include_restored=files.include_restored,
        load=options.pictures.load(),
        save=options.pictures.save(),
    )
    planned = plan(request, found, dry=files.dry_run)
    if not planned.items or files.dry_run:
        return Job(planned, entry, None)
    obtained = obtained or model.obtain(wanted, quiet=options.messages.quiet)
    if obtained.entry.name != entry.name and "{model" in (files.name or ""):
        planned = plan(replace(request, model=name_safe(obtained.entry.name)), found)
    return Job(planned, obtained.entry, obtained.path)


def check_fits(entry: weights.Entry, task: str, scale: str | None) -> weights.Entry:
    """The entry itself. Raises UsageError where the file of `--weights` does something else than was asked."""
    if entry.task not in ("", task):
        raise UsageError(f"{entry.name}: is made for {entry.task}; use: irestore {entry.task}")
    asked = {int(scale)} if scale else {2, 3, 4} if TASKS[task].enlarges else {1}
    if entry.scale not in asked:
        raise UsageError(f"{entry.name}: enlarges {entry.scale} times, {task} needs {' or '.join(map(str, asked))}")
    return entry


def name_safe(name: str) -> str:
    """The model's name without what a file name or a tag could not hold: the name of one's own file can be anything."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name)


def _run(options: Options, job: Job, summary: bool) -> int:
    """Report what the plan settled, restore the rest, and tell how it went."""
    messages = options.messages
    report = Report(
        total_pixels=job.plan.pixels,
        verbosity=messages.verbosity,
        records=sys.stdout if messages.json else None,
        progress=not messages.no_progress,
    )
    _report_settled(job.plan, options, report)
    totals, stop = report.totals, None
    try:
        if job.path is not None and not (options.files.fail_fast and totals.failed):
            _restore(options, job, job.path, report)
    except (IrestoreError, OSError, KeyboardInterrupt) as error:
        stop = error
    report.close()
    worked = stop is None or totals.done or isinstance(stop, KeyboardInterrupt)  # else the error says it all
    if summary and worked and not messages.quiet:
        report.say(f"irestore: {totals.summary()}")
        if stop is not None:
            report.say("irestore: stopped before the end; what is done is kept, the same command does the rest")
    if stop is not None:
        raise stop
    if not (options.files.fail_fast and totals.failed):
        totals.check_complete(len(job.plan.items) + len(job.plan.settled))
    return totals.exit_code


def _restore(options: Options, job: Job, path: Path, report: Report) -> None:
    """Load the network, once a device, and run the plan. Only here torch is imported."""
    from irestore.batch.pool import Pool
    from irestore.batch.restorer import Restorer
    from irestore.batch.run import RunOptions, run

    devices, settings = options.computing.begin(), options.computing.settings()
    alpha, strength = options.pictures.alpha, options.strength
    networks = [weights.read(job.entry, path, device) for device in devices]
    restorers = [Restorer(network, job.entry.name, settings, alpha=alpha, strength=strength) for network in networks]
    if options.messages.verbose:
        report.say(f"irestore: {job.entry.name} on {', '.join(map(str, devices))}")
    tag = images.provenance(irestore.__version__, name_safe(job.entry.name), job.entry.sha256 or sha256(path))
    provenance = f"{tag} task={options.task}"
    run_options = RunOptions(
        load=options.pictures.load(),
        save=replace(options.pictures.save(), provenance=provenance, overwrite=options.files.overwrite),
        keep_alpha=options.pictures.alpha != "drop",
        fail_fast=options.files.fail_fast,
        # Not by what is left to do, nor by how small a shard is: run again, or in shards, it gives the same bytes.
        side_by_side=options.files.shard.count > 1
        or sum(item.frames for item in job.plan.items) + len(job.plan.settled) > 1,
    )
    report.started()
    run(job.plan.items, Pool(restorers), report, run_options)


def _report_settled(planned: Plan, options: Options, report: Report) -> None:
    """Report what was settled by the plan already."""
    files = options.files
    for outcome in planned.settled:
        report.add(outcome)
    reasons = [outcome.reason for outcome in planned.settled]
    if made := reasons.count(MADE_BEFORE):
        report.note(f"{made} skipped, which irestore made itself; --include-restored takes them too")
    if kept := reasons.count(EXISTS):
        report.note(f"{kept} skipped, whose result exists already; --overwrite makes it again")
    if not planned.items and not planned.settled:
        of_shard = f" of shard {files.shard}" if files.shard.count > 1 else ""
        report.note(f"no pictures{of_shard} found in {', '.join(files.inputs) or files.files_from}")


def _check_alone() -> None:
    """Check that this is no process of several that torchrun has started. Raises UsageError."""
    count = os.environ.get("WORLD_SIZE", "1")
    if "RANK" in os.environ and count != "1":
        raise UsageError(
            f"torchrun (WORLD_SIZE={count}): its processes would all do the same; start one without it, with "
            "--device cuda:all for several GPUs, or one a machine, with --shard"
        )


def _check_streams(options: Options) -> None:
    """Check that standard input and output each have one use. Raises UsageError."""
    files = options.files
    if STDIN in files.inputs and files.output is None:
        raise UsageError("-: a picture from standard input needs -o: a file, or - for standard output")
    if files.output == STDOUT and options.messages.json:
        raise UsageError("-o - and --json both need standard output; choose one")
    if files.output == STDOUT and sys.stdout.isatty() and not files.dry_run:
        raise UsageError("-o -: standard output is a terminal; redirect it into a file or a pipe")
    if files.shard.count > 1 and (files.output == STDOUT or STDIN in files.inputs):
        raise UsageError("-: --shard takes its part of files, and writes files; leave it out for a pipe")
    if files.files_from == STDIN and STDIN in files.inputs:
        raise UsageError("standard input is either a picture (-) or a list (--files-from -), not both")
