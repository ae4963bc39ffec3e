"""Whether other programs are in the way of a measurement: what the system's table says, in words or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from chat.bench import system_load
from chat.bench.system_load import busy_fraction, system_load_warning


def test_the_share_is_what_was_not_idle_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "stat"
    table.write_text("cpu  100 0 50 800 40 5 5 0 7 0\ncpu0 1 2 3\n")

    def pass_time(_: float) -> None:
        table.write_text("cpu  130 0 60 890 50 5 5 10 9 0\ncpu0 1 2 3\n")  # 150 ticks, 100 of them idle

    monkeypatch.setattr(system_load.time, "sleep", pass_time)
    assert busy_fraction(table) == pytest.approx(1 / 3)


def test_a_program_at_work_is_seen_where_the_system_tells() -> None:
    if not system_load.STAT.exists():
        pytest.skip("needs /proc/stat")
    done = threading.Event()
    worker = threading.Thread(target=lambda: [None for _ in iter(done.is_set, True)])
    worker.start()
    share = busy_fraction()
    done.set()
    worker.join()
    assert share is not None and 0 < share <= 1


def test_without_a_table_the_load_counts_and_without_a_load_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_load.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(system_load.platform, "load_average", lambda: 1.0)
    assert busy_fraction(tmp_path / "missing") == 0.25
    monkeypatch.setattr(system_load.platform, "load_average", lambda: None)
    assert busy_fraction(tmp_path / "missing") is None


def test_only_a_busy_machine_is_worth_words() -> None:
    assert [system_load_warning(share) for share in (None, 0.0, 0.19)] == [None] * 3
    assert system_load_warning(0.5) == (
        "Timings are unreliable on a busy machine. Other programs use 50% of the processors."
    )
