"""Nothing is read twice: states bring back what the window forgot, and none is trusted that is not exactly ours."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.core.token_ids import common_prefix
from chat.guide import PATH as GUIDE
from chat.inference.generator import chunk_bounds
from chat.inference.kv_state_files import KvStateStore
from chat.inference.loaded_model import load_vocabulary
from chat.llama.kv_snapshots import Snapshot, Snapshots, is_resumable
from chat.prompts.builder import encode, stable_prefix_length
from chat.worker.client import LocalBackend
from tests.grids import FULL

GREEDY = Sampling(temperature=0)
LONG = tuple(3 + (i * 7919) % 390 for i in range(900))
Open = Callable[..., LocalBackend]


@pytest.fixture
def open_engine() -> Iterator[Open]:
    opened: list[LocalBackend] = []

    def make(path: Path, **options: object) -> LocalBackend:
        settled = {"flash_attention": "on", "threads": 1}
        engine = LocalBackend(EngineOptions(str(path), **(settled | options)))  # type: ignore[arg-type]
        opened.append(engine)
        return engine

    yield make
    for engine in opened:
        engine.close(keep_state=False)


def ask(engine: LocalBackend, ids: tuple[int, ...], tokens: int = 20, session: str | None = None) -> Completion:
    last = list(engine.reply(Request(Prompt(ids=ids), GREEDY, max_tokens=tokens, session=session)))[-1]
    assert isinstance(last, Completion)
    return last


def test_common_prefixes_are_found_by_halving() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        left = [chance.randint(0, 1) for _ in range(chance.randint(0, 9))]
        right = [chance.randint(0, 1) for _ in range(chance.randint(0, 9))]
        plain = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
        assert common_prefix(left, right) == (min(len(left), len(right)) if plain is None else plain)
        assert common_prefix(array("i", left), tuple(right)) == common_prefix(left, right)


def test_a_position_is_reachable_where_its_window_is_held() -> None:
    assert [is_resumable(100, oldest, 64) for oldest in (0, 37, 38)] == [True, True, False]
    assert [is_resumable(100, oldest, None) for oldest in (0, 1)] == [True, False]
    assert is_resumable(10, 0, 64)


def test_memory_holds_the_states_used_last_within_its_budget() -> None:
    kept = Snapshots(250)
    states = [Snapshot(array("i", [n, n, n]), 0, bytes(100)) for n in range(3)]
    for state in states:
        kept.keep(state)
    assert len(kept) == 2
    assert kept.best([0, 0, 0, 1], None) == (None, 0)
    assert kept.best([1, 1, 1, 1], None) == (states[1], 3)
    kept.keep(Snapshot(array("i", [9]), 0, bytes(100)))
    assert kept.best([2, 2, 2, 2], None) == (None, 0)  # the other one had been used since
    assert kept.best([1, 1], None) == (states[1], 1)  # the last id of a prompt is always read
    assert not kept.has_room(251)


@pytest.mark.slow
def test_another_try_past_the_window_reads_no_more_than_the_question(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file)
    first = ask(engine, LONG, 700)
    again = ask(engine, LONG, 700)
    assert again.tokens.cached == len(LONG) - 1
    assert again.ids[:50] == first.ids[:50]  # the last id was read alone this time: float32 sums differ in bits
    assert ask(engine, LONG, 700).ids == again.ids


@pytest.mark.parametrize("file", ["windowed_file", "interleaved_file"])
@pytest.mark.slow
def test_undo_and_edit_past_the_window_come_back_to_where_the_turn_began(
    file: str, request: pytest.FixtureRequest, open_engine: Open
) -> None:
    path = request.getfixturevalue(file)
    engine = open_engine(path)
    first = ask(engine, LONG, 30)
    told = (*LONG, *first.ids)
    ask(engine, (*told, 7, 8, 9), 600)
    edited = ask(engine, (*told, 10, 11, 12), 40)
    assert edited.tokens.cached >= len(told) - 2
    cold = ask(open_engine(path), (*told, 10, 11, 12), 40)
    assert (cold.tokens.cached, cold.ids) == (0, edited.ids)


@pytest.mark.parametrize("file", ["windowed_file", "plain_file", "interleaved_file"])
@pytest.mark.slow
def test_a_session_goes_on_where_it_stopped_without_reading_again(
    file: str, request: pytest.FixtureRequest, open_engine: Open, tmp_path: Path
) -> None:
    path, folder = request.getfixturevalue(file), tmp_path / "states"
    engine = open_engine(path, state_folder=str(folder))
    first = ask(engine, LONG, 30, "work")
    engine.close()
    (saved,) = folder.iterdir()
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700
    told = (*LONG, *first.ids, 7, 8)
    resumed = ask(open_engine(path, state_folder=str(folder)), told, 30, "work")
    assert resumed.tokens.cached == len(LONG) + len(first.ids) - 1
    assert resumed.ids == ask(open_engine(path), told, 30).ids


def chat(engine: LocalBackend, questions: int, session: str | None = None) -> tuple[list[Message], Completion]:
    """The last answer to so many questions, each with a system prompt of its own, and what was said until then."""
    said: list[Message] = []
    done = None
    for number in range(questions):
        if done is not None:
            said.append(Message("assistant", done.text, done.ids))
        said.append(Message("user", f"How do I undo the message number {number} or search for it?"))
        messages = (Message("system", f"Topics: undo {number}, search. New words: {number}"), *said)
        done = list(engine.reply(Request(Prompt(messages=messages), GREEDY, max_tokens=25, session=session)))[-1]
        assert isinstance(done, Completion)
    assert done is not None
    return said, done


@pytest.mark.slow
def test_a_session_goes_on_past_the_window_where_the_system_prompt_moves_with_the_last_question(
    open_engine: Open, tmp_path: Path
) -> None:
    """v3 takes the system prompt out of the question before: the newest state lacks cells to go back there."""
    engine = open_engine(GUIDE, state_folder=str(tmp_path))
    said, last = chat(engine, 9, "work")
    assert last.tokens.prompt > (engine.info().window or 0) > 0
    engine.close()
    messages = (
        Message("system", "Topics: leave"),
        *said,
        Message("assistant", last.text, last.ids),
        Message("user", "Q"),
    )
    request = Request(Prompt(messages=messages), GREEDY, max_tokens=30)
    warm = list(open_engine(GUIDE, state_folder=str(tmp_path)).reply(request))[-1]
    cold = list(open_engine(GUIDE).reply(request))[-1]
    assert isinstance(warm, Completion) and isinstance(cold, Completion)
    assert warm.tokens.prompt - warm.tokens.cached < 150 and cold.tokens.cached == 0
    assert (warm.ids, warm.text) == (cold.ids, cold.text)


def test_the_next_prompt_begins_with_this_one_unless_the_system_prompt_moves() -> None:
    room = load_vocabulary(EngineOptions(str(GUIDE), vocab_only=True))
    messages = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"))
    ends = {}
    for name in ("v1", "v2", "v3", "v3-tekken", "chatml", "zephyr", "raw"):
        for system in ((), (Message("system", "Be brief"),)):
            prompt = Prompt(messages=(*system, *messages))
            ids = encode(prompt, room.vocabulary, name)
            kept = stable_prefix_length(prompt, ids, room.vocabulary, name)
            if kept != len(ids):
                ends[name, bool(system)] = room.vocabulary.text_of(ids[:kept])
    room.close()
    assert ends == dict.fromkeys(
        (("v2", True), ("v3", True), ("v3-tekken", True)), "<s>[INST] one[/INST] two</s>[INST]"
    )


@pytest.mark.parametrize("file", ["windowed_file", "interleaved_file"])
@pytest.mark.slow
def test_the_second_question_about_a_document_starts_at_once(
    file: str, request: pytest.FixtureRequest, open_engine: Open, tmp_path: Path
) -> None:
    document = (*LONG, *LONG[::-1])
    path = request.getfixturevalue(file)
    engine = open_engine(path, state_folder=str(tmp_path))
    ask(engine, (*document, 5, 6, 7), 600)
    engine.close()
    second = open_engine(path, state_folder=str(tmp_path))
    answer = ask(second, (*document, 9, 10), 30)
    assert answer.tokens.cached >= len(document) - 256
    second.close()
    assert len(list(tmp_path.glob("*.state"))) == 1
    assert answer.ids == ask(open_engine(path), (*document, 9, 10), 30).ids


@pytest.mark.parametrize(
    "change",
    [{"kv_type": "f32"}, {"flash_attention": "off"}, {"window": "32"}, {"window": "off"}, {"context": 64}],
)
@pytest.mark.slow
def test_a_state_of_other_settings_is_ignored(
    windowed_file: Path, open_engine: Open, tmp_path: Path, change: dict[str, object]
) -> None:
    engine = open_engine(windowed_file, state_folder=str(tmp_path))
    told = (*LONG, *ask(engine, LONG, 5, "work").ids, 9)
    engine.close()
    told = told[-200:] if "context" in change else told
    answer = ask(open_engine(windowed_file, state_folder=str(tmp_path), **change), told, 10)
    assert answer.tokens.cached == 0
    assert answer.ids == ask(open_engine(windowed_file, **change), told, 10).ids


@pytest.mark.slow
def test_a_state_of_a_changed_model_is_ignored(windowed_file: Path, open_engine: Open, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(windowed_file.read_bytes())
    engine = open_engine(path, state_folder=str(tmp_path))
    told = (*LONG, *ask(engine, LONG, 5, "work").ids, 9)
    engine.close()
    assert ask(open_engine(path, state_folder=str(tmp_path)), told, 5).tokens.cached == len(LONG) + 4
    os.utime(path, ns=(1, 1))
    assert ask(open_engine(path, state_folder=str(tmp_path)), told, 5).tokens.cached == 0


@pytest.mark.slow
def test_a_state_that_is_not_whole_or_too_long_is_ignored(
    windowed_file: Path, open_engine: Open, tmp_path: Path
) -> None:
    """Cut anywhere, or with a byte more; the answer is the same as without it. Flipped bits: test_faults.py."""
    engine = open_engine(windowed_file, state_folder=str(tmp_path))
    told = (*LONG, *ask(engine, LONG, 5, "work").ids, 9)
    engine.close()
    (saved,) = tmp_path.glob("*.state")
    whole = saved.read_bytes()
    states = KvStateStore(tmp_path, {}, 1 << 30)
    length = struct.unpack("<I", whole[40:44])[0]
    states._fingerprint = json.loads(whole[44 : 44 + length])["fingerprint"]
    states._model = saved.stem.partition("-")[2]
    head, reach = states.best(told, 64)
    assert head is not None and reach == len(LONG) + 4 and states.load(head) is not None
    for size in (0, 5, 43, 44, 44 + length, len(whole) - 1):
        saved.write_bytes(whole[:size])
        head, _ = states.best(told, 64)
        assert head is None or states.load(head) is None, size
    saved.write_bytes(whole + b"\0")
    answer = ask(open_engine(windowed_file, state_folder=str(tmp_path)), told, 5)
    assert answer.tokens.cached == 0
    assert answer.ids == ask(open_engine(windowed_file), told, 5).ids


def test_no_hostile_state_is_trusted(tmp_path: Path) -> None:
    """Headers whose hash was made to fit again, other types and sizes, and what is no file; 5,000 in a full run."""
    store = KvStateStore(tmp_path, {"model": "tiny"}, 1 << 20)
    snapshot = Snapshot(array("i", range(100)), 0, bytes(4000))
    path = store.save("a" * 32, snapshot)
    assert path is not None
    whole = path.read_bytes()
    end = 44 + struct.unpack("<I", whole[40:44])[0]
    header, after = json.loads(whole[44:end]), whole[end:]
    values = [
        None,
        True,
        -1,
        0,
        1,
        99,
        101,
        2**31,
        2**64,
        -(2**63),
        1.5,
        4e3,
        float("nan"),
        "",
        "4000",
        "\ud800",
        [],
        {},
    ]
    texts = [b"[" * 60_000, b"null", b"{}", b"1e999", b"\xff", b"9" * 60_000]
    chance = random.Random(9)

    def sealed(text: bytes, size: int) -> bytes:
        return whole[:8] + hashlib.sha256(text).digest() + struct.pack("<I", size) + text + after

    for _ in range(5000 if FULL else 60):
        changed = header | {chance.choice([*header]): chance.choice(values) for _ in range(2)}
        text = chance.choice([json.dumps(changed).encode()] * 9 + texts)
        size = chance.choice([len(text)] * 9 + [0, 2**32 - 1])
        path.write_bytes(sealed(text, size)[: chance.choice([None] * 9 + [chance.randrange(len(whole))])])
        found, length = store.best(range(120), chance.choice([None, 16]))
        loaded = found and store.load(found)
        assert loaded is None or (bytes(loaded.data), loaded.oldest in range(100)) == (snapshot.data, True)
        assert 0 <= length <= 100
    with path.open("wb") as file:  # says that it is large, and is
        text = json.dumps(header | {"payload_bytes": 1 << 40}).encode()
        file.write(sealed(text, len(text))[:-4000])
        file.truncate(file.tell() + (1 << 40))
    assert store.best(range(120), None)[0] is None
    for make in (os.mkfifo, lambda name: name.symlink_to(name), lambda name: name.symlink_to("/dev/zero"), Path.mkdir):
        path.unlink()
        make(path)
        assert store.best(range(120), None) == (None, 0)


def test_the_states_used_least_recently_go_beyond_the_limit(tmp_path: Path) -> None:
    states = KvStateStore(tmp_path, {"a": 1}, 3 * (1 << 16) + 3000)
    snapshot = Snapshot(array("i", [1, 2, 3]), 0, bytearray(60_000))
    paths = [states.save(str(n), snapshot) for n in range(3)]
    for at, path in enumerate(paths):
        assert path is not None
        os.utime(path, (at, at))
    head, _ = KvStateStore(tmp_path, {"a": 1}, 1 << 30).best([1, 2, 3, 4], None)
    assert head is not None and states.load(head) is not None  # used now
    newest = states.save("new", replace(snapshot, data=bytearray(70_000)))
    left = set(tmp_path.iterdir())
    assert newest in left and head.path in left and len(left) == 3
    assert states.save("large", replace(snapshot, data=bytearray(200_000))) is None
    assert set(tmp_path.iterdir()) == left


def test_what_a_killed_program_left_half_written_goes_after_an_hour(tmp_path: Path) -> None:
    old, new = (tmp_path / f".writing-{age}.state" for age in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    saved = KvStateStore(tmp_path, {}, 1 << 30).save("x", Snapshot(array("i", [1]), 0, bytes(10)))
    assert set(tmp_path.iterdir()) == {new, saved}


def test_a_folder_that_cannot_be_written_changes_nothing(
    windowed_file: Path, open_engine: Open, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    engine = open_engine(windowed_file, state_folder=str(tmp_path / "file" / "states"))
    assert ask(engine, LONG, 5, "work").tokens.generated == 5
    engine.close()


def test_the_last_chunk_of_a_prompt_has_room_for_a_question() -> None:
    for first in (0, 5):
        for end in range(first + 1, 1200):
            bounds = chunk_bounds(first, end, 256)
            sizes = [stop - start for start, stop in pairwise(bounds)]
            assert (bounds[0], bounds[-1], sum(sizes)) == (first, end, end - first)
            assert all(0 < size <= 256 for size in sizes) and len(sizes) == -(-(end - first) // 256)
            assert len(sizes) == 1 or sizes[-1] >= 128
