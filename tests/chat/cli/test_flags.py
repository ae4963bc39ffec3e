"""Flags that no other test gives to the program, and what each of them changes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from chat.cli import main
from tests.chat.remote.stub_server import Reply, Script, serving, words
from tests.program import run

TWO_BLOCKS = 'start: "```\\nls\\n```\\n~~~\\npwd\\n~~~"'


def record(*arguments: object) -> dict[str, Any]:
    done = run("--json", *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    plain: dict[str, Any] = json.loads(done.stdout)
    return plain


def test_top_k_of_one_takes_the_likeliest_token(tiny_model: Path) -> None:
    asked = ("-m", tiny_model, "-n", 8, "--seed", 3, "--mlock", "--gpu-layers", 0, "hi")
    greedy = record("--temperature", 0, *asked)["ids"]
    assert record("--top-k", 1, "--min-p", 0, *asked)["ids"] == greedy
    assert record("--min-p", 1, *asked)["ids"] == greedy
    assert record(*asked)["ids"] != greedy


def test_extract_last_prints_the_last_block(tiny_model: Path) -> None:
    done = run("-m", tiny_model, "--grammar", TWO_BLOCKS, "--xl", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"pwd\n", b"")


DROPPED = b"note: the oldest turn no longer fits the context of 256 tokens and is left out\n"


@pytest.mark.parametrize(("overflow", "code", "said"), [("error", 1, b""), ("drop", 0, DROPPED)])
def test_overflow_drop_drops_old_turns_with_a_note(overflow: str, code: int, said: bytes, tiny_v3_model: Path) -> None:
    """A batch dropped them without a note."""
    turn = [{"role": "user", "content": "word " * 60}, {"role": "assistant", "content": "yes"}]
    line = json.dumps({"messages": [*turn, *turn, {"role": "user", "content": "and?"}]}).encode()
    done = run("-m", tiny_v3_model, "--context", 256, "--overflow", overflow, "-n", 2, "--batch", "-", stdin=line)
    plain = json.loads(done.stdout)
    assert (done.returncode, plain.get("exit_code"), done.stderr) == (code, 5 if code else None, said)


@pytest.mark.slow
def test_a_state_cache_of_zero_saves_no_states(tiny_v3_model: Path, tmp_path: Path, own_home: Path) -> None:
    document = tmp_path / "document.txt"
    document.write_text("the cat sat on the mat. " * 200)
    asked = ("-m", tiny_v3_model, "-n", 2, "-f", document, "what?")
    assert run("--state-cache", 0, *asked).returncode == 0
    assert [path for path in own_home.rglob("*") if path.is_file()] == []
    assert run(*asked).returncode == 0
    assert [path for path in own_home.rglob("*") if path.is_file()] != []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--keys", "nano"], "--keys must be one of emacs, vi, not 'nano'"),
        (["--gpu-layers", "some"], "--gpu-layers must be auto, all or a whole number from 0 to 2147483647, not 'some'"),
        (["--overflow", "wrap"], "--overflow must be one of error, drop, not 'wrap'"),
    ],
)
def test_a_value_outside_the_choices_is_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    assert main.run(["-m", "guide", *flags, "hi"]) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threads", "0"], "--threads must be a whole number from 1 to 4096, not 0"),
        (["--repack", "maybe"], "--repack must be one of auto, on, off, not 'maybe'"),
        (["--gpu-layers", "some"], "--gpu-layers must be auto, all or a whole number from 0 to 2147483647, not 'some'"),
        (["--window", "wide"], "--window must be auto, off or a whole number from 1 to 2147483647, not 'wide'"),
    ],
)
def test_a_bench_checks_its_flags_as_a_chat_does(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["bench", *flags]) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


def test_a_request_to_a_server_holds_its_model_and_the_functions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    tools = tmp_path / "tools.json"
    tools.write_text('[{"name": "clock", "parameters": {}}]')
    with serving(Script([Reply(chunks=words("a"))], models=["small", "big"])) as script:
        assert main.run(["--remote", script.url, "--remote-model", "big", "--tools", str(tools), "time?"]) == 0
    assert capsys.readouterr() == ("a\n", "")
    assert [(each["model"], each["tools"][0]["function"]["name"]) for each in script.requests] == [("big", "clock")]


def test_plain_http_to_another_machine_needs_insecure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    with serving(Script([Reply(chunks=words("a"))])) as script:
        url = f"http://0.0.0.0:{script.port}"  # no loopback address, though it leads there
        assert main.run(["--remote", url, "hi"]) == 2
        assert capsys.readouterr().err == (
            "error: http to 0.0.0.0 would send everything unencrypted\nhint: use https, or add `--insecure`\n"
        )
        assert main.run(["--remote", url, "--insecure", "hi"]) == 0
    assert capsys.readouterr() == ("a\n", "")


def test_an_empty_session_name_is_refused(tiny_model: Path) -> None:
    """`--session "$NAME"` where the variable is not set."""
    done = run("-m", tiny_model, "--session", "", "-n", 1, "hi")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: `` cannot be a session's name\nhint: use one line of 1 to 100 characters\n"
