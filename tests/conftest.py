"""What all tests use: an empty home, programs and engines that start fast, models made once, and markers."""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import os
import signal
import subprocess
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests import grids
from tests.folders import CHECKPOINTS
from tests.processes import ends, processes_at_home
from tests.program import Popen

# Two workers of tests share two cores; threads of numpy's library spin while they wait. It is read at the import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ENGINE_FIXTURES = {
    "seeing_model",
    "make_once",
    "open_decoder",
    "open_engine",
    "tried_out",
}  # models are made for engines alone
SERVER_FIXTURES = {"python_server", "servers_folder"}

Make = Callable[[str, Callable[[Path], object]], Path]
Converted = Callable[..., Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run every generated case, not a seeded sample")
    parser.addoption("--servers", metavar="FOLDER", help="build llama-server here, and try servers installed here")
    parser.addoption("--gpu-model", metavar="FILE", help="a model that tests/gpu loads where the GPU is nearly full")


def pytest_configure(config: pytest.Config) -> None:
    """Set what the programs under test inherit.

    Ctrl+C reaches them, also where a shell started pytest in the background without it. They keep what they compile,
    in a folder of the tests where the user wants no files beside the sources.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    grids.FULL = config.getoption("--full")
    cache = getattr(config, "cache", None)
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", "") and cache is not None:
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache.mkdir("bytecode"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker files in a row, so that it makes their fixtures once, and let the one that is done take over."""
    if config.getoption("dist") != "load":  # another one was asked for
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import a share of the test modules first, another in each worker.

    pytest rewrites the assertions of a module when it is imported, which takes longer than all else of the collection.
    The other workers then find what this one has rewritten.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    root = session.config.rootpath
    paths = sorted({path for each in session.config.args for path in (root / each).rglob("test_*.py")})
    for path in paths[number::count]:
        with contextlib.suppress(Exception):  # the collection reports it
            importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))


def pytest_collection_finish() -> None:
    """Keep what lives as long as the run out of the garbage collections, which would visit all of it each time."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a pseudo-terminal (`pty`), an engine (`engine`) or a real server (`server`).

    What uses a pseudo-terminal and an engine is `slow`.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        names = vars(getattr(item, "module", types))
        is_pty = ("start" in fixtures and "/tui/" in item.nodeid) or not names.keys().isdisjoint(("pexpect", "pty"))
        is_pty = is_pty or getattr(names.get("Terminal"), "__module__", "") == "tests.chat.tui.pseudo_terminal"
        is_engine = not fixtures.isdisjoint(ENGINE_FIXTURES)
        if is_pty:
            item.add_marker("pty")
        if is_engine:
            item.add_marker("engine")
        if not fixtures.isdisjoint(SERVER_FIXTURES):
            item.add_marker("server")
        if is_pty and is_engine:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Path]]:
    """Folders for homes; no process that a test has started stays behind the tests."""
    folder = tmp_path_factory.mktemp("homes")
    yield (folder / str(number) for number in itertools.count())
    left = processes_at_home(folder)
    assert [process for process in left if not ends(process)] == []


@pytest.fixture(autouse=True)
def own_home(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that our folders, the hub's cache and child processes live in."""
    home = next(_homes)
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("MISTRAL_CHAT_", "HF_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME" if os.name == "posix" else "USERPROFILE", str(home))
    monkeypatch.setenv("MISTRAL_CHAT_HOME", str(home / "mistral-chat"))
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "ollama"))  # the service's store lies in no home
    monkeypatch.delenv("LLAMA_CACHE", raising=False)
    monkeypatch.setenv("MISTRAL_CHAT_THREADS", "1")  # two workers of tests share two cores; waiting threads spin
    return home


@pytest.fixture(scope="session", autouse=True)
def _forked_engines() -> Iterator[None]:
    """Have the fork server start the engines that tests open in their own process."""
    from chat.worker import process

    names = {**vars(subprocess), "Popen": Popen}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "subprocess", types.SimpleNamespace(**names))
        yield


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a file once for all workers of this run, from its name and the function that writes it to a path."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"

    def make(name: str, write: Callable[[Path], object]) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                part = path.parent / "part" / path.name
                part.parent.mkdir(exist_ok=True)
                write(part)
                part.rename(path)
        return path

    return make


@pytest.fixture(scope="session")
def converted(make_once: Make) -> Converted:
    """Converts one of the checkpoints beside the tests, by its name, to a type of file."""

    def convert_checkpoint(name: str, recipe: str = "F32", window: str = "auto") -> Path:
        from convert.draft import ConversionOptions
        from convert.pipeline import convert

        def write(path: Path) -> None:
            convert(ConversionOptions(CHECKPOINTS / name, path, recipe, window=window, show_progress=False))

        return make_once(f"{recipe}-{window}/{name}.gguf", write)

    return convert_checkpoint


@pytest.fixture(scope="session")
def thinker(make_once: Make) -> Callable[[str], Path]:
    """A tiny model whose prompts are of a Tekken version, with control pieces for reasoning from v11 on.

    It comes with a system prompt that shows how to think.
    """

    def thinker_of(version: str) -> Path:
        from convert.draft import ConversionOptions
        from convert.pipeline import convert
        from tests.chat.vocabulary_files import tekken_json
        from tests.convert.samples import Sizes, make_checkpoint

        def write(path: Path) -> None:
            folder = path.with_name(f"thinker-{version}")
            make_checkpoint(folder, Sizes(layers=1, width=32, heads=1, kv_heads=1, hidden=32, vocabulary=1000))
            (folder / "tokenizer.model").unlink()
            (folder / "tekken.json").write_bytes(tekken_json(version, 900))
            (folder / "SYSTEM_PROMPT.txt").write_text("{name} thinks: [THINK]so[/THINK]\n")
            convert(ConversionOptions(folder, path, "F32", show_progress=False))

        return make_once(f"thinkers/{version}.gguf", write)

    return thinker_of


@pytest.fixture(scope="session")
def seeing_model(make_once: Make) -> Callable[..., Path]:
    """A tiny model that sees, by the kind of `tests.chat.seeing`, with its picture encoder beside it."""

    def model_of(kind: str = "small3") -> Path:
        from convert.draft import ConversionOptions
        from convert.pipeline import convert
        from tests.chat.seeing import make_folder

        def write(path: Path, **options: Any) -> None:
            folder = make_folder(path.with_suffix(""), kind)
            convert(ConversionOptions(folder, path, show_progress=False, **options))

        encoder = {"type": None, "projector": "only", "projector_type": "F32"}
        make_once(f"seeing/mmproj-{kind}-F32.gguf", lambda path: write(path, **encoder))
        return make_once(f"seeing/{kind}.gguf", lambda path: write(path, type="F32", projector="off"))

    return model_of


@pytest.fixture(scope="session")
def tiny_model(converted: Converted) -> Path:
    """A real model with a window of 64, converted from the v0.1 checkpoint beside the tests."""
    return converted("mistral-v0.1")


@pytest.fixture(scope="session")
def tiny_v3_model(converted: Converted) -> Path:
    """A real model without a window and with v3's control tokens."""
    return converted("mistral-v0.3")
