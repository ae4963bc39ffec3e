"""llama-server with the small real model: requests together, slots that are free after Ctrl+C, and a server killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import grids
from tests.program import run, start
from tests.remote.servers import Server, free_port, llama_server

LINES = 2000 if grids.FULL else 100

pytestmark = pytest.mark.slow


def write_batch(path: Path, lines: int) -> Path:
    path.write_text("".join(json.dumps({"id": at, "prompt": f"Name {at} things"}) + "\n" for at in range(lines)))
    return path


def busy_slots(server: Server) -> int:
    return sum(each["is_processing"] for each in server.get("/slots"))


def wait_for(is_reached: Callable[[], bool], seconds: float = 120.0) -> float:
    """Wait; returns for how long."""
    began = time.monotonic()
    while not is_reached():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_the_lines_of_a_batch_fill_all_slots(eight_slots: Server, tmp_path: Path) -> None:
    batch, output = write_batch(tmp_path / "batch.jsonl", 16), tmp_path / "out.jsonl"
    process = start("--remote", eight_slots.url, "--batch", batch, "-o", output, "-n", 48, "--temperature", 0)
    wait_for(lambda: busy_slots(eight_slots) == 8)
    assert process.communicate(timeout=120) == (b"", b"")
    results = [json.loads(line) for line in output.read_text().splitlines()]
    assert [each["id"] for each in results] == list(range(16))
    assert all(each["text"] and each["tokens"]["generated"] <= 48 for each in results)


@pytest.mark.parametrize("lines", [0, 8])
def test_ctrl_c_frees_the_slots(lines: int, eight_slots: Server, tmp_path: Path) -> None:
    """An answer of 900 tokens would hold its slot for several seconds more."""
    asked: list[Any] = ["Count to a thousand, one number in each line"]
    if lines:
        asked = ["--batch", write_batch(tmp_path / "batch.jsonl", lines)]
    process = start("--remote", eight_slots.url, "-n", 900, "--seed", 1, *asked)
    wait_for(lambda: busy_slots(eight_slots) == max(lines, 1))
    process.send_signal(signal.SIGINT)
    seconds = wait_for(lambda: busy_slots(eight_slots) == 0)
    print(f"the slots were busy for {seconds:.3f} s")
    assert process.wait(60) == 130


def test_each_line_has_one_answer_though_the_server_is_killed_three_times(
    llama_server_file: Path, real_model: Path, tmp_path: Path
) -> None:
    batch, output, port = write_batch(tmp_path / "batch.jsonl", LINES), tmp_path / "out.jsonl", free_port()

    def serve() -> Any:
        return llama_server(llama_server_file, real_model, tmp_path / "log", "-np", 8, "-c", 4096, port=port)

    def answered() -> int:
        return output.read_bytes().count(b"\n") if output.exists() else 0

    url = f"http://127.0.0.1:{port}"
    for kills in range(4):
        with serve() as server:
            if kills == 0:
                process = start("--remote", url, "--batch", batch, "-o", output, "-n", 8)
            if kills < 3:
                wait_for(lambda goal=(kills + 1) * LINES // 4: answered() >= goal)  # type: ignore[misc]
                os.kill(server.process.pid, signal.SIGKILL)
            else:
                out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (0, b"")
    notices = err.decode().splitlines()
    assert len(notices) == 3
    assert all(line.endswith("; waiting up to 120 s for the server") for line in notices)
    results = [json.loads(line) for line in output.read_text().splitlines()]
    assert [each["id"] for each in results] == list(range(LINES))
    assert Counter("error" in each for each in results) == Counter({False: LINES})


def test_a_key_is_needed_where_the_server_has_one(
    llama_server_file: Path, tiny_v3_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with llama_server(llama_server_file, tiny_v3_model, tmp_path / "log", "--api-key", "sk-secret") as server:
        asked = ("--remote", server.url, "-n", 4, "hello")
        done = run(*asked)
        assert done.returncode == 3
        assert done.stderr.decode().startswith(f"error: {server.url}/v1 denies access (401)\n")
        monkeypatch.setenv("MISTRAL_CHAT_REMOTE_KEY", "sk-secret")
        assert run(*asked).returncode == 0
        assert "sk-secret" not in (tmp_path / "log").read_text()
