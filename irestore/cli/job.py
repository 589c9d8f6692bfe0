"""One call of a task: what was found -> the model -> the plan -> the run -> the exit code."""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from irestore import __version__, images, weights
from irestore.batch.chain import Size, Step
from irestore.batch.inputs import STDIN, find, read_list
from irestore.batch.naming import STDOUT, name_safe, names_picture
from irestore.batch.plan import Plan, Request, plan
from irestore.batch.remote import stand_ins
from irestore.batch.report import Report
from irestore.cli.choice import candidates, check_fits, explain, obtain
from irestore.cli.dryrun import show
from irestore.cli.options import DEFAULT_SCALE, Options
from irestore.cli.tell import circumstances, hint, report_plan
from irestore.errors import IrestoreError, UsageError, say
from irestore.tasks import TASKS
from irestore.weights.paths import sha256


@dataclass(frozen=True)
class Job:
    """What is to be done: the pictures, the tasks in their order, and the model for each step that a picture needs."""

    plan: Plan
    tasks: tuple[str, ...]
    entries: Mapping[Step, weights.Entry]
    paths: Mapping[Step, Path]  # of their weights; none where nothing is to be computed


def restore_files(options: Options) -> int:
    """Carry out a task and return the exit code. Raises IrestoreError for what concerns the run as a whole."""
    with ExitStack() as stack:
        options = _connected(options, stack)
        job = prepare(options, stack)
        if not options.files.dry_run:
            return run_job(options, job)
    show(job.plan, job.entries, options)
    records = sys.stdout if options.messages.json else None
    report = Report(verbosity=options.messages.verbosity, records=records, progress=False)
    report_plan(job.plan, job.tasks, job.entries, options, report)
    return report.totals.exit_code


def prepare(options: Options, stack: ExitStack) -> Job:
    """The plan, and verified weights if there is anything to compute. Imports torch only to find the device.

    Raises UsageError for what cannot be meant, ModelError for a model that cannot be had. `stack`: what URLs need.
    """
    files, model, is_listed = options.files, options.model, options.files.files_from is not None
    _check_alone()
    _check_streams(options)
    if not files.inputs and not is_listed:
        raise UsageError(f"no pictures to restore; name files or folders, as in: irestore {options.task} photos/*.png")
    _tell_of_folder(options)
    listed = read_list(files.files_from) if files.files_from is not None else []
    wanted = _candidates(options)
    *_, last = wanted
    inputs, output = stand_ins([*files.inputs, *listed], files.output, stack, recursive=files.recursive)
    found = list(find(inputs, recursive=files.recursive, listed=is_listed, shard=files.shard))
    request = Request(
        tasks=tuple(dict.fromkeys(step.task for step in wanted)),
        models={step: entries[0].name for step, entries in wanted.items()},
        size=options.size or Size(factor=last.scale if model.named else DEFAULT_SCALE),
        output=output,
        template=files.name,
        overwrite=files.overwrite,
        redo=files.redo,
        include_restored=files.include_restored,
        load=options.pictures.load(),
        save=options.pictures.save(),
    )
    planned = plan(request, found, dry=files.dry_run)
    for step in planned.steps:
        explain(wanted[step], quiet=options.messages.quiet)
    if files.dry_run and not model.offline:
        return Job(planned, request.tasks, {step: wanted[step][0] for step in planned.steps}, {})
    # What another model made is never made again by a smaller one, which only took its place.
    insisted = {step: wanted[step][:1] if files.redo else wanted[step] for step in planned.steps}
    obtained = {step: obtain(model, each, quiet=options.messages.quiet) for step, each in insisted.items()}
    names = {step: each.entry.name for step, each in obtained.items()}
    if not names.items() <= request.models.items():  # others had to take their place
        planned = plan(replace(request, models={**request.models, **names}), found, dry=files.dry_run)
    entries = {step: each.entry for step, each in obtained.items()}
    return Job(planned, request.tasks, entries, {step: each.path for step, each in obtained.items()})


