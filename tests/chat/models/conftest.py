"""A small real model, a hub that serves it, and the command line as a person uses it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chat.cli.main import run
from chat.system.paths import models_folder
from tests.folders import CHECKPOINTS
from tests.hub_server import HubServer, hub_server

CHECKPOINT = CHECKPOINTS / "mistral-v0.3"
HUB_NAME = "someone/Tiny-GGUF"


@dataclass(frozen=True)
class Said:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model of two layers, converted by us."""
    path = tmp_path_factory.mktemp("model") / "tiny-Q4_K_M.gguf"
    assert run(["convert", str(CHECKPOINT), "-o", str(path), "-q", "--no-verify"]) == 0
    return path


@pytest.fixture
def pulled(gguf: Path) -> Callable[[str], Path]:
    """Copies the model into the models folder under a name."""

    def copy_model(name: str) -> Path:
        models_folder().mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(gguf, models_folder() / f"{name}.gguf"))

    return copy_model


@pytest.fixture
def server(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with a GGUF repository and the checkpoint under an official name."""
    from huggingface_hub import constants

    with hub_server() as running:
        data = gguf.read_bytes()
        running.add(HUB_NAME, {"tiny.Q4_K_M.gguf": data, "tiny.Q8_0.gguf": data + b"8", "README.md": b"x"})
        files = {
            path.name: path.read_bytes() for path in CHECKPOINT.iterdir() if path.name[:5] not in ("gguf-", "logit")
        }
        running.add("mistralai/Mistral-7B-Instruct-v0.3", files | {"consolidated.safetensors": b"never" * 999})
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(Path(os.environ["HF_HOME"]) / "token"))
        yield running


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Said]]:
    """Runs `mistral-chat` with arguments and nothing on stdin."""

    def call(*arguments: str) -> Said:
        capfd.readouterr()
        code = run(arguments)
        printed = capfd.readouterr()
        return Said(code, printed.out, printed.err)

    with Path(os.devnull).open(encoding="utf-8") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield call
