"""One call of a task: options -> plan and model -> run -> summary and exit code."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from irestore import weights
from irestore.batch import ranks as distributed
from irestore.batch.inputs import STDIN, find, read_list
from irestore.batch.naming import STDOUT
from irestore.batch.plan import EXISTS, MADE_BEFORE, Plan, Request, plan
from irestore.batch.report import Report
from irestore.cli.chosen import candidates, check_fits, load_options, provenance, save_options, tag_safe
from irestore.cli.options import Options
from irestore.errors import IrestoreError, UsageError


@dataclass(frozen=True)
class Job:
    """What rank 0 decides for all: the pictures and the model."""

    plan: Plan
    entry: weights.Entry
    path: Path | None  # of the weights on the host of rank 0; None where nothing is to be computed


def restore_files(task: str, options: Options, arguments: Sequence[str]) -> int:
    """Carry out a task; the exit code. Raises IrestoreError for what concerns the run as a whole.

    `arguments` is the whole command line, for `--device cuda:all`, which runs it once a GPU.
    """
    ranks = distributed.ranks()
    if options.device == "cuda:all" and ranks.size == 1 and (count := _count_gpus()) > 1 and not options.dry_run:
        return distributed.launch(arguments, count)
    try:
        ranks.join()
        return _restore_files(task, options, ranks)
    finally:
        ranks.leave()


def _restore_files(task: str, options: Options, ranks: distributed.Ranks) -> int:
    try:
        job = _shared(ranks, task, options)
    except IrestoreError as error:
        if ranks.rank > 0:  # rank 0 has told it
            return error.exit_code
        raise
    if options.dry_run and ranks.rank > 0:
        return 0
    if options.dry_run:
        from irestore.cli.dryrun import show

        show(job.plan, job.entry, options)
        return _settle(job.plan, options, Report(verbosity=_verbosity(options), progress=False)).totals.exit_code
    return _run(task, options, job, ranks)


def _shared(ranks: distributed.Ranks, task: str, options: Options) -> Job:
    """The job, decided by rank 0. Its error is raised on every rank."""
    if ranks.rank > 0:
        return ranks.broadcast(None)
    try:
        job = prepare(task, options)
    except IrestoreError as error:
        if ranks.size > 1:
            ranks.broadcast(error)
        raise
    return ranks.broadcast(job)


def prepare(task: str, options: Options) -> Job:
    """The plan, and verified weights if there is anything to compute. Imports no torch.

    Raises UsageError for what cannot be meant, ModelError for a model that cannot be had.
    """
    _check_streams(options)
    listed = read_list(options.files_from) if options.files_from is not None else []
    if not options.inputs and options.files_from is None:
        raise UsageError(f"no pictures to restore; name files or folders, as in: irestore {task} photos/*.png")
    wanted = candidates(task, options)
    # Before the plan where only the file itself tells the scale, or where what is used depends on what is here.
    early = not wanted[0].scale or (options.dry_run and options.offline)
    obtained = _obtain(wanted, options) if early else None
    entry = check_fits(obtained.entry if obtained else wanted[0], task, options)
    found = list(find([*options.inputs, *listed], recursive=options.recursive, listed=options.files_from is not None))
    request = Request(
        task=task,
        scale=entry.scale,
        model=tag_safe(entry.name),
        output=options.output,
        template=options.name,
        overwrite=options.overwrite,
        include_restored=options.include_restored,
        load=load_options(options),
        save=save_options(options),
    )
    planned = plan(request, found, dry=options.dry_run)
    if not planned.items or options.dry_run:
        return Job(planned, entry, None)
    obtained = obtained or _obtain(wanted, options)
    if obtained.entry.name != entry.name and "{model" in (options.name or ""):
        planned = plan(replace(request, model=tag_safe(obtained.entry.name)), found)
    return Job(planned, obtained.entry, obtained.path)


def _obtain(wanted: Sequence[weights.Entry], options: Options) -> weights.Found:
    """Verified weights, with a warning where they are not the first choice. Raises ModelError."""
    obtained = weights.obtain(wanted, offline=options.offline, model_dir=options.model_dir)
    if obtained.warning is not None and not options.quiet:
        print(f"irestore: warning: {obtained.warning}", file=sys.stderr)
    return obtained


def _run(task: str, options: Options, job: Job, ranks: distributed.Ranks) -> int:
    report = Report(
        total_pixels=job.plan.pixels,
        verbosity=_verbosity(options),
        records=sys.stdout if options.json else None,
        progress=not options.no_progress and ranks.rank == 0,
        over_ranks=ranks.advanced if ranks.size > 1 else None,
    )
    if ranks.rank == 0:
        _settle(job.plan, options, report)
    failed = options.fail_fast and any(outcome.status == "failed" for outcome in job.plan.settled)  # on all ranks
    stop: BaseException | None = None
    try:
        if job.plan.items and not failed:
            _restore(task, options, job, ranks, report)
    except (IrestoreError, KeyboardInterrupt) as error:
        stop = error
    report.close()
    totals = report.totals
    if not isinstance(stop, KeyboardInterrupt):
        totals = ranks.merged(totals)
    worked = stop is None or totals.done or isinstance(stop, KeyboardInterrupt)  # else the error says it all
    if not options.quiet and worked and (ranks.rank == 0 or stop is not None):
        report.say(f"irestore: {totals.summary()}")
        if stop is not None:
            report.say("irestore: stopped before the end; what is done is kept, the same command does the rest")
    if stop is not None:
        raise stop
    if not (options.fail_fast and totals.failed):
        ranks.check_complete(totals, len(job.plan.items) + len(job.plan.settled))
    return totals.exit_code


def _restore(task: str, options: Options, job: Job, ranks: distributed.Ranks, report: Report) -> None:
    """Load the network and run the plan, or this rank's share of it."""
    import torch

    from irestore import devices
    from irestore.batch.restorer import Restorer
    from irestore.batch.run import RunOptions, run
    from irestore.runner import Settings

    path = job.path
    if path is None or ranks.rank > 0:
        path = weights.locate(job.entry, offline=options.offline, model_dir=options.model_dir)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = devices.pick(_device_name(options.device))
    model = weights.read(job.entry, path, device)
    settings = Settings(tile=options.tile, precision=options.precision, max_memory=options.max_memory)
    restorer = Restorer(model, job.entry.name, settings, alpha=options.alpha, strength=options.strength)
    if options.verbose:
        report.say(f"irestore: {job.entry.name} on {device}")
    # Not by what is left to do: the same command run again must compute the rest as it would have the first time.
    several = sum(item.frames for item in job.plan.items) + len(job.plan.settled) > 1
    tag = provenance(task, job.entry, path)
    run_options = RunOptions(
        load=load_options(options),
        save=replace(save_options(options), provenance=tag, overwrite=options.overwrite),
        keep_alpha=options.alpha != "drop",
        fail_fast=options.fail_fast,
        side_by_side=several,
    )
    report.started()
    run(job.plan.items, restorer, report, run_options, ranks)


