"""The picture encoder that belongs to a model is found beside it, and one of another model never."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat.models.projector import find_projector
from tests.chat.models.test_stores import MODEL
from tests.chat.seeing import write_encoder
from tests.chat.tiny_models import Shape, weights, write_gguf

PROJECTOR = "application/vnd.ollama.image.projector"
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model whose embeddings have 256 numbers, and picture encoders: one that fits, one with a hash, one of 128."""
    folder = tmp_path_factory.mktemp("made")
    shape = Shape(layers=1, hidden=256, heads=4, kv_heads=1, ffn=32, vocabulary=300, window=None)
    model = folder / "model"
    write_gguf(model, shape, weights(shape))
    other = Shape(layers=1, hidden=128, heads=4, kv_heads=1, ffn=32, vocabulary=300, window=None)
    write_gguf(folder / "narrow", other, weights(other))
    return {
        "model": model,
        "narrow": folder / "narrow",
        "fits": write_encoder(folder / "fits"),
        "noted": write_encoder(folder / "noted", keys={"mistral_chat.mmproj_sha256": "1" * 64}),
        "broken": write_encoder(folder / "broken", tensors={"mm.2.weight": None}),
    }


@pytest.mark.parametrize(
    ("model", "beside", "expected"),
    [
        ("Mistral-Small-3.2-Q4_K_M.gguf", {}, None),
        ("Mistral-Small-3.2-Q4_K_M.gguf", {"mmproj-F16.gguf": "fits"}, "mmproj-F16.gguf"),
        ("Mistral-Small-3.2-Q4_K_M.gguf", {"mmproj-model-f16.gguf": "fits"}, "mmproj-model-f16.gguf"),
        (
            "a.gguf",
            {"mmproj-F32.gguf": "fits", "mmproj-F16.gguf": "fits", "mmproj-BF16.gguf": "fits"},
            "mmproj-F16.gguf",
        ),
        ("a.gguf", {"mmproj-F16.gguf": "broken", "mmproj-F32.gguf": "fits"}, "mmproj-F32.gguf"),
        (
            "Pixtral-12B-Q8_0.gguf",
            {"mmproj-Pixtral-12B-F16.gguf": "fits", "mmproj-Small-3.2-F16.gguf": "fits", "mmproj-F16.gguf": "fits"},
            "mmproj-Pixtral-12B-F16.gguf",
        ),
        ("Pixtral-12B-Q8_0.gguf", {"pixtral-12b.mmproj-F16.gguf": "fits"}, "pixtral-12b.mmproj-F16.gguf"),
        ("Pixtral-12B-Q8_0.gguf", {"mmproj-Small-3.2-F16.gguf": "fits"}, "mmproj-Small-3.2-F16.gguf"),  # alone with it
        ("a.gguf", {"mmproj-Small-3.2-F16.gguf": "fits", "b.gguf": "model"}, None),
        ("a.gguf", {"mmproj-F16.gguf": "noted"}, "mmproj-F16.gguf"),
        ("narrow.gguf", {"mmproj-narrow-F16.gguf": "fits", "mmproj-F16.gguf": "noted"}, None),
        ("a.gguf", {"mmproj-a-F16.gguf": "narrow"}, None),
    ],
)
def test_the_one_that_belongs_to_the_model_is_taken(
    model: str, beside: dict[str, str], expected: str | None, made: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / model
    path.symlink_to(made["narrow" if model == "narrow.gguf" else "model"])
    for name, kind in beside.items():
        (tmp_path / name).symlink_to(made[kind])
    found = find_projector(path)
    assert (found.name if found else None) == expected


def test_a_hash_that_the_model_notes_decides(made: dict[str, Path], tmp_path: Path) -> None:
    shape = Shape(layers=1, hidden=256, heads=4, kv_heads=1, ffn=32, vocabulary=300, window=None)
    path = tmp_path / "a-Q4_K_M.gguf"
    write_gguf(path, shape, weights(shape), more={"mistral_chat.mmproj_sha256": "1" * 64})
    shutil.copy(made["fits"], tmp_path / "mmproj-a-F16.gguf")
    shutil.copy(made["noted"], tmp_path / "mmproj-renamed-F32.gguf")
    found = find_projector(path)
    assert found is not None
    assert found.name == "mmproj-renamed-F32.gguf"


def test_ollamas_layer_is_found(made: dict[str, Path], own_home: Path) -> None:
    blobs = own_home / "ollama" / "blobs"
    blobs.mkdir(parents=True)
    layers: list[dict[str, Any]] = []
    for kind, name in ((MODEL, "model"), (PROJECTOR, "fits")):
        digest = f"{len(layers) + 1:064x}"
        (blobs / f"sha256-{digest}").symlink_to(made[name])
        layers.append({"mediaType": kind, "digest": f"sha256:{digest}", "size": 1})
    manifest = own_home / "ollama/manifests/registry.ollama.ai/library/pixtral/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"layers": layers}))
    model = blobs / f"sha256-{1:064x}"
    assert find_projector(model) == blobs / f"sha256-{2:064x}"
