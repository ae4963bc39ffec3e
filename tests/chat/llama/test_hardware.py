"""Devices come from ggml's own list, free memory is what the system and the container leave, threads are cores."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from chat.core.request import EngineOptions
from chat.llama.hardware import (
    Device,
    HostResources,
    devices,
    host_free_bytes,
    host_with,
    is_host_memory,
    machine,
    physical_cores,
    quota_cores,
    usable_gpus,
    worker_threads,
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMORY = {"proc/meminfo": "MemTotal:  1000 kB\nMemAvailable:   600 kB\n"}


def test_there_is_a_processor_with_memory() -> None:
    found = [device for device in devices() if device.kind == "cpu"]
    assert len(found) == 1
    assert found[0].name == "CPU" and found[0].total_bytes > 1 << 28


def test_available_memory_is_what_the_system_says(tmp_path: Path) -> None:
    assert host_free_bytes(write(tmp_path, MEMORY)) == 600 * 1024


def test_a_control_group_leaves_less_but_file_pages_can_be_given_back(tmp_path: Path) -> None:
    group = {
        "sys/fs/cgroup/memory.max": "300000\n",
        "sys/fs/cgroup/memory.current": "250000\n",
        "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 40000\n",
    }
    assert host_free_bytes(write(tmp_path, MEMORY | group)) == 90_000
    assert host_free_bytes(write(tmp_path, {"sys/fs/cgroup/memory.max": "max\n"})) == 600 * 1024


def test_the_older_control_groups_count_too(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory/"
    group = {folder + "memory.limit_in_bytes": "300000", folder + "memory.usage_in_bytes": "100000"}
    assert host_free_bytes(write(tmp_path, MEMORY | group)) == 200_000


def test_without_the_systems_word_the_library_is_asked(tmp_path: Path) -> None:
    assert host_free_bytes(tmp_path, otherwise=7) == 7
    assert host_free_bytes(tmp_path) == max(device.free_bytes for device in devices())


CPU = Device("CPU", "a chip", "cpu", 9, 9)
DISCRETE = Device("CUDA0", "a card", "gpu", 5, 6)
INTEGRATED = Device("Vulkan0", "a chip's graphics", "integrated", 7, 8)


def test_integrated_gpus_count_only_where_there_is_no_other() -> None:
    """llama.cpp leaves them out beside others, so no layers may be counted on their memory."""
    other = replace(DISCRETE, name="CUDA1")
    assert usable_gpus((DISCRETE, INTEGRATED, other, CPU)) == (DISCRETE, other)
    assert usable_gpus((INTEGRATED, CPU)) == (INTEGRATED,)
    assert usable_gpus((CPU, replace(CPU, kind="accelerator"))) == ()


def test_the_memory_of_integrated_gpus_and_of_apples_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = replace(DISCRETE, free_bytes=0, total_bytes=0)
    assert [is_host_memory(each) for each in (DISCRETE, INTEGRATED, silent)] == [False, True, True]
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert not is_host_memory(DISCRETE)
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert is_host_memory(DISCRETE)


def test_the_machine_is_what_llama_cpp_would_use_of_it() -> None:
    assert host_with((DISCRETE, INTEGRATED, CPU), 100, 3) == HostResources(100, (5,), 3, is_shared=False)
    assert host_with((INTEGRATED, CPU), 100, 3) == HostResources(100, (7,), 3, is_shared=True)
    full = replace(DISCRETE, free_bytes=0)
    assert host_with((full, CPU), 100, 3) == HostResources(100, (0,), 3, is_shared=False)
    assert host_with((replace(full, total_bytes=0), CPU), 100, 3) == HostResources(100, (100,), 3, is_shared=True)
    assert host_with((CPU,), 100, 3) == HostResources(100, (), 3, is_shared=False)


def test_no_gpu_is_asked_about_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat.llama.hardware.devices", lambda: (DISCRETE, CPU))
    found = [machine(EngineOptions("m.gguf", gpu_layers=n), 1).gpu_free_bytes for n in ("auto", "all", "3", "0")]
    assert found == [(5,), (5,), (5,), ()]


def test_a_very_small_model_is_computed_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the guide took up to fifty times as long with two, which waited for each other."""
    monkeypatch.setattr("chat.llama.hardware.worker_threads", lambda: 8)
    options = EngineOptions("m.gguf", gpu_layers="0")
    assert [machine(options, size).threads for size in (4 << 20, 16 << 20, (16 << 20) + 1)] == [1, 1, 8]
    assert machine(replace(options, threads=3), 1).threads == 3


def test_hyperthreads_of_one_core_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        write(tmp_path, {f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": siblings + "\n"})
    assert physical_cores(frozenset(range(4)), tmp_path) == 2
    assert physical_cores(frozenset({0, 2}), tmp_path) == 1
    assert physical_cores(frozenset({7, 8}), tmp_path) == 2  # nothing known of them


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 9),
        ({"fs/cgroup/cpu.max": "max 100000"}, 9),
        ({"fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ({"fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 9),
        ({"fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"fs/cgroup/cpu.max": "1 0"}, 9),
    ],
)
def test_the_quota_of_a_container_counts(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    write(tmp_path, files)
    assert quota_cores(tmp_path, 9) == cores


def test_there_is_always_a_thread() -> None:
    assert worker_threads() >= 1
