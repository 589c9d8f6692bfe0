"""A run on a Ray cluster: this process plans, hands out and reports; actors restore, by the `run` of one process.

An actor that dies, alone or with its machine, is replaced, and the pictures it was at are done again at the end: each
alone then, so that one which kills whoever restores it takes no others along.
"""

import contextlib
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from irestore.batch.files import RunOptions
from irestore.batch.inputs import Item
from irestore.batch.plan import EXISTS
from irestore.batch.pool import Pool
from irestore.batch.progress import attend
from irestore.batch.report import Collected, Outcome, Report
from irestore.batch.restorer import BATCH_PIXELS, MOST_BESIDE, Restorer
from irestore.batch.run import UNFORESEEN, run
from irestore.devices import keep_freed_memory
from irestore.errors import IrestoreError, RestoreError, UsageError, install_command

try:
    import ray
except ImportError as error:
    raise UsageError(f"--ray needs an extra, here and on every machine: {install_command('ray')}") from error

ATTEMPTS = 3  # at a picture whose actors die, and at starting an actor
GPU_CALLS = 4  # at once, so that a GPU computes while others read and write
POLL_SECONDS, PATIENCE_SECONDS = 0.1, 30.0


@dataclass(frozen=True)
class Workers:
    """The actors that a cluster has room for: on "cuda" one a GPU, on "cpu" one for so many threads."""

    device: str
    threads: int
    count: int

    def __str__(self) -> str:
        return f"{self.count} workers of {'a GPU' if self.device == 'cuda' else f'{self.threads} CPU threads'} each"

    def run(self, items: Sequence[Item], restorer: Restorer, report: Report, options: RunOptions) -> None:
        """As `irestore.batch.run.run`, on the cluster that is connected; `restorer` has the networks, on a CPU.

        Raises RestoreError where no actor can be started.
        """
        driver = _Driver(self, items, restorer, report, options)
        with contextlib.redirect_stdout(sys.stderr):  # Ray prints what it has to say of deaths, some at its end
            attend(driver.work, 1, report.tick, driver.stop)
            ray.shutdown()
        if driver.cause is not None:
            raise driver.cause


