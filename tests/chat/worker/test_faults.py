"""A cancel or a kill of the child in any phase gives one sentence, and the next answer equals that of a new process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chat.core.events import Completion, Notice
from chat.core.request import Constraint, EngineOptions, Prompt, Request, Sampling
from chat.errors import LESS_MEMORY, EngineError, ExitCode
from chat.inference.generator import GenerationRun, Generator
from chat.inference.loaded_model import load_model
from chat.llama.kv_snapshots import Snapshots
from chat.llama.sampler import Sampler
from chat.worker.client import NO_REPACKING, LocalBackend
from chat.worker.process import _last_line
from tests.chat.worker.held.sitecustomize import CANCELLED_SUFFIX, PHASES
from tests.grids import FULL
from tests.processes import children_of

HELD = Path(__file__).parent / "held"
GREEDY = Sampling(temperature=0)
LONG = tuple(3 + (i * 7919) % 390 for i in range(700))
REQUEST = Request(Prompt(ids=LONG), GREEDY, max_tokens=40, session="work")
BOUND = Request(Prompt(ids=LONG), GREEDY, max_tokens=10, constraint=Constraint("regex", "[a-d]{4}"))
WITH_A_STATE = ("looking for a state", "checking a state", "restoring")
DEADLINE_SECONDS = 60.0  # for what takes a moment on an idle machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "states"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def request_of(phase: str) -> Request:
    return BOUND if phase == "compiling" else REQUEST


def opened(file: Path, folder: Path) -> LocalBackend:
    options = EngineOptions(str(file), flash_attention="on", threads=1, draft="off", state_folder=str(folder))
    return LocalBackend(options)


def answer(engine: LocalBackend, request: Request) -> Completion:
    last = list(engine.reply(request))[-1]
    assert isinstance(last, Completion)
    return last


@pytest.fixture(scope="module")
def cold(windowed_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Request, Completion]:
    """The answers of an undisturbed child."""
    engine = opened(windowed_file, tmp_path_factory.mktemp("cold"))
    answers = {request: answer(engine, request) for request in (REQUEST, BOUND)}
    engine.close(keep_state=False)
    return answers


def save_a_state(file: Path, folder: Path) -> None:
    engine = opened(file, folder)
    answer(engine, Request(Prompt(ids=LONG[:-1]), GREEDY, max_tokens=1, session="work"))
    engine.close()
    assert len(list(folder.iterdir())) == 1


@contextmanager
def held(phase: str, mark: Path) -> Iterator[None]:
    """Children that are started meanwhile wait at the start of the phase until the mark is removed."""
    paths = os.pathsep.join(filter(None, (str(HELD), os.environ.get("PYTHONPATH"))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        patch.setenv("HELD_PHASE", phase)
        patch.setenv("HELD_MARK", str(mark))
        yield


@contextmanager
def held_engine(phase: str, file: Path, folder: Path, mark: Path) -> Iterator[LocalBackend]:
    """An engine whose children wait at the start of the phase, with a state file if the phase needs one."""
    if phase in WITH_A_STATE:
        save_a_state(file, folder)
    with held(phase, mark):
        yield opened(file, folder)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def when_there(mark: Path, act: object) -> threading.Thread:
    """Act as soon as the child is in the phase."""

    def wait() -> None:
        wait_for(mark.exists)
        act()  # type: ignore[operator]

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def kill(engine: LocalBackend) -> None:
    if engine.pid is not None:
        os.kill(engine.pid, signal.SIGKILL)


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "writing a state"])
@pytest.mark.slow
def test_a_cancel_in_any_phase_ends_the_answer_and_changes_nothing_else(
    phase: str, windowed_file: Path, folder: Path, mark: Path, cold: dict[Request, Completion]
) -> None:
    with held_engine(phase, windowed_file, folder, mark) as engine:
        received = mark.with_suffix(CANCELLED_SUFFIX)

        def act() -> None:
            engine.cancel()
            wait_for(lambda: received.exists() or is_answered.is_set())  # a reply that has not begun ends at once
            watch.start()

        def keep_released() -> None:
            while not ended.wait(0.005):
                mark.unlink(missing_ok=True)

        ended, is_answered = threading.Event(), threading.Event()
        watch = threading.Thread(target=keep_released)
        waiter = when_there(mark, act)
        last = answer(engine, request_of(phase))
        is_answered.set()
        waiter.join()
        assert (last.finish_reason, phase == "decoding" or last.text == "") == ("interrupted", True)
        again = answer(engine, request_of(phase))
        ended.set()
        watch.join()
    engine.close(keep_state=False)
    assert (again.ids, again.text) == (cold[request_of(phase)].ids, cold[request_of(phase)].text)


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "writing a state"])
@pytest.mark.slow
def test_a_kill_in_any_phase_is_one_sentence_and_the_next_answer_is_right(
    phase: str, windowed_file: Path, folder: Path, mark: Path, cold: dict[Request, Completion]
) -> None:
    with held_engine(phase, windowed_file, folder, mark) as engine:
        waiter = when_there(mark, lambda: kill(engine))
        with pytest.raises(EngineError) as caught:
            answer(engine, request_of(phase))
        waiter.join()
    assert (caught.value.message, caught.value.exit_code) == (
        "the engine stopped: it was killed (SIGKILL), most likely because the system ran out of memory",
        ExitCode.ENGINE,
    )
    again = answer(engine, request_of(phase))
    engine.close(keep_state=False)
    assert again.ids == cold[request_of(phase)].ids


@pytest.mark.slow
def test_a_kill_while_a_state_is_written_leaves_none_and_raises_nothing(
    windowed_file: Path, folder: Path, mark: Path, cold: dict[Request, Completion]
) -> None:
    with held("writing a state", mark):
        engine = opened(windowed_file, folder)
        answer(engine, REQUEST)
        waiter = when_there(mark, lambda: kill(engine))
        engine.close()
        waiter.join()
    assert [path.name[:9] for path in folder.iterdir()] == [".writing-"]
    mark.unlink()
    engine = opened(windowed_file, folder)
    again = answer(engine, REQUEST)
    engine.close()
    assert (again.ids, again.tokens.cached) == (cold[REQUEST].ids, 0)
    assert len([path for path in folder.iterdir() if not path.name.startswith(".")]) == 1


@pytest.mark.parametrize("phase", ["loading", "compiling", "restoring", "reading", "decoding"])
@pytest.mark.slow
def test_the_program_prints_one_sentence_when_its_engine_is_killed(
    phase: str, windowed_file: Path, tmp_path: Path, mark: Path
) -> None:
    flags = ["-n", "20", "--session", "work", *(["--regex", "[a-d]{4}"] if phase == "compiling" else [])]
    command = [sys.executable, "-m", "chat", "-m", str(windowed_file), *flags, "the cat sat " * 60]
    if phase == "restoring":
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    with held(phase, mark):
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        when_there(mark, lambda: os.kill(children_of(program.pid)[0], signal.SIGKILL)).join()
        output, errors = program.communicate(timeout=DEADLINE_SECONDS)
    assert program.returncode == ExitCode.ENGINE == 8
    assert errors.decode().splitlines() == [
        "error: the engine stopped: it was killed (SIGKILL), most likely because the system ran out of memory",
        f"hint: asking again starts the engine anew; {LESS_MEMORY}",
    ]
    assert bool(output) == (phase == "decoding")  # the text so far stays


NO_GPU_MEMORY = "the GPU's memory ran out: it now holds {} layers at most, the processor the others"


@pytest.mark.slow
def test_if_a_gpu_runs_out_of_memory_the_request_is_answered_with_fewer_layers_on_it(
    windowed_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cold: dict[Request, Completion]
) -> None:
    """There is no GPU: the child claims to have layers on one, and ends with CUDA's message."""
    deaths = tmp_path / "deaths"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HELD), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("GPU_DEATHS", str(deaths))
    deaths.write_text("reading reading")
    engine = opened(windowed_file, folder)
    events = list(engine.reply(REQUEST))
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == [NO_GPU_MEMORY.format(layers) for layers in (6, 4)]
    assert isinstance(events[-1], Completion) and events[-1].ids == cold[REQUEST].ids
    deaths.write_text("decoding")
    with pytest.raises(EngineError) as caught:
        answer(engine, Request(Prompt(ids=LONG[::-1]), GREEDY, max_tokens=5))
    assert (caught.value.message, caught.value.exit_code) == ("the engine stopped: the GPU's memory ran out", 8)
    first, *_, last = engine.reply(REQUEST)
    assert first == Notice(NO_GPU_MEMORY.format(3))
    assert isinstance(last, Completion) and last.ids == cold[REQUEST].ids
    deaths.write_text("decoding")
    received: list[str] = []
    [(_, in_batch)] = engine.answer_all([REQUEST], 1, received.append)
    engine.close(keep_state=False)
    assert received == [NO_GPU_MEMORY.format(2)]  # the change is reported once
    assert isinstance(in_batch, Completion) and in_batch.ids == cold[REQUEST].ids
    assert engine.options.gpu_layers == "auto"  # a number would be refused once even less memory is free


