"""A Ray cluster of two machines, simulated on this one: what it costs, and what happens when something dies.

    python -m benchmarks.cluster [--pictures 200] [--rounds 3] [--json FILE]

Needs `irestore[ray]`. "overhead": against one process with as many threads, while the last three quarters of the
pictures are made, so that all workers have begun; wall time, the time of all processes on a CPU, which other programs
move less, and that of the workers and this process without Ray's own. "node": a machine is killed after a quarter of
the pictures. "deadly": one picture kills every worker that restores it. Results are compared with those of one process.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.cluster_utils import Cluster

from benchmarks.batch import pictures, show
from irestore import images, weights
from irestore.batch.chain import Size, Step
from irestore.batch.cluster import connected
from irestore.batch.files import RunOptions
from irestore.batch.inputs import Item, find
from irestore.batch.plan import Request, plan
from irestore.batch.pool import Pool
from irestore.batch.report import Outcome, Report
from irestore.batch.restorer import Restorer
from irestore.batch.run import run
from irestore.planning import Settings

STEP, NODES, DEADLY = Step("sr", 4), 2, "00042.png"


class Deadly(Restorer):
    """Takes its process with it where a picture has the pixels of `DEADLY`."""

    sign = b""

    def on(self, device: Any) -> Restorer:
        """Itself, so that it stays deadly."""
        return self

    def __call__(self, pictures: Sequence[images.Picture], *arguments: Any) -> list[images.Picture]:
        """As any restorer, if it lives."""
        if pictures[0].pixels.tobytes() == self.sign:
            os._exit(1)
        return super().__call__(pictures, *arguments)


class Timed(Report):
    """A report that knows when the first and the last result came, and calls something after some of them."""

    def __init__(self, after: int = 0, call: Callable[[], None] = lambda: None) -> None:
        super().__init__(progress=False, verbosity=-1)
        self.after, self.call, self.times = after, call, list[tuple[float, float, float]]()
        self.outcomes: list[Outcome] = []

    def add(self, outcome: Outcome, pixels: int = 0) -> None:
        """As any report."""
        super().add(outcome, pixels)
        self.outcomes.append(outcome)
        self.times.append((time.monotonic(), *busy_seconds()))
        if len(self.outcomes) == self.after:
            threading.Thread(target=self.call).start()

    @property
    def took(self) -> dict[str, float]:
        """Seconds from a quarter of the results to the last: wall time, and on a CPU of all, and of the workers."""
        first, last = self.times[len(self.times) // 4], self.times[-1]
        return {name: end - begin for name, begin, end in zip(("wall", "cpu", "own_cpu"), first, last, strict=True)}


def busy_seconds() -> tuple[float, float]:
    """What this process and all below it have had of CPUs; and without those that are of Ray itself."""
    ticks, parents, names = {}, {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
        except OSError:
            continue
        names[int(folder.name)] = name
        parents[int(folder.name)], ticks[int(folder.name)] = int(fields[1]), sum(map(int, fields[11:13]))
    family, size = {os.getpid()}, 0
    while len(family) > size:
        size = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    own = [member for member in family if member == os.getpid() or names[member] == "ray::_Worker"]
    return tuple(sum(ticks[each] for each in some) / os.sysconf("SC_CLK_TCK") for some in (family, own))  # type: ignore[return-value]


def content(folder: Path) -> dict[str, bytes]:
    """The results in a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def main() -> None:
    """Runs all parts and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    import torch

    torch.set_num_threads(NODES)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    entry = weights.find("compact-x4", weights.entries())
    network = weights.load(entry)
    table: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        source = pictures(top / "in", options.pictures)

        def planned(folder: str) -> tuple[Item, ...]:
            request = Request(tasks=("sr",), models={STEP: entry.name}, size=Size(factor=4), output=f"{top / folder}/")
            return plan(request, find([source], recursive=True)).items

        def on_cluster(folder: str, restorer: Restorer, report: Timed) -> Timed:
            with connected(cluster.address, "cpu", 1) as workers:
                workers.run(planned(folder), restorer, report, RunOptions())
            return report

        rows = []
        for number in range(options.rounds):
            time.sleep(5)  # until the workers of the round before have ended
            alone = Timed()
            run(planned(f"one{number}"), Pool([Restorer({STEP: network}, Settings())]), alone, RunOptions())
            together = on_cluster(f"ray{number}", Restorer({STEP: network}, Settings()), Timed())
            assert content(top / f"ray{number}") == content(top / "one0")
            rows.append(
                {
                    f"{kind}_{each}": made.took[each]
                    for kind, made in (("one", alone), ("ray", together))
                    for each in made.took
                }
            )
            print(rows[-1], flush=True)
        row = {key: statistics.median(each[key] for each in rows) for key in rows[0]}
        more = {
            f"{each}_more_percent": 100 * (row[f"ray_{each}"] / row[f"one_{each}"] - 1)
            for each in ("wall", "cpu", "own_cpu")
        }
        table["overhead"] = row | more

        deadly = Deadly({STEP: network}, Settings())
        deadly.sign = images.load(source / DEADLY).pixels.tobytes()
        report = on_cluster("deadly", deadly, Timed())
        failed = [outcome.reason for outcome in report.outcomes if outcome.status == "failed"]
        print(failed, flush=True)
        expected = content(top / "one0")
        del expected[f"{Path(DEADLY).stem}_x4.png"]
        table["deadly"] = {"exit_code": report.totals.exit_code, "done": report.totals.done, "failed": len(failed)}
        table["deadly"]["equal"] = content(top / "deadly") == expected

        report = on_cluster(
            "node",
            Restorer({STEP: network}, Settings()),
            Timed(options.pictures // 4, lambda: cluster.remove_node(nodes.pop())),
        )
        table["node"] = {
            "exit_code": report.totals.exit_code,
            "done": report.totals.done,
            "outcomes": len(report.outcomes),
        }
        table["node"]["equal"] = content(top / "node") == content(top / "one0")
    cluster.shutdown()
    show(table, options.json)


if __name__ == "__main__":
    main()