@contextlib.contextmanager
def connected(address: str, device: str, threads: int | None) -> Iterator[Workers]:
    """Inside, the cluster of that address is connected, or a new one of this machine ("local"). Raises UsageError."""
    if device not in ("auto", "cuda", "cpu"):
        raise UsageError(f"--device {device}: with --ray it is auto, cuda or cpu; every GPU of the cluster is taken")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports each start to its makers
    terminated, sleeping = signal.getsignal(signal.SIGTERM), {"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}}
    try:
        ray.init(address, logging_level="ERROR", log_to_driver=False, runtime_env=sleeping)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"--ray {address}: cannot be reached ({error}); name local, or HOST:PORT of its head"
        ) from error
    try:
        signal.signal(signal.SIGTERM, terminated)  # which Ray has taken
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus, cpus = ([int(node.get(kind, 0)) for node in nodes] for kind in ("GPU", "CPU"))
        if device == "cuda" or (device == "auto" and any(gpus)):
            workers = Workers("cuda", 1, sum(gpus))
        else:
            # Those of the smallest machine, up to the number that is of use: the same cluster gives the same bytes.
            threads = threads or min([MOST_BESIDE, *filter(None, cpus)])
            workers = Workers("cpu", threads, sum(count // threads for count in cpus))
        if not workers.count:
            lacking = "a GPU" if workers.device == "cuda" else f"{workers.threads} CPUs"
            raise UsageError(f"--ray {address}: no machine there has {lacking}; see --device and --threads")
        yield workers
    finally:
        ray.shutdown()


class _Worker:
    """An actor: networks on a GPU or on some threads of a CPU, and a thread of its own for each call."""

    def __init__(self, restorer: Restorer, options: RunOptions, workers: Workers, folder: str) -> None:
        with contextlib.suppress(OSError):
            os.chdir(folder)  # relative paths mean what they mean to the driver
        torch.set_num_threads(workers.threads)
        keep_freed_memory()
        self._pool, self._options = Pool([restorer.on(workers.device)]), options

    def restore(self, items: Sequence[Item]) -> tuple[list[tuple[Outcome, int]], list[str], IrestoreError | None]:
        """Outcomes, each with pixels; the notes on them; and why no more is to be tried, as where a disk is full."""
        report = Collected(progress=False)
        try:
            run(items, self._pool, report, self._options)
        except IrestoreError as error:
            return report.outcomes, report.notes, error
        return report.outcomes, report.notes, None


@dataclass(eq=False)
class _Actor:
    """An actor as the driver sees it. Calls are known by what Ray gives to wait for."""

    handle: Any
    begins: Any  # a call too; None once it is ready
    calls: dict[Any, Sequence[Item]] = field(default_factory=dict)  # the pictures that it is at


class _Driver:
    """Hands out pictures, a bounded number at once, and reports what comes back."""

    def __init__(
        self, workers: Workers, items: Sequence[Item], restorer: Restorer, report: Report, options: RunOptions
    ) -> None:
        gpu = workers.device == "cuda"
        self.report, self.options = report, options
        self.cause: BaseException | None = None  # of a stop, after which nothing more is handed out
        self.stopped, self.failed_starts = False, 0
        self.todo = deque(_calls(items, BATCH_PIXELS if gpu else 0))
        self.again: deque[list[Item]] = deque()  # whose actor has died
        self.deaths = Counter[Path]()
        self.most = GPU_CALLS if gpu else workers.threads + 1  # calls of an actor
        resources = {"num_gpus": 1} if gpu else {"num_cpus": workers.threads}
        self._class = ray.remote(max_concurrency=self.most, **resources)(_Worker)
        self._arguments = ray.put(restorer), ray.put(options), workers, str(Path.cwd())
        self.actors = [self._started() for _ in range(min(workers.count, len(self.todo)))]

    def _started(self) -> _Actor:
        handle = self._class.remote(*self._arguments)
        return _Actor(handle, handle.__ray_ready__.remote())

    def stop(self, cause: BaseException | None) -> None:
        """Hand out nothing more; after a second Ctrl-C give up all, which raises it."""
        if isinstance(cause, KeyboardInterrupt):
            if isinstance(self.cause, KeyboardInterrupt):
                raise cause
            self.cause = cause
            self.report.note("what is being restored is finished, nothing more is begun; Ctrl-C gives that up too")
        self.cause, self.stopped = self.cause or cause, True

    def work(self) -> None:
        """Until nothing is left, or after a stop nothing comes back any more."""
        patience = time.monotonic() + PATIENCE_SECONDS
        try:
            while any(actor.calls for actor in self.actors) or ((self.todo or self.again) and not self.stopped):
                if not self.stopped:
                    self._hand_out()
                awaited = {ref: actor for actor in self.actors for ref in (actor.begins, *actor.calls) if ref}
                for ref in ray.wait([*awaited], timeout=POLL_SECONDS)[0]:
                    self._take_back(awaited[ref], ref)
                if time.monotonic() > patience and all(actor.begins for actor in self.actors):
                    self.report.note("no machine of the cluster has room for a worker yet; waiting")
                    patience = float("inf")
        except BaseException as error:
            self.stop(error)

    def _hand_out(self) -> None:
        """Keep the actors busy, the idlest first; pictures that are done again come last, one at a time in an actor."""
        queue, most = (self.todo, self.most) if self.todo else (self.again, 1)
        while queue and (ready := [actor for actor in self.actors if not actor.begins]):
            actor = min(ready, key=lambda each: len(each.calls))
            if len(actor.calls) >= most:
                break
            items = queue.popleft()
            self.report.present(items[0].input.path)
            actor.calls[actor.handle.restore.remote(items)] = items

    def _take_back(self, actor: _Actor, ref: Any) -> None:
        """Report what a call has done, or replace an actor that has died."""
        try:
            answer = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            return self._bury(actor, error)
        if ref == actor.begins:
            actor.begins, self.failed_starts = None, 0
            return
        items = {item.input.path: item for item in actor.calls.pop(ref)}
        outcomes, notes, cause = answer
        for note in notes:
            self.report.note(note)
        for outcome, pixels in outcomes:
            self._conclude(items[outcome.input], outcome, pixels)
        if cause is not None:
            self.stop(cause)

    def _bury(self, actor: _Actor, error: Exception) -> None:
        """Replace an actor, and have its pictures done again; those for which that is once too often have failed."""
        ray.kill(actor.handle)  # one that cannot be reached may live
        self.actors.remove(actor)
        self.failed_starts += bool(actor.begins)
        if self.failed_starts == ATTEMPTS:
            raise RestoreError(f"no worker can be started on the cluster: {str(error).strip().splitlines()[-1]}")
        self.actors.append(self._started())
        for item in (item for items in actor.calls.values() for item in items):
            path = item.input.path
            self.deaths[path] += 1
            if self.deaths[path] < ATTEMPTS:
                self.again.append([item])
            else:
                reason = f"{path}: its worker died {ATTEMPTS} times; where memory is short, --max-memory helps"
                self._conclude(item, Outcome("failed", path, item.target, reason))

    def _conclude(self, item: Item, outcome: Outcome, pixels: int = 0) -> None:
        """Report what became of an item."""
        if self.options.fail_fast and outcome.status == "failed":
            if self.stopped:
                return  # only the first is told
            self.stop(None)
        if outcome.input in self.deaths and outcome.reason == EXISTS:  # made by the actor that died
            outcome, pixels = replace(outcome, status="done", reason="", output_size=item.chain.size), item.pixels
        self.report.add(outcome, pixels)
        self.report.advance(item.work, computed=outcome.status == "done")
        self.report.concluded(0)
        if self.report.unforeseen >= UNFORESEEN:
            self.stop(RestoreError(f"{UNFORESEEN} pictures in a row failed for reasons that nobody foresaw"))


def _calls(items: Sequence[Item], most_pixels: int) -> list[list[Item]]:
    """The items, in order, as many in one call as have so many pixels together, but at least one."""
    calls: list[list[Item]] = []
    room = 0
    for item in items:
        if item.work > room:
            calls.append([])
            room = most_pixels
        calls[-1].append(item)
        room -= item.work
    return calls
