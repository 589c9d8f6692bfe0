"""One run on several processes (`torchrun`, `--device cuda:all`): a shared plan, each picture claimed by one rank.

Rank 0 plans and tells the others. A picture is claimed by adding one to a counter in torch.distributed's store, so fast
ranks take more, on one host or several. At the end all ranks meet; if one has died, that is an error for the others.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from irestore.batch.report import Totals
from irestore.errors import RankError

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # a rank may wait for another's last picture; a dead one is noticed at once
POLL_SECONDS = 0.1
GRACE_SECONDS = 30.0  # for a rank to write what it has computed, after it was told to stop


class Ranks(Protocol):
    """The processes of a run, as one of them sees them."""

    rank: int
    size: int

    def share(self, value: T | None) -> T:
        """What rank 0 gave, on every rank; if that is an exception, it is raised on the others."""

    def claims(self, total: int) -> Iterator[int]:
        """Numbers below `total`, rising; each goes to one rank only."""

    def advanced(self, pixels: float) -> float:
        """Add pixels done; the sum over all ranks."""

    def merged(self, totals: Totals) -> Totals:
        """The sum over all ranks. Waits for them all; raises RankError if one has died."""

    def leave(self) -> None:
        """Take leave of the others."""


class Alone:
    """A run of one process."""

    rank = 0
    size = 1

    def __init__(self) -> None:
        self._pixels = 0.0

    def share(self, value: T | None) -> T:
        """The value itself."""
        assert value is not None
        return value

    def claims(self, total: int) -> Iterator[int]:
        """All of them."""
        yield from range(total)

    def advanced(self, pixels: float) -> float:
        """The sum."""
        self._pixels += pixels
        return self._pixels

    def merged(self, totals: Totals) -> Totals:
        """The totals themselves."""
        return totals

    def leave(self) -> None:
        """Nobody to leave."""


class Group:
    """The ranks that `torchrun`, or `launch`, started: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say which."""

    def __init__(self) -> None:
        self.rank = int(os.environ["RANK"])
        self.size = int(os.environ["WORLD_SIZE"])
        self._store: Any = None

    def share(self, value: T | None) -> T:
        """Broadcast from rank 0. Joins the group at the first call, which imports torch: plan before it."""
        import torch.distributed as dist

        self._join()
        box: list[Any] = [value]
        with _death_told():
            dist.broadcast_object_list(box, src=0)
        shared = box[0]
        if isinstance(shared, BaseException) and self.rank > 0:
            raise shared
        return shared  # type: ignore[no-any-return]

    def claims(self, total: int) -> Iterator[int]:
        """From a counter in the store."""
        while (claimed := self._count("irestore/claimed", 1) - 1) < total:
            yield claimed

    def advanced(self, pixels: float) -> float:
        """From a counter in the store."""
        return float(self._count("irestore/pixels", round(pixels)))

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

    def leave(self) -> None:
        """Close the connections; without it torch complains."""
        if self._store is not None:
            import torch.distributed as dist

            dist.destroy_process_group()
            self._store = None

    def _join(self) -> None:
        if self._store is None:
            import torch.distributed as dist
            from torch.distributed.rendezvous import rendezvous

            with _death_told():
                self._store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
                dist.init_process_group("gloo", store=self._store, rank=rank, world_size=size, timeout=PATIENCE)


def ranks() -> Ranks:
    """The group that this process was started in, or Alone."""
    return Group() if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ else Alone()


@contextlib.contextmanager
def _death_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's only class: a peer closed its connection, or could not be reached
        reason = str(error).splitlines()[0][:200]
        raise RankError(
            f"another rank has ended early ({reason}); what is done is kept, run again for the rest"
        ) from error


def launch(arguments: Sequence[str], count: int) -> int:
    """Run `irestore` with these arguments as `count` ranks on this host; the exit code of the run.

    A rank that dies ends the others. A stop is passed on to all ranks, which finish as one process would.
    """
    environment = os.environ | {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    command = [sys.executable, "-m", "irestore", *arguments]
    processes = [
        subprocess.Popen(
            command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, start_new_session=True
        )
        for rank in range(count)
    ]
    code = 0
    try:
        while any(process.poll() is None for process in processes):
            code = code or _failed(processes)
            if code:
                _end(processes)
            time.sleep(POLL_SECONDS)
    except BaseException:
        _end(processes)
        raise
    return code or _failed(processes)


def _failed(processes: Sequence["subprocess.Popen[bytes]"]) -> int:
    """The exit code of the first process that has failed, 1 if a signal ended it; 0 if none has."""
    codes = [process.returncode for process in processes if process.poll()]
    return 0 if not codes else codes[0] if codes[0] > 0 else 1


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
