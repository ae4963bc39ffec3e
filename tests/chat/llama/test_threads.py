"""Threads are physical cores, within affinity and quota."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.llama.threads import physical_cores, quota_cores, worker_threads


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_hyperthreads_of_one_core_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        write(tmp_path, f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings + "\n")
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
    for name, text in files.items():
        write(tmp_path, name, text)
    assert quota_cores(tmp_path, 9) == cores


def test_there_is_always_a_thread() -> None:
    assert worker_threads() >= 1
