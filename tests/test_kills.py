"""The program or its engine, killed at random moments: nothing that was shown is lost, no file is left half written.

No saved state changes an answer: the next one is that of a cold run. `--full` kills 2,000 times.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chat.core.conversation import Conversation, Message
from chat.history import schema
from chat.history.export import export_text
from chat.history.store import open_store
from tests.chat import seeing
from tests.chat.gguf.gguf_samples import nomic_bert
from tests.chat.history.try_hostile_histories import CAT, write_history
from tests.chat.tui.pseudo_terminal import CTRL_D, ENTER, Terminal
from tests.folders import CHECKPOINTS
from tests.grids import FULL
from tests.processes import children_of, ends
from tests.program import PROGRAM, Popen, run_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KILLS = 200 if FULL else 5
COMPARED_EVERY = 10 if FULL else KILLS
# A prompt that was read in other pieces has other last bits; with this cache they are too small to change an answer
PRECISE = ("--kv-type", "f32", "--flash-attention", "off")
PRECISE_PROGRAM = (*PROGRAM, *PRECISE)
FIGURES = re.compile(r"^\d+ tokens? · ", re.MULTILINE)  # the line under a whole answer
WAITING = ("mistral-v0.1 · ", "loading ", "reading ")  # the toolbar, and lines of status
LAST = "and what came of it?"
OPENED = (
    "import sys; from pathlib import Path; from chat.history.store import open_store; open_store(Path(sys.argv[1]))"
)
TARGETS = ("program", "engine", "both")


def kill(program: int, target: str) -> None:
    """Kill a program, its engine, or both; the program if there is no engine."""
    engines = children_of(program)[-1:]
    targets = {"program": [program], "engine": engines or [program], "both": [program, *engines]}[target]
    for each in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


class Killer:
    """Runs commands and kills each at a random moment of the life that an undisturbed one has."""

    def __init__(self, seed: int, home: Path) -> None:
        self.chance = random.Random(seed)
        self.environment = {**os.environ, "MISTRAL_CHAT_HOME": str(home), "MISTRAL_CHAT_THREADS": "1"}
        self.seconds: dict[str, float] = {}

    def run(self, kind: str, command: Sequence[object], targets: Sequence[str] = TARGETS[:1]) -> tuple[int, bytes]:
        """Run a command, killed but for the first of its kind.

        Returns:
            The exit code, or the negative number of the signal, and what was printed.
        """
        begun = time.monotonic()
        with tempfile.TemporaryFile() as output:
            process = Popen([*map(str, command)], stdout=output, stderr=subprocess.DEVNULL, env=self.environment)
            engines: list[int] = []
            if kind in self.seconds:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self.chance.uniform(0, self.seconds[kind]))
                engines = children_of(process.pid)
                kill(process.pid, self.chance.choice(targets))
            code = process.wait(60)
            assert all(ends(engine) for engine in engines)
            output.seek(0)
            printed = output.read()
        if kind not in self.seconds:
            assert code == 0, printed
            self.seconds[kind] = time.monotonic() - begun
        return code, printed


def open_sessions(file: Path) -> list[tuple[str, int]]:
    """The label of each session with the number of its messages; the history passes its integrity check."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with open_store(file) as store:
        assert store.take_notices() == ()
        return [(record.label, len(store.load(record.id)[1].nodes)) for record in store.list(None)]


def hold_turn(home: Path, model: Path, question: str, chance: random.Random) -> tuple[bool, bool]:
    """Continue the session, ask, and kill the program at a random moment before its end, or let it end.

    Returns:
        Whether a part of the answer was seen, and whether all of it with its figures.
    """
    flags = ["-c", "--stats", "-m", str(model), "--temperature", "0", "-n", "120"]
    environment = {"MISTRAL_CHAT_HOME": str(home), "MISTRAL_CHAT_THREADS": "1"}
    terminal = Terminal([*PRECISE_PROGRAM, *flags], environment=environment, folder=home.parent, fork=False)
    terminal.wait(lambda: is_ready(terminal))
    terminal.child.send(question + ENTER)
    phase = chance.choice(("any", "answering", "leaving"))
    if phase == "answering":
        terminal.wait(lambda: bool(answer_of(terminal, question)))
    if phase == "leaving":
        terminal.wait(lambda: bool(FIGURES.search(answer_of(terminal, question))) and is_ready(terminal))
        terminal.child.send(CTRL_D)
    deadline = time.monotonic() + chance.uniform(0, 1.2 if phase == "any" else 0.4)
    while time.monotonic() < deadline and terminal.pump(0.01):
        pass
    target = chance.choice(TARGETS)
    kill(terminal.child.pid, target)
    while terminal.pump(0.01) and not (target == "engine" and terminal.cursor_line() == ">"):
        pass
    seen = answer_of(terminal, question)
    terminal.kill()
    return bool(seen), bool(FIGURES.search(seen))