def _settle(planned: Plan, options: Options, report: Report) -> Report:
    """Report what was settled by the plan already."""
    for outcome in planned.settled:
        report.add(outcome)
    made = sum(outcome.reason == MADE_BEFORE for outcome in planned.settled)
    if made:
        report.note(f"{made} of the pictures irestore made itself: skipped; --include-restored takes them")
    kept = sum(outcome.reason == EXISTS for outcome in planned.settled)
    if kept:
        report.note(f"{kept} of the results exist already: skipped; --overwrite makes them anew")
    if not planned.items and not planned.settled:
        report.note(f"no pictures found in {', '.join(options.inputs) or options.files_from}")
    return report


def _check_streams(options: Options) -> None:
    if STDIN in options.inputs and options.output is None:
        raise UsageError("-: what is read from standard input needs -o: a file, or - for standard output")
    if options.output == STDOUT and options.json:
        raise UsageError("-o - and --json both need standard output; choose one")
    if options.output == STDOUT and sys.stdout.isatty() and not options.dry_run:
        raise UsageError("-o -: standard output is a terminal; redirect it into a file or a pipe")
    if options.files_from == STDIN and STDIN in options.inputs:
        raise UsageError("standard input is either a picture (-) or a list (--files-from -), not both")


def _verbosity(options: Options) -> int:
    return -1 if options.quiet else int(options.verbose)


def _count_gpus() -> int:
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        raise UsageError("--device cuda:all: this machine has no CUDA device; use --device auto")
    return count


def _device_name(name: str) -> str:
    """The device of this process: of several ranks on a host with GPUs, each takes its own."""
    local = os.environ.get("LOCAL_RANK")
    if name == "cuda:all" or (local is not None and name in ("auto", "cuda")):
        import torch

        count = torch.cuda.device_count()
        return f"cuda:{int(local or 0) % count}" if count else name
    return name
