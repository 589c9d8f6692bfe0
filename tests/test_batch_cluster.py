"""`--ray`: a cluster of two machines, simulated on this one, makes what one process makes, whoever dies."""

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import CONFIG, IRESTORE, finish, irestore, results, start, write_picture, write_weights

from irestore import images, models
from irestore.batch.chain import Size, Step
from irestore.batch.files import RunOptions
from irestore.batch.inputs import find
from irestore.batch.plan import Request, plan
from irestore.batch.report import Report
from irestore.batch.restorer import Restorer
from irestore.cli import main
from irestore.planning import Settings

STEP = Step("sr", 2)
DEADLY = 31  # pixels wide


def test_without_the_extra_one_line_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "irestore.batch.cluster", raising=False)
    picture = write_picture(tmp_path / "a.png")
    assert main(["sr", str(picture), "--ray", "local"]) == 2
    told = capsys.readouterr().err
    assert told == "irestore: --ray needs an extra, here and on every machine: pip install 'irestore[ray]'\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without a CPU, and two machines of one."""
    pytest.importorskip("ray")
    os.environ.setdefault("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    yield cluster
    cluster.shutdown()


class Deadly(Restorer):
    """Takes the process with it where a picture is `DEADLY`."""

    def on(self, device: Any) -> Restorer:
        return self

    def __call__(self, pictures: Sequence[images.Picture], *arguments: Any) -> list[images.Picture]:
        if pictures[0].width == DEADLY:
            os._exit(1)
        return super().__call__(pictures, *arguments)


def test_a_picture_that_kills_every_worker_fails_by_name_and_takes_no_other_along(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ray import cloudpickle

    from irestore.batch.cluster import connected

    for number in range(12):
        write_picture(tmp_path / "in" / f"{number:02}.png", (12, DEADLY if number == 5 else 10))
    (tmp_path / "in" / "07.png").write_bytes((tmp_path / "in" / "07.png").read_bytes()[:-40])
    request = Request(tasks=("sr",), size=Size(factor=2), models={STEP: "tiny"}, output=f"{tmp_path}/out/")
    items = plan(request, find([tmp_path / "in"], recursive=True)).items
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    restorer = Deadly({STEP: models.build("heart", CONFIG).eval().requires_grad_(False)}, Settings())
    records = io.StringIO()
    report = Report(records=records, progress=False)
    with connected(cluster.address, "auto", None) as workers:
        assert str(workers) == "2 workers of 1 CPU threads each"
        workers.run(items, restorer, report, RunOptions())
    report.close()
    assert capsys.readouterr().out == ""
    told = [json.loads(line) for line in records.getvalue().splitlines()]
    assert len({record["input"] for record in told}) == len(told) == len(items)
    failed = {Path(record["input"]).name: record["error"] for record in told if record["status"] == "failed"}
    assert list(failed) == ["07.png", "05.png"]
    assert failed["05.png"].startswith(f"{tmp_path}/in/05.png: its worker died 3 times")
    assert (report.totals.done, report.totals.exit_code) == (len(items) - 2, 1)


def test_a_machine_that_dies_costs_no_picture(cluster: Any, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    weights = write_weights(tmp_path / "tiny.safetensors")
    for number in range(60):
        write_picture(folder / "in" / "deep" / f"{number:02}.png", (40, 50))
    command = ["sr", "--weights", weights, "-r", "in", "--json", "--threads", 1, "-o"]
    assert irestore(folder, *command, "one").code == 0
    run = start(folder, [IRESTORE, *command, "two", "--ray", cluster.address])
    while len(results(folder / "two")) < 15:
        assert run.poll() is None
    cluster.remove_node(cluster.nodes.pop())
    ran = finish(run)
    assert ran.code == 0, ran.err
    assert [record["status"] for record in ran.records] == ["done"] * 60
    assert len({record["input"] for record in ran.records}) == 60
    made = {name: content for name, content in results(folder / "two").items() if not name.endswith(".part")}
    assert made == results(folder / "one")
