"""An embedding model that llama.cpp would abort on when it computes a vector is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chat.errors import DataError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_embedding import check_embedding_model
from tests.chat.gguf import gguf_samples as samples
from tests.chat.gguf.gguf_sketch import Sketch, sketch
from tests.chat.gguf.llama_child import results

U32, F32, STRING = 4, 6, 8
F16 = 1


def with_type(name: str) -> Callable[[Sketch], None]:
    """A change that makes a tensor F16."""

    def change(file: Sketch) -> None:
        tensor = file.tensor(name)
        tensor.kind, tensor.data = F16, bytes(len(tensor.data) // 2)

    return change


FAULTS: dict[str, tuple[str, Callable[[Sketch], None], str]] = {
    "a norm of another type": (
        "nomic_bert", with_type("blk.0.attn_output_norm.weight"),
        "tensor 'blk.0.attn_output_norm.weight' is F16, which cannot be computed with",
    ),
    "token types of another type": (
        "bert", with_type("token_types.weight"), "tensor 'token_types.weight' is F16, which cannot be computed with",
    ),
    "a negative epsilon": (
        "nomic_bert", lambda file: file.set("nomic-bert.attention.layer_norm_epsilon", F32, -1.0),
        "key 'nomic-bert.attention.layer_norm_epsilon' is -1.0, below 0",
    ),
    "heads that cannot be rotated": (
        "nomic_bert", lambda file: file.set("nomic-bert.attention.head_count", U32, 64),
        "a head has 1 columns, but rotating them by pairs needs an even number",
    ),
    "vectors of another width": (
        "nomic_bert", lambda file: file.set("nomic-bert.embedding_length_out", U32, 1 << 24),
        "key 'nomic-bert.embedding_length_out' is not the 64 of embedding_length",
    ),
    "no piece between texts": (
        "bert", lambda file: file.drop("tokenizer.ggml.seperator_token_id"),
        "key 'tokenizer.ggml.seperator_token_id' is 102, but the vocabulary has 9 pieces",
    ),
    "a byte without a piece": (
        "nomic_bert", lambda file: file.set("tokenizer.ggml.model", STRING, "llama"),
        "the vocabulary has no piece for the byte <0x00>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", samples.EMBEDDING_MODELS)
def test_embedding_models_are_accepted(name: str, tmp_path: Path) -> None:
    check_embedding_model(read_gguf(samples.EMBEDDING_MODELS[name](tmp_path / "model.gguf")))


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(name: str, tmp_path: Path) -> None:
    sample, change, message = FAULTS[name]
    path = samples.EMBEDDING_MODELS[sample](tmp_path / "model.gguf")
    file = sketch(path.read_bytes())
    change(file)
    path.write_bytes(file.pack())
    with pytest.raises(DataError) as caught:
        check_embedding_model(read_gguf(path))
    assert caught.value.message == f"{path}: {message}"


@pytest.mark.slow
@pytest.mark.engine
def test_a_context_that_the_texts_of_a_batch_cannot_share_evenly_is_used(tmp_path: Path) -> None:
    """llama.cpp aborted where the context was above 64 and no multiple of it."""
    file = sketch(samples.nomic_bert(tmp_path / "model.gguf").read_bytes())
    paths = [tmp_path / f"{size}.gguf" for size in (66, 130, 511)]
    for path in paths:
        file.set("nomic-bert.context_length", U32, int(path.stem))
        path.write_bytes(file.pack())
    assert list(results([f"embedding {path}" for path in paths]).values()) == ["embedded"] * 3
