"""Batches to a server: many requests at a time in order, one bad line, and a server or a client that is killed."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chat.batch.records import RecordReader
from chat.cli.main import run
from chat.remote import request_pool
from chat.remote.answer import Answer
from tests import grids
from tests.chat.remote.echo_server import EchoServer, echoing
from tests.program import start

LINES = 40
MANY_LINES = 10_000 if grids.FULL else 300


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses so short that no test waits for them."""
    monkeypatch.setattr(request_pool, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(request_pool, "LONGEST_WAIT_SECONDS", 0.05)


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Prompts of two words."""
    return write_batch(tmp_path / "batch.jsonl", LINES)


def write_batch(path: Path, lines: int) -> Path:
    path.write_text("".join(json.dumps({"id": at, "prompt": f"say {at}"}) + "\n" for at in range(lines)))
    return path


def results_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text().splitlines()]


def answer(server: EchoServer, batch: Path, output: Path, *flags: str) -> int:
    return run(["--remote", server.url, "--batch", str(batch), "-o", str(output), "-q", *flags])


def test_a_fault_that_nobody_expected_is_the_error_of_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a record and of an answer; `-v` shows where."""

    conversation_of, take_whole = RecordReader._conversation, Answer.take

    def read(reader: RecordReader, plain: Any, files: Any, system: Any, number: int) -> Any:
        return 1 // 0 if number == 3 else conversation_of(reader, plain, files, system, number)

    def take(answer: Answer, chunk: Any) -> Any:
        return 1 // 0 if "'4'" in str(chunk) else take_whole(answer, chunk)

    monkeypatch.setattr(RecordReader, "_conversation", read)
    monkeypatch.setattr(Answer, "take", take)
    batch, output = write_batch(tmp_path / "few.jsonl", 6), tmp_path / "out"
    with echoing(EchoServer()) as server:
        assert run(["--remote", server.url, "--batch", str(batch), "-o", str(output), "-v"]) == 1
    fault = "unexpected: ZeroDivisionError: integer division or modulo by zero"
    assert [each.get("error", "") for each in results_of(output)] == ["", "", fault, "", fault, ""]
    assert capsys.readouterr().err.count("Traceback (most recent call last)") == 2


@pytest.mark.parametrize(("flags", "at_a_time"), [([], 8), (["--parallel", "3"], 3)])
def test_requests_are_sent_together_over_kept_connections_and_answers_keep_the_order(
    flags: list[str], at_a_time: int, batch: Path, tmp_path: Path
) -> None:
    with echoing(EchoServer(waits_for=at_a_time)) as server:
        assert answer(server, batch, tmp_path / "out.jsonl", *flags) == 0
    results = results_of(tmp_path / "out.jsonl")
    assert [(each["id"], each["text"]) for each in results] == [(at, f"say {at}") for at in range(LINES)]
    assert server.most == at_a_time
    assert server.connections <= at_a_time + 1
    assert server.paths == ["/v1/models"]


def test_a_line_that_the_server_refuses_is_its_own_error_until_it_is_asked_again(batch: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with echoing(EchoServer(lambda prompt: 400 if prompt.endswith("7") else 200)) as server:
        assert answer(server, batch, output) == 1
        failed = [each for each in results_of(output) if "error" in each]
        assert [each["id"] for each in failed] == [at for at in range(LINES) if at % 10 == 7]
        wanted = f"{server.url}/v1 refused this request (400): no answer to say 7"
        assert failed[0] == {"id": 7, "error": wanted, "exit_code": 2}
        server.status_of = lambda _: 200
        assert answer(server, batch, output, "--resume") == 0
    assert Counter(each["id"] for each in results_of(output)) == Counter(range(LINES))
    assert server.asked == Counter(f"say {at}" for at in range(LINES))


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.usefixtures("quick")
def test_a_busy_server_is_asked_again_and_named_once(
    status: int, batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusals = iter([status, status, 200, status])
    with echoing(EchoServer(lambda _: next(refusals, 200))) as server:
        code = run(
            ["--remote", server.url, "--batch", str(batch), "-o", str(tmp_path / "o"), "--parallel", "1", "--stats"]
        )
    assert (code, [each["id"] for each in results_of(tmp_path / "o")]) == (0, list(range(LINES)))
    notices = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    kind = "is too busy" if status == 429 else f"failed ({status})"
    said = f"note: {server.url}/v1 {kind}: no answer to say {{}}; waiting up to 120 s for the server"
    assert notices == [said.format(0), said.format(1)]  # one for each outage


@pytest.mark.usefixtures("quick")
def test_a_server_that_limits_requests_is_waited_for_as_long_as_it_asks_and_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = tmp_path / "batch.jsonl"
    batch.write_text('"a b"\n"c d"\n"e f"\n')
    refusals = iter([429, 200, 429, 200, 429])
    with echoing(EchoServer(lambda _: next(refusals, 200), "Retry-After: 0.1\r\n")) as server:
        began = time.monotonic()
        assert run(["--remote", server.url, "--batch", str(batch), "--parallel", "1"]) == 0
        assert time.monotonic() - began >= 0.3
    out, err = capsys.readouterr()
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["a b", "c d", "e f"]
    assert err == f"note: {server.url}/v1 is too busy; requests wait as long as it asks\n"


@pytest.mark.usefixtures("quick")
def test_a_server_that_stays_away_ends_the_batch_with_what_is_done(
    batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(request_pool, "LONGEST_OUTAGE_SECONDS", 0.2)
    output = tmp_path / "out.jsonl"
    with echoing(EchoServer(dies_after={20}, back_after_seconds=None)) as server:
        assert answer(server, batch, output) == 3
    err = capsys.readouterr().err.splitlines()
    assert err[-2] == f"error: nothing answers at {server.url}/v1"
    assert err[-1].startswith("hint: it was asked again for 0 s; `--resume` with `--output` continues a batch")
    kept = results_of(output)
    assert {f"say {each['id']}": 1 for each in kept} == server.asked
    assert all(each["text"] == f"say {each['id']}" for each in kept)
    with echoing(EchoServer()) as server:
        assert answer(server, batch, output, "--resume") == 0
    assert Counter(each["id"] for each in results_of(output)) == Counter(range(LINES))
    assert server.asked.total() == LINES - len(kept)


@pytest.mark.usefixtures("quick")
def test_a_request_that_ends_the_server_each_time_is_given_up(tmp_path: Path) -> None:
    batch, output = tmp_path / "batch.jsonl", tmp_path / "out.jsonl"
    batch.write_text('"a b"\n"c d"\n')
    with echoing(EchoServer(back_after_seconds=0.0)) as server:
        server.status_of = lambda prompt: 200 if prompt == "c d" else server.die() or 200  # type: ignore[func-returns-value]
        assert answer(server, batch, output, "--parallel", "1") == 1
    first, second = results_of(output)
    assert (first["id"], first["exit_code"], second["text"]) == (1, 8, "c d")


@pytest.mark.parametrize(("status", "code"), [(401, 3), (404, 3)])
def test_a_server_that_refuses_us_ends_the_batch_at_once(status: int, code: int, batch: Path, tmp_path: Path) -> None:
    with echoing(EchoServer(lambda _: status)) as server:
        assert answer(server, batch, tmp_path / "out.jsonl", "--parallel", "1") == code
    assert results_of(tmp_path / "out.jsonl") == []


def test_ctrl_c_ends_a_batch_whose_requests_are_answered_or_wait(batch: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with echoing(EchoServer(waits_for=9)) as server:
        process = start("--remote", server.url, "--batch", batch, "-o", output, "-q")
        while server.most < 8:
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert process.communicate() == (b"", b"")
    assert output.read_bytes() == b""


@pytest.mark.slow
def test_each_line_has_one_answer_after_kills_of_the_server_and_the_client(tmp_path: Path) -> None:
    """The server dies three times in the middle of answers; the client is killed in between, and goes on."""
    batch, output = write_batch(tmp_path / "batch.jsonl", MANY_LINES), tmp_path / "out.jsonl"
    deaths = {MANY_LINES // 6, MANY_LINES // 2, MANY_LINES * 5 // 6}
    with echoing(EchoServer(lambda prompt: 500 if prompt == "say 3" else 200, dies_after=set(deaths))) as server:
        arguments = ("--remote", server.url, "--batch", batch, "-o", output, "-q", "--resume")
        process = start(*arguments)
        while server.asked.total() < MANY_LINES // 3:
            time.sleep(0.002)
            assert process.poll() is None
        process.kill()
        process.communicate()
        process = start(*arguments)
        assert (process.communicate(timeout=600)[0], process.returncode) == (b"", 1)
        assert {each["id"] for each in results_of(output) if "error" in each} == {3}
        server.status_of = lambda _: 200
        process = start(*arguments)
        assert process.communicate(timeout=600) == (b"", b"")
        assert process.returncode == 0
    results = results_of(output)
    assert Counter(each["id"] for each in results) == Counter(range(MANY_LINES))
    assert all(each["text"] == f"say {each['id']}" for each in results)
    assert server.dies_after == set()


def test_an_hour_in_which_the_program_was_stopped_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch gave up, although the server had not been asked again."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(request_pool, "time", SimpleNamespace(monotonic=lambda: clock.now))
    outage = request_pool._Outage()
    assert outage.seconds() == 0

    def pass_by(seconds: float) -> None:
        def stops() -> bool:
            clock.now += seconds
            return True

        outage.wait(2.0, stops, is_asked_for=False)

    pass_by(2.5)
    assert outage.seconds() == 2.5
    pass_by(3602.0)
    assert outage.seconds() == 4.5