def _candidates(options: Options) -> dict[Step, tuple[weights.Entry, ...]]:
    """For each step that a picture may need, in order, the models that may take it, best first.

    Raises UsageError, and UnknownModelError.
    """
    model, computing, wanted = options.model, options.computing, {}
    for first in options.first:
        named = None if first in TASKS else weights.find(first, weights.entries(model.manifest))
        step = Step(named.task if named else first, 1)
        if step in wanted or step.task == options.task:
            raise UsageError(f"--first {first}: {step.task} is to be done already; leave it out")
        if TASKS[step.task].enlarges:
            raise UsageError(
                f"--first {first}: enlarges, so it comes last: irestore {step.task} --first {options.task}"
            )
        other = replace(model, model=named.name if named else None, weights=None, architecture=None, config=())
        wanted[step] = candidates(other, computing, step.task, None)
    if TASKS[options.task].enlarges and not model.named:
        for scale in (2, 3, 4):
            found = candidates(model, computing, options.task, scale)
            own = tuple(entry for entry in found if entry.sources != "lossy") or found
            wanted[Step(options.task, scale)] = own
            every = weights.candidates(options.task, scale, None, model.manifest)  # for `-m fast` too
            lossy = tuple(entry for entry in every if entry.sources == "lossy" and entry not in own)
            if lossy and own[0].bundled:
                wanted[Step(options.task, scale, lossy=True)] = (*lossy, *own)
        return wanted
    own = candidates(model, computing, options.task, None)
    if not own[0].scale:  # which only the file itself tells
        own = (obtain(model, own, quiet=options.messages.quiet).entry,)
    return wanted | {Step(options.task, check_fits(own[0], options.task, None).scale): own}


def _connected(options: Options, stack: ExitStack) -> Options:
    """The options, with the workers of `--ray` and where they compute, by which the default model is chosen."""
    if options.files.ray is None or options.files.dry_run:
        return options
    from irestore.batch.cluster import connected

    computing = options.computing
    workers = stack.enter_context(connected(options.files.ray, computing.device, computing.threads))
    computing = replace(computing, device=workers.device, threads=workers.threads)
    return replace(options, computing=computing, workers=workers)


def run_job(options: Options, job: Job, *, summary: bool = True) -> int:
    """Report what the plan settled, restore the rest, and return the exit code. Raises as `restore_files`.

    `summary`: whether to tell at the end how it went; what failed is always told.
    """
    messages = options.messages
    report = Report(
        total_pixels=job.plan.work,
        pictures=len(job.plan.items),
        verbosity=messages.verbosity,
        records=sys.stdout if messages.json else None,
        progress=not messages.no_progress,
    )
    report_plan(job.plan, job.tasks, job.entries, options, report)
    totals, stop = report.totals, None
    try:
        if job.plan.items and not (options.files.fail_fast and totals.failed):
            _restore(options, job, report)
    except (IrestoreError, OSError, KeyboardInterrupt) as error:
        stop = error
    report.close()
    worked = stop is None or totals.done or isinstance(stop, KeyboardInterrupt)  # else the error says it all
    if summary and worked and not messages.quiet:
        if stop is not None:
            report.say("irestore: stopped before the end; what is done is kept, the same command does the rest")
        for line in report.summary():
            report.say(f"irestore: {line}")
    if stop is not None:
        raise stop
    if not (options.files.fail_fast and totals.failed):
        totals.check_complete(len(job.plan.items) + len(job.plan.settled))
    return totals.exit_code


