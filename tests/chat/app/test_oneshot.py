"""The command in real pipes with a real tiny model: stdout, stderr and the exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from chat.app import oneshot
from chat.cli import main
from chat.config.options import Settings
from chat.core.conversation import Message
from chat.core.events import TokenCounts
from chat.core.request import Prompt, Request
from tests.chat.tui.scripted import Scripted
from tests.folders import CHECKPOINTS
from tests.processes import children_of, ends
from tests.program import run, start

CUT = b"note: the answer was cut after 2 tokens; `-n` allows more\n"
EXACT = ["--temperature", "0", "--kv-type", "f32", "--flash-attention", "off"]


@pytest.mark.parametrize("name", ["mistral-v0.1", "mistral-v0.3"])
def test_greedy_answers_are_those_of_transformers(name: str, tiny_model: Path, tiny_v3_model: Path) -> None:
    model = tiny_model if name == "mistral-v0.1" else tiny_v3_model
    judged = np.load(CHECKPOINTS / name / "logits.npz")
    ids = json.dumps(judged["prompt"].tolist()).encode()
    done = run("-m", model, "--raw", "--json", *EXACT, "--raw-ids", "-", "-n", 96, stdin=ids)
    assert done.stderr == b""
    answer = json.loads(done.stdout)
    assert answer["ids"] == judged["greedy"].tolist()
    assert answer["finish_reason"] == "length"
    assert answer["tokens"] == {"prompt": 150, "cached": 0, "generated": 96, "drafted": 0, "accepted": 0} | {
        key: answer["tokens"][key] for key in ("drafted", "accepted")
    }


def test_stdout_holds_the_answer_and_one_newline_and_nothing_else(tiny_model: Path) -> None:
    done = run("-m", tiny_model, "-q", "-n", 8, "--seed", 1, stdin=b"hello\n")
    again = run("-m", tiny_model, "-n", 8, "--seed", 1, "--json", "hello")
    assert (done.returncode, done.stderr) == (0, b"")
    text = json.loads(again.stdout)["text"]
    assert done.stdout.decode() == text + "\n"


def test_the_json_record_has_all_its_parts(tiny_model: Path) -> None:
    plain = json.loads(run("-m", tiny_model, "--json", "-n", 3, "hi").stdout)
    assert set(plain) == {
        "text", "finish_reason", "ids", "prompt_ids_sha256", "tokens", "seconds", "sampling", "model",
    }  # fmt: skip
    assert set(plain["tokens"]) == {"prompt", "cached", "generated", "drafted", "accepted"}
    assert set(plain["seconds"]) == {"load", "prompt", "generate"}
    assert set(plain["model"]) == {"path", "name", "size", "sha256", "type", "window", "prompt_format"}
    assert plain["model"]["size"] == tiny_model.stat().st_size
    assert (plain["model"]["type"], plain["model"]["window"], plain["model"]["prompt_format"]) == ("F32", 64, "v1")
    assert isinstance(plain["sampling"]["seed"], int)


def test_a_drawn_seed_gives_the_same_answer_again(tiny_model: Path) -> None:
    first = json.loads(run("-m", tiny_model, "--json", "-n", 20, "hi").stdout)
    seed = first["sampling"]["seed"]
    second = json.loads(run("-m", tiny_model, "--json", "-n", 20, "--seed", seed, "hi").stdout)
    assert first["ids"] == second["ids"]


def test_dry_run_shows_the_prompt_without_an_answer(tiny_model: Path) -> None:
    plain = json.loads(run("-m", tiny_model, "--dry-run", "and this", stdin=b"text\n").stdout)
    assert plain["text"] == "<s> [INST] text\n\nand this [/INST]"
    assert plain["prompt_format"] == "v1"
    assert plain["tokens"] == len(plain["ids"])


def test_a_closed_pipe_ends_the_program_quietly(tiny_model: Path) -> None:
    child = start("-m", tiny_model, "-n", 100000, "hello")
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.read(1)
    child.stdout.close()
    assert child.wait(60) == 141
    assert child.stderr.read() == b""


def test_ctrl_c_keeps_the_text_so_far_and_exits_130(tiny_model: Path) -> None:
    child = start("-m", tiny_model, "-n", 100000, "hello")
    assert child.stdout is not None
    first = child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    rest, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (130, b"")
    assert (first + rest).endswith(b"\n")


def test_ctrl_c_before_the_first_token_stores_no_question(tiny_model: Path) -> None:
    """Ctrl+C had no effect while the model loaded: cancelling an answer before it starts does nothing."""
    for arguments in (["-m", tiny_model], ["-m", tiny_model, "--session", "s"]):
        child = start(*arguments, "-n", 100000, "lost")
        while not children_of(child.pid):
            time.sleep(0.001)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60) == (b"", b"")
        assert child.returncode == 130
    assert "lost" not in json.loads(run("-m", tiny_model, "--session", "s", "--dry-run", "two").stdout)["text"]


def test_sigterm_ends_the_engine_too(tiny_model: Path) -> None:
    child = start("-m", tiny_model, "-n", 100000, "hello")
    assert child.stdout is not None
    child.stdout.read(1)
    engines = children_of(child.pid)
    child.terminate()
    child.communicate(timeout=60)
    assert child.returncode == 143
    assert len(engines) == 1
    assert ends(engines[0])


def test_an_engine_that_dies_is_exit_8_and_one_sentence(tiny_model: Path) -> None:
    child = start("-m", tiny_model, "-n", 100000, "hello")
    assert child.stdout is not None
    child.stdout.read(1)
    os.kill(children_of(child.pid)[0], signal.SIGKILL)
    rest, errors = child.communicate(timeout=60)
    assert (child.returncode, rest[-1:]) == (8, b"\n")
    lines = errors.decode().splitlines()
    assert lines[0].startswith("error: ")
    assert all(line.startswith("hint: ") for line in lines[1:])


def test_stop_strings_are_not_printed(tiny_model: Path) -> None:
    whole = json.loads(run("-m", tiny_model, "--json", "-n", 30, "--seed", 3, "hi").stdout)["text"]
    stop = whole[8:11]
    cut = json.loads(run("-m", tiny_model, "--json", "-n", 30, "--seed", 3, "--stop", stop, "hi").stdout)
    assert (cut["text"], cut["finish_reason"]) == (whole[: whole.index(stop)], "stop")


@pytest.mark.slow
@pytest.mark.parametrize(
    "bound", [("--schema", "name, age int"), ("--regex", "[a-z]{40}"), ("--grammar", 'start: "abcdefghij"')]
)
def test_a_cut_answer_under_a_constraint_fails(tiny_model: Path, bound: tuple[str, str]) -> None:
    done = run("-m", tiny_model, "-n", 2, *bound, "hi")
    assert (done.returncode, done.stderr) == (
        1,
        b"error: the answer was cut after 2 tokens\nhint: `-n` allows more\n",
    )
    assert done.stdout


def test_a_cut_answer_fails_only_when_asked_to(tiny_model: Path) -> None:
    assert run("-m", tiny_model, "-n", 2, "--seed", 1, "hi").returncode == 0
    done = run("-m", tiny_model, "-n", 2, "--seed", 1, "--fail-on-length", "hi")
    assert (done.returncode, done.stderr) == (
        1,
        b"error: the answer was cut after 2 tokens\nhint: `-n` allows more\n",
    )


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "message"),
    [
        (["-m", "nowhere.gguf", "hi"], b"", 3, "nowhere.gguf"),
        (["-m", "MODEL"], b"", 2, "the prompt is empty"),
        (["-m", "MODEL", "--nonsense", "hi"], b"", 2, "no such option: --nonsense"),
        (["-m", "MODEL", "--top-p", "2", "hi"], b"", 2, "--top-p must be a number from 0 to 1, not 2"),
        (["-m", "MODEL", "--raw-ids", "-"], b"[1, -2]", 6, "stdin: needs a JSON list of token ids"),
        (["-m", "MODEL", "--raw-ids", "-"], b"[1, 999999]", 6, "999999"),
        (["-m", "MODEL", "--raw-ids", "-"], b"{", 6, "stdin: is not JSON"),
        (["-m", "MODEL", "-f", "nowhere.txt", "hi"], b"", 7, "nowhere.txt: cannot be read: No such file or directory"),
        (["-m", "MODEL", "-s", "a", "--system-file", "b", "hi"], b"", 2, "--system-file cannot be used together"),
        (["-m", "MODEL", "--kv-type", "q4_0", "--flash-attention", "off", "hi"], b"", 2, "needs flash attention"),
        (["-m", "CHECKPOINT", "hi"], b"", 3, "is a folder, not a GGUF file"),
        (["-m", "TEXT", "hi"], b"", 3, ""),
        (["-q", "convert", "x"], b"", 2, "options of `convert` come after its name"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence_and_its_exit_code(
    arguments: list[str], stdin: bytes, code: int, message: str, tiny_model: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("this is no model")
    names = {"MODEL": str(tiny_model), "CHECKPOINT": str(CHECKPOINTS / "mistral-v0.1"), "TEXT": str(text)}
    done = run(*(names.get(each, each) for each in arguments), stdin=stdin)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (code, b"")
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(lines) <= 2


def test_a_prompt_over_the_context_is_exit_5_with_both_numbers(tiny_v3_model: Path) -> None:
    done = run("-m", tiny_v3_model, "--context", 256, "hi", stdin=b"word " * 2000)
    assert done.returncode == 5
    assert "256" in done.stderr.decode()


def test_hostile_bytes_on_stdin_are_replaced_with_one_note(tiny_model: Path) -> None:
    done = run("-m", tiny_model, "-n", 2, stdin=b"a\xff\0b\xed\xa0\x80")
    assert done.returncode == 0
    assert done.stderr == b"note: stdin is not UTF-8 from byte 1 on; unreadable bytes became U+FFFD\n" + CUT


def test_a_batch_answers_in_order_and_reports_what_is_wrong(tiny_model: Path, tmp_path: Path) -> None:
    lines = [
        '"one"',
        '{"id": "b", "prompt": "two", "max_tokens": 2, "temperature": 0}',
        "not json",
        '{"id": "d", "prompt": ""}',
        '{"id": {"x": 1}, "messages": [{"role": "user", "content": "three"}]}',
        '{"id": "f", "prompt": "x", "nonsense": 1}',
        '{"id": "g", "prompt": "x", "top_p": 7}',
        "",
    ]
    batch = tmp_path / "batch.jsonl"
    batch.write_text("\n".join(lines) + "\n")
    done = run("-m", tiny_model, "--batch", batch, "-n", 4, "--seed", 5)
    assert (done.returncode, done.stderr) == (1, b"")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["id"] for each in results] == [1, "b", 3, "d", {"x": 1}, "f", "g"]
    assert [each.get("error") for each in results] == [
        None, None, "line 3: is not JSON: Expecting value: line 1 column 1 (char 0)",
        "line 4: `prompt` must be a string", None, "line 6: unknown key `nonsense`",
        "--top-p must be a number from 0 to 1, not 7",
    ]  # fmt: skip
    assert [each["exit_code"] for each in results if "error" in each] == [6, 6, 6, 2]
    assert (results[1]["tokens"]["generated"], results[1]["sampling"]["temperature"]) == (2, 0)


def test_a_batch_resumes_after_a_crash_without_repeating_work(tiny_model: Path, tmp_path: Path) -> None:
    batch, output = tmp_path / "batch.jsonl", tmp_path / "out.jsonl"
    batch.write_text("".join(json.dumps({"id": n, "prompt": f"question {n}"}) + "\n" for n in range(4)))
    output.write_text('{"id": 0, "text": "kept"}\n{"id": 2, "text": "kept"}\n{"id": 1, "text": "to')
    done = run("-m", tiny_model, "--batch", batch, "--output", output, "--resume", "-n", 2)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    results = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(each["id"], each["text"] == "kept") for each in results] == [(0, True), (2, True), (1, False), (3, False)]
    refused = run("-m", tiny_model, "--batch", batch, "--output", output)
    assert (refused.returncode, refused.stderr.decode().splitlines()[0]) == (2, f"error: {output} exists")


def test_a_missing_batch_file_is_exit_7(tiny_model: Path) -> None:
    done = run("-m", tiny_model, "--batch", "nowhere.jsonl")
    assert (done.returncode, done.stderr) == (7, b"error: nowhere.jsonl: cannot be read: No such file or directory\n")


@pytest.mark.slow
def test_one_shot_runs_continue_a_session(tiny_model: Path) -> None:
    first = json.loads(run("-m", tiny_model, "--session", "trip", "--json", "-n", 4, "--seed", 1, "one").stdout)
    second = json.loads(run("-c", "--dry-run", "two").stdout)
    before, _, after = second["text"].partition(first["text"])
    assert (before.rstrip(), after) == ("<s> [INST] one [/INST]", "</s> [INST] two [/INST]")
    assert run("-c", "-n", 4, "two").returncode == 0
    shown = json.loads(run("sessions", "show", "trip", "--json").stdout)
    assert [each["content"] for each in shown["nodes"]][::2] == ["one", "two"]
    details = shown["nodes"][1]["details"]
    assert abs(time.time() - details.pop("finished")) < 3600
    assert details == {
        "model": tiny_model.stem,
        "type": first["model"]["type"],
        "sampling": first["sampling"],
        "tokens": {**asdict(TokenCounts()), **first["tokens"]},
        "seconds": first["seconds"],
    }
    assert details["sampling"]["seed"] is not None
    assert str(tiny_model.parent) not in json.dumps(shown)


@pytest.mark.slow
def test_an_exchange_that_could_not_be_stored_is_reported(tiny_model: Path) -> None:
    """The disk is full once the question is to be written: the answer comes, but nobody may believe it is kept."""
    assert run("-m", tiny_model, "--session", "s", "-n", 2, "one").returncode == 0
    resource = pytest.importorskip("resource")
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    done = run("--session", "s", "-n", 2, "two", preexec_fn=full)
    assert done.returncode == 0 and done.stdout
    lost = b"note: the history cannot be used (the disk is full or broken): this chat is kept in memory only\n"
    assert sorted(done.stderr.splitlines(keepends=True)) == sorted([lost, CUT])
    assert b"two" not in run("sessions", "show", "s").stdout


def test_a_one_shot_without_a_session_stores_nothing(tiny_model: Path, own_home: Path) -> None:
    assert run("-m", tiny_model, "-n", 2, "hi").returncode == 0
    assert run("-m", tiny_model, "-n", 2, "--no-history", "hi").returncode == 0
    assert [path for path in own_home.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_the_second_question_about_a_long_file_does_not_read_it_again(tiny_v3_model: Path, tmp_path: Path) -> None:
    document = tmp_path / "document.txt"
    document.write_text("the cat sat on the mat and the dog ran far away. " * 60)

    def ask(question: str, *flags: str) -> dict[str, Any]:
        asked = [*EXACT, "--json", "-n", 8, "-f", document, *flags, question]
        done = run("-m", tiny_v3_model, *asked)
        assert (done.returncode, done.stderr) == (0, b"")
        plain: dict[str, Any] = json.loads(done.stdout)
        return plain

    first, second = ask("who ran?"), ask("and where did it run to?")
    assert first["tokens"]["cached"] == 0
    assert 0 < second["tokens"]["prompt"] - second["tokens"]["cached"] < 50
    cold = ask("and where did it run to?", "--no-history")
    assert (cold["tokens"]["cached"], cold["ids"]) == (0, second["ids"])


@pytest.mark.slow
def test_a_question_without_an_answer_does_not_stay_in_the_session(tiny_model: Path) -> None:
    assert run("-m", tiny_model, "--session", "s", "-n", 2, "one").returncode == 0
    assert run("-c", "-m", "nowhere.gguf", "lost").returncode == 3
    assert run("-c", "--regex", "(", "lost").returncode == 2
    assert "lost" not in json.loads(run("-c", "--dry-run", "two").stdout)["text"]


@pytest.mark.slow
def test_without_a_model_the_guide_answers_and_says_so() -> None:
    done = run(stdin=b"How do I convert a checkpoint?\n")
    assert done.returncode == 0
    assert "mistral-chat convert" in done.stdout.decode()
    assert done.stderr.startswith(b"note: no model is named, so the guide answers: ")
    assert run("-q", "-m", "guide", "hello").stderr == b""
    assert run("--batch", "-", stdin=b"").stderr == done.stderr


def test_logprobs_hold_each_token_and_the_likeliest_ones(tiny_model: Path) -> None:
    plain = json.loads(run("-m", tiny_model, "--json", "--logprobs", 3, "-n", 5, "--temperature", 0, "hi").stdout)
    assert [each["id"] for each in plain["logprobs"]] == plain["ids"]
    for each in plain["logprobs"]:
        assert [top["logprob"] for top in each["top"]] == sorted((top["logprob"] for top in each["top"]), reverse=True)
        assert (len(each["top"]), each["top"][0]["id"]) == (3, each["id"])  # greedy takes the likeliest
        assert each["logprob"] < 0


@pytest.mark.slow
def test_rows_are_repacked_for_one_long_prompt_and_not_where_a_state_is_kept(
    converted: Callable[..., Path], tmp_path: Path
) -> None:
    model, log, document = converted("mistral-v0.1", "Q4_0"), tmp_path / "log", tmp_path / "document.txt"
    document.write_text("the cat sat on the mat. " * 100)

    def is_repacked(*arguments: object, stdin: bytes = b"") -> bool:
        log.unlink(missing_ok=True)
        assert run("-m", model, "-n", 2, "--log-file", log, *arguments, stdin=stdin).returncode == 0
        return any(f"{name} model buffer size" in log.read_text() for name in ("CPU_REPACK", "AMX"))

    assert is_repacked("what is it about?", stdin=document.read_bytes())
    assert is_repacked("-f", document, "--no-history", "what is it about?")
    assert not is_repacked("-f", document, "what is it about?")
    assert not is_repacked("hi")
    assert not is_repacked("--repack", "off", stdin=document.read_bytes())


def test_the_guide_refuses_a_text_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It looked for the topics of 20 MB, which took minutes, before the engine refused them."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr("chat.worker.client.LocalBackend", None)  # is not started
    assert main.run(["-q", "--no-history", "x" * 100_001]) == 5
    assert capsys.readouterr().err == (
        "error: the prompt has 100,001 bytes, and the guide takes short questions only\nhint: `-m` names a full model\n"
    )


FOLDER_VARIABLES = (
    "HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR",
    "MISTRAL_CHAT_HOME", "HF_HOME", "TMPDIR",
)  # fmt: skip


@pytest.mark.parametrize("variable", [*FOLDER_VARIABLES, "all"])
def test_a_one_shot_answers_whatever_the_folders_are(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """HOME=/dev/null, as service accounts have it, was exit code 7."""
    closed, model = tmp_path / "closed", tmp_path / "m.gguf"
    closed.mkdir(mode=0)
    model.touch()
    places = [
        None,
        "",
        "relative/x",
        "~",
        "/dev/null",
        model,
        tmp_path / "no/such",
        closed,
        "/proc/x",
        "/x" * 5000,
        "/",
    ]
    monkeypatch.setattr("chat.worker.client.LocalBackend", lambda options, **_: Scripted([[["text", "Yes."]]]))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.delenv("MISTRAL_CHAT_HOME")
    for place in places:
        for name in FOLDER_VARIABLES if variable == "all" else [variable]:
            monkeypatch.delenv(name, raising=False)
            if place is not None:
                monkeypatch.setenv(name, str(place))
        assert main.run(["-m", str(model), "hi"]) == 0, place
        said = capsys.readouterr()
        notes = [] if place != closed or os.access(closed, os.X_OK) else ["note: without settings, because "]
        assert said.out == "Yes.\n" and [line[:32] for line in said.err.splitlines()] in ([], notes), (place, said.err)


def test_a_file_that_cannot_fit_is_not_counted_before_it_is_refused() -> None:
    """10 MB of one letter took seven seconds and 1.6 GB to count, and were refused by a bound of their bytes then."""
    counted: list[int] = []

    class Backend:
        def count(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
            counted.append(len(messages[0].content))
            return (1,)

    output: Any = SimpleNamespace(settings=Settings(file=("a.txt",)))
    for length in (128_000, 128_001):
        request = Request(Prompt(messages=(Message("user", "a" * length),)))
        info: Any = SimpleNamespace(context=1000)
        backend: Any = Backend()
        oneshot._note_size(backend, request, info, output)
    assert counted == [128_000]
