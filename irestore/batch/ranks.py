"""One run on several processes (`torchrun`, `--device cuda:all`): a shared plan, each picture claimed by one rank.

Rank 0 plans and tells the others. A picture is claimed by adding one to a counter in torch.distributed's store, so fast
ranks take more, on one host or several. At the end all ranks meet; if one has died, that is an error for the others.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from irestore.batch.report import Totals
from irestore.errors import RankError

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # a rank may wait for another's last picture; a dead one is noticed at once
JOIN_SECONDS = "IRESTORE_JOIN_SECONDS"  # names how long ranks wait for each other at the start
POLL_SECONDS = 0.1
GRACE_SECONDS = 30.0  # for a rank to write what it has computed, after it was told to stop


class Ranks:
    """The processes of a run, as one of them sees them; here the only one."""

    rank = 0
    size = 1
    pixels = 0.0

    def join(self) -> None:
        """Wait until all ranks are there. Raises RankError."""

    def broadcast(self, value: T | None) -> T:
        """What rank 0 gave, on every rank; if that is an exception, it is raised on the others."""
        assert value is not None
        return value

    def claims(self, total: int) -> Iterator[int]:
        """Numbers below `total`, rising; each goes to one rank only. They end early after a `stop`."""
        yield from range(total)

    def stop(self) -> None:
        """Let no rank claim any more."""

    def advanced(self, pixels: float) -> float:
        """Add pixels done; the sum over all ranks."""
        self.pixels += pixels
        return self.pixels

    def merged(self, totals: Totals) -> Totals:
        """The sum over all ranks. Waits for them all; raises RankError if one has died."""
        return totals

    def check_complete(self, totals: Totals, planned: int) -> None:
        """Check whether every picture of the plan has an outcome. Raises RankError on rank 0."""

    def leave(self) -> None:
        """Take leave of the others."""


class Group(Ranks):
    """The ranks that `torchrun`, or `launch`, started: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say which."""

    def __init__(self) -> None:
        self.rank = int(os.environ["RANK"])
        self.size = int(os.environ["WORLD_SIZE"])
        self._store: Any = None

    def join(self) -> None:
        """Imports torch."""
        import torch.distributed as dist
        from torch._C._distributed_c10d import PrefixStore, TCPStore

        seconds = float(os.environ.get(JOIN_SECONDS, "600"))
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        ours = self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            wait = timedelta(seconds=seconds)
            store = TCPStore(host, port, is_master=ours, timeout=wait, wait_for_workers=False)
            run = self._welcome(store, seconds) if self.rank == 0 else self._introduce(store)
            self._store = PrefixStore(run, store)
            dist.init_process_group("gloo", store=self._store, rank=self.rank, world_size=self.size, timeout=PATIENCE)
        except RuntimeError as error:
            raise RankError(
                f"rank {self.rank}: the ranks did not come together within {seconds:.0f} s ({_first_line(error)}); "
                f"start all {self.size} of them, or set {JOIN_SECONDS} to wait longer"
            ) from error

    # After a restart by torchrun the store still holds what the ranks before it wrote. So each run writes under a name
    # of its own, which rank 0 tells to a word that no rank has said before.

    def _welcome(self, store: Any, seconds: float) -> str:
        """On rank 0: tell every rank the name of the run."""
        run, deadline = secrets.token_hex(8), time.monotonic() + seconds
        missing = list(range(1, self.size))
        while missing:
            if time.monotonic() > deadline:
                raise RuntimeError(f"missing: {', '.join(map(str, missing))}")
            for rank in missing:
                if store.check([f"word/{rank}"]):
                    store.set(f"run/{store.get(f'word/{rank}').decode()}", run)
            time.sleep(POLL_SECONDS)
            missing = [rank for rank in missing if not store.check([f"{run}/{rank}"])]
        return run

    def _introduce(self, store: Any) -> str:
        """On the others: say a new word, and learn the name of the run by it."""
        word = secrets.token_hex(8)
        store.set(f"word/{self.rank}", word)
        run: str = store.get(f"run/{word}").decode()
        store.set(f"{run}/{self.rank}", "")
        return run

    def broadcast(self, value: T | None) -> T:
        """From rank 0, over gloo."""
        import torch.distributed as dist

        box: list[Any] = [value]
        with _death_told():
            dist.broadcast_object_list(box, src=0)
        if isinstance(box[0], BaseException) and self.rank > 0:
            raise box[0]
        return box[0]  # type: ignore[no-any-return]

    def claims(self, total: int) -> Iterator[int]:
        """From a counter in the store."""
        while not self._count("stop", 0) and (claimed := self._count("claimed", 1) - 1) < total:
            yield claimed

    def stop(self) -> None:
        """By a counter in the store."""
        self._count("stop", 1)

    def advanced(self, pixels: float) -> float:
        """From a counter in the store."""
        return float(self._count("pixels", round(pixels)))

    def _count(self, counter: str, more: int) -> int:
        with _death_told():
            return int(self._store.add(counter, more))

    def merged(self, totals: Totals) -> Totals:
        """Gathered by all ranks."""
        import torch.distributed as dist

        gathered: list[Totals] = [totals] * self.size
        with _death_told():
            dist.all_gather_object(gathered, totals)
        first, *others = gathered
        return sum(others, start=first)

    def check_complete(self, totals: Totals, planned: int) -> None:
        """Where pictures are missing, another rank has ended early, or counted otherwise."""
        missing = planned - totals.done - totals.skipped - totals.failed
        if missing and self.rank == 0:
            raise RankError(f"{missing} of {planned} pictures were not made, by a rank that ended early; run again")

    def leave(self) -> None:
        """Close the connections; without it torch complains."""
        if self._store is not None:
            import torch.distributed as dist

            dist.destroy_process_group()
            self._store = None


def ranks() -> Ranks:
    """The group that this process was started in, or this process alone."""
    return Group() if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ else Ranks()


@contextlib.contextmanager
def _death_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's only class: a peer closed its connection, or could not be reached
        raise RankError(
            f"another rank has ended early ({_first_line(error)}); what is done is kept, run again for the rest"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def launch(arguments: Sequence[str], count: int) -> int:
    """Run `irestore` with these arguments as `count` ranks on this host; the exit code of the run.

    A rank that dies ends the others. A stop is passed on to all ranks, which finish as one process would.
    """
    # Not what a torchrun of one process has set: ranks would wait for its store.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")}
    port = str(_free_port())
    common = inherited | {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "irestore", *arguments]
    processes = [
        subprocess.Popen(command, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, start_new_session=True)
        for rank in range(count)
    ]
    codes: list[int | None] = [None]
    try:
        while None in codes and not any(codes):
            time.sleep(POLL_SECONDS)
            codes = [process.poll() for process in processes]
    finally:
        _end(processes)
    failed = next((code for code in codes if code), 0)
    return 1 if failed < 0 else failed


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask those that still run to stop, and make them after a while."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