def _restore(options: Options, job: Job, report: Report) -> None:
    """Load the networks, once a device, and run the plan. Only here torch is imported."""
    from irestore.batch.files import RunOptions
    from irestore.batch.pool import Pool
    from irestore.batch.restorer import Restorer
    from irestore.batch.run import run

    computing, settings = options.computing, options.computing.settings()
    if options.workers is not None:  # here only what the workers are to do is prepared
        on_cpus = options.workers.device == "cpu"
        computing = replace(computing, device="cpu", precision=computing.precision if on_cpus else "auto")
    devices = computing.begin()
    where = str(options.workers or ", ".join(map(str, devices)))
    alpha, strength = options.pictures.alpha, options.strength
    restorers = []
    for device in devices:
        networks = {step: weights.read(entry, job.paths[step], device) for step, entry in job.entries.items()}
        restorers.append(Restorer(networks, settings, alpha=alpha, strength=strength))
    if options.messages.verbose:
        for line in circumstances(job.plan, networks, where, options):
            report.say(f"irestore: {line}")
    used, tasks = {}, job.tasks  # for a cluster, to which the whole job would be too much to send
    for step, entry in job.entries.items():
        used[step] = name_safe(entry.name), entry.sha256 or sha256(job.paths[step])
    run_options = RunOptions(
        load=options.pictures.load(),
        save=replace(options.pictures.save(), overwrite=options.files.overwrite),
        provenance=lambda item: images.provenance(__version__, (used[step] for step in item.chain.steps), tasks),
        keep_alpha=options.pictures.alpha != "drop",
        fail_fast=options.files.fail_fast,
        # Not by what is left to do, nor by how small a shard is: run again, or in shards, it gives the same bytes.
        side_by_side=options.files.shard.count > 1
        or sum(item.frames for item in job.plan.items) + len(job.plan.settled) > 1,
    )
    report.started(lambda seconds: hint(seconds, job.entries, where, options))
    if options.workers is None:
        if not run_options.side_by_side:  # one picture in all
            restorers[0].share(restorers[1:])
        run(job.plan.items, Pool(restorers if run_options.side_by_side else restorers[:1]), report, run_options)
    else:
        options.workers.run(job.plan.items, restorers[0], report, run_options)


def _check_alone() -> None:
    """Check that this is no process of several that torchrun has started. Raises UsageError."""
    count = os.environ.get("WORLD_SIZE", "1")
    if "RANK" in os.environ and count != "1":
        raise UsageError(
            f"torchrun (WORLD_SIZE={count}): its processes would all do the same; start one without it, with "
            "--device cuda:all for several GPUs, or one a machine, with --shard"
        )


def _tell_of_folder(options: Options) -> None:
    """Say that -o is a new folder, where its name looks like that of a file."""
    output = options.files.output or ""
    suffix = os.path.splitext(output)[1]  # noqa: PTH122 Path drops a final slash, which says that it is a folder
    if suffix and not (names_picture(output) or os.path.isdir(output) or options.messages.quiet):  # noqa: PTH112 as in plan
        say(f"-o {output}: is a folder, since {suffix} is no picture's suffix; for a file use .png, .jpg, ...")


def _check_streams(options: Options) -> None:
    """Check that standard input and output each have one use. Raises UsageError."""
    files = options.files
    if STDIN in files.inputs and files.output is None:
        raise UsageError("-: a picture from standard input needs -o: a file, or - for standard output")
    if files.output == STDOUT and options.messages.json:
        raise UsageError("-o - and --json both need standard output; choose one")
    if files.output == STDOUT and files.ray is not None:
        raise UsageError("-o -: --ray writes files; leave one of the two out")
    if files.output == STDOUT and sys.stdout.isatty() and not files.dry_run:
        raise UsageError("-o -: standard output is a terminal; redirect it into a file or a pipe")
    if files.shard.count > 1 and (files.output == STDOUT or STDIN in files.inputs):
        raise UsageError("-: --shard takes its part of files, and writes files; leave it out for a pipe")
    if files.files_from == STDIN and STDIN in files.inputs:
        raise UsageError("standard input is either a picture (-) or a list (--files-from -), not both")
