"""`models rm` takes a model's picture encoder with it, unless another model needs it; `models list` shows who sees."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chat.hub import CachedRepository
from chat.models.inventory import find_local, only_model
from chat.models.projector import find_projector
from chat.models.removal import plan_removal
from chat.models.stores import local_files
from chat.system.paths import models_folder
from tests.chat.models.conftest import Said
from tests.chat.seeing import write_encoder
from tests.chat.tiny_models import Shape, weights, write_gguf

Command = Callable[..., Said]
Put = Callable[[Path, str], Path]
REPOSITORY = CachedRepository("somebody/Mistral-Small-3.2-GGUF")


@pytest.fixture(scope="module")
def put(tmp_path_factory: pytest.TempPathFactory) -> Put:
    """Makes a file: a model, or its picture encoder if its name says so."""
    folder = tmp_path_factory.mktemp("made")
    shape = Shape(layers=1, hidden=256, heads=4, kv_heads=1, ffn=32, vocabulary=300, window=None)
    write_gguf(folder / "model", shape, weights(shape))
    write_encoder(folder / "encoder")

    def copy_file(folder_of_it: Path, name: str) -> Path:
        folder_of_it.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(folder / ("encoder" if "mmproj" in name else "model"), folder_of_it / name))

    return copy_file


@pytest.fixture
def cache(put: Put) -> Callable[..., Path]:
    """Puts files of a repository into the hub's cache, by commit and name."""

    def add(commit: str, *names: str) -> Path:
        for name in names:
            blob = put(REPOSITORY.folder / "blobs", Path(name).name)
            REPOSITORY.link(name, commit * 40, blob.name)
        return REPOSITORY.snapshot(commit * 40)

    return add


def test_a_model_goes_with_its_picture_encoder(command: Command, put: Put) -> None:
    for name in ("seer-Q4_K_M.gguf", "mmproj-seer-F16.gguf", "b.gguf"):
        put(models_folder(), name)
    assert command("models", "rm", "seer-Q4_K_M", "-y") == Said(
        0,
        "",
        "removed seer-Q4_K_M and freed 1 MB\nremoved its picture encoder mmproj-seer-F16 and freed 967 kB\n",
    )
    assert [path.name for path in models_folder().iterdir()] == ["b.gguf"]


def test_an_encoder_that_another_model_needs_stays(command: Command, put: Put) -> None:
    for name in ("small-Q4_K_M.gguf", "small-Q8_0.gguf", "mmproj-small-F16.gguf"):
        put(models_folder(), name)
    said = command("models", "rm", "small-Q8_0", "-y")
    assert said.err.splitlines()[1:] == ["kept its picture encoder mmproj-small-F16, which small-Q4_K_M uses, too"]
    files = local_files()
    encoder = find_local("mmproj-small-F16", files)
    assert encoder is not None
    removal = plan_removal(encoder, files)
    assert (removal.encoder, removal.users) == (None, ("small-Q4_K_M",))
    assert len(command("models", "rm", "small-Q4_K_M", "-y").err.splitlines()) == 2
    assert not list(models_folder().iterdir())


def test_in_the_hubs_cache_all_commits_count(command: Command, cache: Callable[..., Path]) -> None:
    """The encoder may have another folder than the model, and come with a later commit."""
    older = cache("1", "Q8_0/small-Q8_0.gguf")
    newer = cache("2", "small-Q4_K_M.gguf", "mmproj-F16.gguf")
    assert find_projector(older / "Q8_0/small-Q8_0.gguf") == newer / "mmproj-F16.gguf"
    name = f"hf:{REPOSITORY.repository}"
    said = command("models", "rm", f"{name}:Q4_K_M", "-y")
    assert said.err.splitlines()[1] == f"kept its picture encoder {name}:F16, which {name}:Q8_0 uses, too"
    said = command("models", "rm", f"{name}:Q8_0", "-y")
    assert said.err.splitlines()[1].startswith(f"removed its picture encoder {name}:F16 and freed ")
    assert not REPOSITORY.folder.exists()


def test_the_list_shows_who_sees_and_an_encoder_that_nobody_uses(command: Command, put: Put) -> None:
    """An encoder that an earlier version left was in no list; one more file there kept the only model from a start."""
    model = put(models_folder(), "a-Q4_K_M.gguf")
    encoder = put(models_folder(), "mmproj-a-F16.gguf")
    assert command("models", "list").out == f"a-Q4_K_M\t{model.stat().st_size}\tF32\t-\tv1\tmodels\tyes\n"
    assert only_model() == model
    model.unlink()
    why = "is a picture encoder that no model here uses; `mistral-chat models rm mmproj-a-F16` removes it"
    assert command("models", "list").out == f"mmproj-a-F16\t{encoder.stat().st_size}\tunusable\t\t\t{why}\t\n"