def is_ready(terminal: Terminal) -> bool:
    return terminal.cursor_line() == ">" and "loading" not in terminal.lines()[-1]


def answer_of(terminal: Terminal, question: str) -> str:
    """The text under a question, without status lines."""
    below = terminal.everything().partition(f"> {question}\n")[2]
    lines = [line for line in below.splitlines() if not line.startswith((">", *WAITING))]
    return "\n".join(lines).strip()


def loaded(home: Path) -> tuple[Message, ...]:
    """The session as the program would continue it; the history passes its integrity check."""
    file = home / "data" / "history.db"
    if not file.exists():  # the first run was killed before it made one
        return ()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with open_store(file) as store:
        record = store.latest()
        conversation = store.load(record.id)[1] if record else Conversation()
    return tuple(node.message for node in conversation.path())


def asked_cold_and_warm(home: Path, other: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Answers to one question from two copies of the home, with its saved states and without."""
    answers = []
    for keeps in (True, False):
        shutil.copytree(home, other)
        for state in () if keeps else tuple(other.rglob("*.state")):
            state.unlink()
        environment = {**os.environ, "MISTRAL_CHAT_HOME": str(other), "MISTRAL_CHAT_THREADS": "1"}
        command = [*PRECISE_PROGRAM, "-c", "--temperature", "0", "-n", "40", "--json", LAST]
        said = run_command(command, env=environment, capture_output=True, text=True, cwd=other)
        assert said.returncode == 0, said.stderr
        answers.append(json.loads(said.stdout))
        shutil.rmtree(other)
    return answers[0], answers[1]


@pytest.mark.slow
def test_a_session_killed_at_random_moments_loses_nothing_that_was_shown(tmp_path: Path, tiny_model: Path) -> None:
    chance = random.Random(KILLS)
    home = tmp_path / "home"
    before: tuple[Message, ...] = ()
    spared = 0
    for kill in range(1, KILLS + 1):
        question = f"question {kill} of {KILLS}"
        is_seen, is_whole = hold_turn(home, tiny_model, question, chance)
        now = loaded(home)
        assert now[: len(before)] == before
        new = now[len(before) :]
        assert [(message.role, message.content) for message in new[:1]] in ([], [("user", question)])
        assert [message.role for message in new] in ([], ["user"], ["user", "assistant"])
        assert new or not is_seen
        assert (len(new) == 2 and new[1].finish_reason in ("stop", "length")) or not is_whole
        assert all(
            message.content and message.finish_reason in ("stop", "length", "interrupted") for message in new[1:]
        )
        before = now
        if kill % COMPARED_EVERY == 0:
            warm, cold = asked_cold_and_warm(home, tmp_path / "copy")
            assert cold["tokens"]["cached"] == 0
            keys = ("text", "ids", "prompt_ids_sha256", "finish_reason")
            assert [warm[key] for key in keys] == [cold[key] for key in keys]
            spared += warm["tokens"]["cached"]
    assert spared > 0, "no state was ever used"


@pytest.mark.slow
@pytest.mark.parametrize("attached", ["nothing", "a picture", "passages"])
def test_a_killed_one_shot_keeps_what_it_printed(
    attached: str, tmp_path: Path, tiny_model: Path, tiny_v3_model: Path, seeing_model: Callable[..., Path]
) -> None:
    home, embeddings = tmp_path / "home", tmp_path / "embeddings.gguf"
    photo, document = tmp_path / "photo.png", tmp_path / "long.md"
    photo.write_bytes(seeing.file_of(seeing.picture_of_noise(112, 84, 1)))
    document.write_text("\n\n".join(f"# the {number}\n\n{'the a e cat sat. ' * 60}" for number in range(30)))
    nomic_bert(embeddings)
    options, count = {
        "nothing": (["-m", tiny_model], 600),
        "a picture": (["-m", seeing_model(), "-f", photo], 200),
        "passages": (["-m", tiny_v3_model, "-f", document, "--find", "--embedding-model", embeddings], 200),
    }[attached]
    killer = Killer(1, home)
    before: tuple[Message, ...] = ()
    for number in range(count if FULL else 3):
        if number % 20 == 0 and attached == "passages":  # a session of many long questions takes long to read
            shutil.rmtree(home, ignore_errors=True)
            before = ()
        question = f"question {number} about the cat"
        flags = ["--temperature", "0", "-n", "200", "--session", "s", "--overflow", "drop"]
        code, printed = killer.run("one shot", [*PROGRAM, *options, *flags, question], TARGETS)
        now = loaded(home)
        assert now[: len(before)] == before
        new = now[len(before) :]
        assert [message.content.rpartition("\n")[2] for message in new[:1]] in ([], [question])
        assert [[each.data for each in message.pictures] for message in new[:1]] in (
            [], [[photo.read_bytes()] if attached == "a picture" else []],
        )  # fmt: skip
        assert [message.role for message in new] in ([], ["user"], ["user", "assistant"])
        assert new or not printed
        if code == 0:
            assert new[1].content.strip() == printed.decode().strip() and new[1].finish_reason in ("stop", "length")
        before = now
    vectors = {file.stat().st_size for file in home.rglob("*.vectors")}
    assert len(vectors) == (attached == "passages")  # none is cut off


def test_a_killed_export_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out.html"
    conversation = Conversation()
    for number in range(60):
        conversation = conversation.add(Message("user", "question " * 400, pictures=(CAT,)), f"q{number}")
    with open_store(home / "data" / "history.db") as store:
        record = store.create(name="s", conversation=conversation)
        whole = export_text(*store.load(record.id), "html")
    killer = Killer(2, home)
    for _ in range(300 if FULL else 4):
        out.write_text("the old file")
        code, _ = killer.run("export", [*PROGRAM, "sessions", "export", "s", "-o", out, "--overwrite"])
        assert out.read_text() in (("the old file", whole) if code else (whole,))
    assert open_sessions(home / "data" / "history.db") == [("s", 60)]


def test_a_killed_import_stores_whole_sessions(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "exported.jsonl"
    turns = Conversation()
    for number in range(10):
        turns = turns.add(Message("user", f"question {number}", pictures=(CAT,)), f"q{number}")
    with open_store(None) as store:
        for number in range(40):
            store.create(title=f"s{number}", conversation=turns)
        file.write_text("".join(export_text(*store.load(record.id), "jsonl") for record in store.list(None)))
    killer = Killer(3, home)
    stored = 0
    for _ in range(250 if FULL else 4):
        code, printed = killer.run("import", [*PROGRAM, "sessions", "import", file])
        sessions = open_sessions(home / "data" / "history.db")
        assert {messages for _, messages in sessions} <= {10}
        new, stored = len(sessions) - stored, len(sessions)
        assert len(printed.split()) <= new <= 40 and (new == 40 or code)
        if stored > 400:
            shutil.rmtree(home)
            stored = 0


def test_a_killed_migration_leaves_a_history_that_opens(tmp_path: Path) -> None:
    path, versions = tmp_path / "history.db", range(1, schema.SCHEMA)
    for version in versions:
        write_history(tmp_path / f"{version}.db", version)
    killer = Killer(4, tmp_path / "home")
    for number in range(500 if FULL else 5):
        for file in tmp_path.glob("history.db*"):
            file.unlink()
        shutil.copy(tmp_path / f"{versions[number % len(versions)]}.db", path)
        killer.run("migration", [sys.executable, "-c", OPENED, path])
        assert open_sessions(path) == [("witness", 3), ("trip", 3)]


@pytest.mark.slow
def test_a_killed_conversion_leaves_the_whole_file_or_none(tmp_path: Path) -> None:
    killer = Killer(5, tmp_path / "home")
    out = tmp_path / "out" / "model.gguf"
    out.parent.mkdir()
    whole = b""
    for _ in range(150 if FULL else 2):
        out.unlink(missing_ok=True)
        command = [*PROGRAM, "convert", CHECKPOINTS / "mistral-v0.1", "-t", "Q8_0", "-o", out]
        code, _ = killer.run("conversion", command, TARGETS)
        whole = whole or out.read_bytes()
        assert out.read_bytes() == whole if out.exists() else code
    out.unlink(missing_ok=True)
    del killer.seconds["conversion"]
    killer.run("conversion", command)
    assert out.read_bytes() == whole
    assert [each.name for each in out.parent.iterdir()] == ["model.gguf"]  # what the killed ones left is gone