@pytest.mark.slow
def test_without_an_instruction_of_the_repacked_code_the_request_is_answered_without_repacking(
    windowed_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, cold: dict[Request, Completion]
) -> None:
    """In a virtual machine that offers AMX but does not run it, every long prompt ended with "the engine stopped"."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HELD), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("NO_INSTRUCTION", "1")
    engine = opened(windowed_file, folder)
    *before, last = engine.reply(REQUEST)
    engine.close()
    assert Notice(NO_REPACKING) in before
    assert isinstance(last, Completion) and last.ids == cold[REQUEST].ids
    asked_for = LocalBackend(EngineOptions(str(windowed_file), repack="on", threads=1))
    with pytest.raises(EngineError, match=r"SIGILL: this build of llama\.cpp uses instructions"):
        answer(asked_for, REQUEST)
    asked_for.close()


def test_a_requested_number_of_layers_stays_and_the_error_is_reported(
    windowed_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = tmp_path / "deaths"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HELD), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("GPU_DEATHS", str(deaths))
    deaths.write_text("reading")
    engine = LocalBackend(EngineOptions(str(windowed_file), gpu_layers="5", threads=1))
    with pytest.raises(EngineError, match=r"^the engine stopped: the GPU's memory ran out$") as caught:
        answer(engine, REQUEST)
    engine.close()
    assert caught.value.hint == "use fewer `--gpu-layers`, a smaller `--context`, or `--kv-type q8_0`"
    assert engine.options.gpu_layers == "5"


@pytest.mark.slow
def test_a_limit_of_the_memory_is_one_sentence(windowed_file: Path) -> None:
    """Once numpy's library tried without end, and other limits gave a library's own words."""
    limited = ["bash", "-c", 'ulimit -d 60000 && exec "$@"', "bash", sys.executable, "-m", "chat"]
    done = subprocess.run(
        [*limited, "-m", str(windowed_file), "hi"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (ExitCode.MEMORY, b"")
    assert done.stderr.decode() == f"error: there is not enough memory to run the engine\nhint: {LESS_MEMORY}\n"


@pytest.mark.slow
def test_a_kill_at_any_moment_is_one_sentence(windowed_file: Path, folder: Path) -> None:
    """At random moments between the start and the saved state; 300 of them with `--full`."""
    chance = random.Random(7)
    save_a_state(windowed_file, folder)
    begun = time.monotonic()
    engine = opened(windowed_file, folder)
    answer(engine, REQUEST)
    engine.close()
    life_seconds = time.monotonic() - begun
    outcomes: dict[str, int] = {}
    for _ in range(300 if FULL else 4):
        engine = opened(windowed_file, folder)
        timer = threading.Timer(chance.uniform(0, life_seconds), lambda each=engine: kill(each))  # type: ignore[misc]
        timer.start()
        try:
            outcome = answer(engine, REQUEST).finish_reason
        except EngineError as error:
            assert error.message.startswith("the engine stopped: it was killed (SIGKILL)"), error.message
            outcome = "killed"
        engine.close()
        timer.join()
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(outcomes)
    assert set(outcomes) <= {"killed", "length"}


@pytest.mark.slow
def test_a_state_with_one_flipped_bit_never_changes_an_answer(
    windowed_file: Path, folder: Path, cold: dict[Request, Completion]
) -> None:
    """Wherever the bit is, the prompt is read again and the answer is right; 1,000 flips in a full run."""
    save_a_state(windowed_file, folder)
    options = EngineOptions(str(windowed_file), flash_attention="on", threads=1, state_folder=str(folder))
    loaded = load_model(options)
    engine = Generator(loaded.generator.context, Snapshots(0), loaded.generator.cache.store)

    def ids() -> tuple[int, list[int]]:
        engine.context.clear()
        kept = engine.cache.reuse(LONG, 8)
        for _ in engine.read(LONG):
            pass
        sampler = Sampler(GREEDY, loaded.vocabulary.size)
        made = list(engine.generate(GenerationRun(sampler, 8, lambda _: False)))
        sampler.close()
        return kept, made

    expected = list(cold[REQUEST].ids[:8])
    assert ids() == (len(LONG) - 1, expected)
    (saved,) = folder.iterdir()
    whole = saved.read_bytes()
    chance = random.Random(5)
    offsets = [0, 7, 8, 39, 40, 43, 44, 45, len(whole) - 1]
    offsets += [chance.randrange(len(whole)) for _ in range(1000 if FULL else 50)]
    for offset in offsets:
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << chance.randrange(8)
        saved.write_bytes(damaged)
        assert ids() == (0, expected), offset
    loaded.close()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("/home/me/vendor/llama.cpp/ggml/src/ggml.c:12: GGML_ASSERT(a/b) failed", "ggml.c:12: GGML_ASSERT(a/b) failed"),
        (r"D:\a\llama\src\llama-model.cpp:9: GGML_ABORT(x)", "llama-model.cpp:9: GGML_ABORT(x)"),
        ("error: /srv/my.gguf cannot be mapped", "error: /srv/my.gguf cannot be mapped"),
    ],
)
def test_a_death_names_no_folder_of_the_machine_that_built_the_engine(line: str, shown: str) -> None:
    assert _last_line(f"llama_model_loader: loaded\n{line}\n") == f" ({shown})"
