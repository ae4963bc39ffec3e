"""Devices come from ggml's own list; free memory is what the system and the container leave."""

from __future__ import annotations

from pathlib import Path

from chat.engine.devices import devices, host_free_bytes


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
