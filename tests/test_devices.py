from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from irestore import devices, processors
from irestore.devices import exact_convolutions, free_bytes, pick, pick_all, total_bytes
from irestore.errors import UsageError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return monkeypatch


def test_auto_takes_cuda_then_mps_then_the_cpu(machine: pytest.MonkeyPatch) -> None:
    assert pick().type == "cpu"
    machine.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick("auto").type == "mps"
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick("auto") == torch.device("cuda", 0)
    assert pick("cuda:1") == torch.device("cuda", 1)
    assert pick("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cuda", ["cuda", "--device cpu"]),
        ("cuda:3", ["cuda:3", "--device cpu"]),
        ("mps", ["mps", "--device cpu"]),
        ("tpu", ["'tpu'", "auto, cpu, mps, cuda"]),
        ("cuda:x", ["'cuda:x'"]),
        ("", ["''"]),
    ],
)
def test_a_device_that_is_not_here_is_named_with_a_remedy(
    machine: pytest.MonkeyPatch, name: str, words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        pick(name)
    for word in words:
        assert word in str(caught.value)


def test_a_gpu_beyond_the_last_is_named(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="cuda:2"):
        pick("cuda:2")


def test_several_devices_are_of_one_kind_and_all_gpus_are_found(machine: pytest.MonkeyPatch) -> None:
    assert [str(each) for each in pick_all("cpu,cpu")] == ["cpu", "cpu"]
    with pytest.raises(UsageError, match="--device cpu"):
        pick_all("cuda:all")
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(each) for each in pick_all("cuda:all")] == ["cuda:0", "cuda:1"]
    with pytest.raises(UsageError, match="one kind"):
        pick_all("cpu,cuda:1")


def test_the_hosts_free_memory_is_below_its_total() -> None:
    assert 2**20 < free_bytes(torch.device("cpu")) <= devices._total_host_bytes()


@pytest.mark.parametrize(
    ("precision", "device", "capability", "knows", "remedy"),
    [
        ("fp16", "cpu", "AVX512", True, "take bf16 or auto"),
        ("fp16", "cpu", "DEFAULT", False, "take auto"),
        ("bf16", "cpu", "AVX2", False, "take auto"),
        ("bf16", "cpu", "AVX512", True, None),
        ("bf16", "cpu", "DEFAULT", False, None),  # of other CPUs it cannot be told
        ("fp16", "cuda", "AVX2", False, None),
        ("auto", "cpu", "AVX2", False, None),
    ],
)
def test_a_precision_that_a_cpu_is_slow_in_is_refused(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, capability: str, knows: bool, remedy: str | None
) -> None:
    monkeypatch.setattr(devices, "KNOWS_BF16", knows)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    if remedy is None:
        devices.check_precision(precision, torch.device(device))
    else:
        with pytest.raises(UsageError, match=f"precision {precision}.*; {remedy}$"):
            devices.check_precision(precision, torch.device(device))


def test_convolutions_stay_exact_until_the_last_thread_is_done() -> None:
    before, gpu = torch.backends.cudnn.allow_tf32, torch.device("cuda")
    first, second = exact_convolutions(gpu), exact_convolutions(gpu)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.cudnn.allow_tf32
    second.__exit__(None, None, None)
    assert torch.backends.cudnn.allow_tf32 == before


def test_cudas_free_memory_counts_what_torch_keeps_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 40)
    assert free_bytes(torch.device("cuda", 0)) == 130


def test_memory_is_cut_to_what_the_control_group_allows_without_its_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not Path("/proc/meminfo").exists():
        pytest.skip("needs /proc/meminfo (Linux)")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    (tmp_path / "memory.stat").write_text("anon 400000\ninactive_file 70000\nactive_file 30000\n")
    real = Path

    def redirected(path: str) -> Path:
        return real(str(path).replace("/sys/fs/cgroup", str(tmp_path)))

    monkeypatch.setattr(devices, "Path", redirected)
    assert free_bytes(torch.device("cpu")) == 600_000
    assert total_bytes(torch.device("cpu")) == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(torch.device("cpu")) > 600_000
    assert total_bytes(torch.device("cpu")) == devices._total_host_bytes()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000", "a/b/cpu.max": "max 100000"}, 64),
        ({"a/b/cpu.max": "150000 100000"}, 2),  # a time and a half of one
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, 4),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 64),
        ({"cpu,cpuacct/c/cpu.cfs_quota_us": "50000", "cpu,cpuacct/c/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 3),  # seen from inside
        ({"memory/c/cpu.max": "100000 100000"}, 64),
    ],
)
def test_processors_are_those_that_the_control_groups_pay_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    groups = tmp_path / "groups"
    groups.write_text("5:memory:/c\n4:cpu,cpuacct:/c\n0::/a/b\n")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    monkeypatch.setattr(processors, "CGROUPS", tmp_path)
    monkeypatch.setattr(processors, "OWN_GROUPS", groups)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert processors.processors() == expected


def test_a_process_that_is_bound_to_some_processors_counts_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "CGROUPS", Path("/nowhere"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert processors.processors() == 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no such setting")
def test_memory_that_is_freed_serves_the_next_tile() -> None:
    code = """
import resource, sys, torch
from irestore.devices import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = []
for _ in range(9):
    tiles = [torch.ones(2**24) for _ in range(2)]
    del tiles
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[4])
"""
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "not")
    )
    assert kept < 100 < given_back
