"""Passages are found by an embedding model, whose vectors are those of BERT as its authors define it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGUFWriter

from chat.documents import selection
from chat.documents.document import Document
from chat.documents.embeddings import SUFFIX
from chat.documents.selection import SearchModels, Selection
from chat.errors import ChatError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_embedding import check_embedding_model
from chat.gguf.validate_model import check_model
from chat.llama.text_embedder import TextEmbedder
from chat.system.paths import models_folder
from tests.chat.tiny_models import write_out
from tests.program import run

Floats = npt.NDArray[np.float32]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["boat", "ship", "bread", "loaf", "town", "city", "the", "old"]
PIECES = [*SPECIAL, *(f"▁{word}" for word in WORDS)]
CONTEXT, WIDTH, HEADS, ROWS, LAYERS = 16, 32, 4, 64, 2


def tensors() -> dict[str, Floats]:
    """Small weights: what a text means depends on its words, of which each two that follow each other are alike."""
    seeded = np.random.default_rng(5)

    def random(*shape: int) -> Floats:
        return 0.05 * seeded.standard_normal(shape, np.float32)

    table = seeded.standard_normal((len(PIECES), WIDTH), np.float32)
    for number in range(len(SPECIAL), len(PIECES), 2):
        table[number + 1] = table[number] + 0.1 * table[number + 1]
    found = {
        "token_embd.weight": table,
        "position_embd.weight": random(CONTEXT, WIDTH),
        "token_types.weight": random(2, WIDTH),
    }
    for name, rows, columns in (
        ("attn_q", WIDTH, WIDTH), ("attn_k", WIDTH, WIDTH), ("attn_v", WIDTH, WIDTH), ("attn_output", WIDTH, WIDTH),
        ("ffn_up", ROWS, WIDTH), ("ffn_down", WIDTH, ROWS),
    ):  # fmt: skip
        for layer in range(LAYERS):
            found |= {f"blk.{layer}.{name}.weight": random(rows, columns), f"blk.{layer}.{name}.bias": random(rows)}
    norms = [f"blk.{layer}.{name}" for layer in range(LAYERS) for name in ("attn_output_norm", "layer_output_norm")]
    for name in ("token_embd_norm", *norms):
        found |= {f"{name}.weight": 1 + random(WIDTH), f"{name}.bias": random(WIDTH)}
    return found


def write_model(
    path: Path, *, pooling: int | None = 1, architecture: str = "bert", separator: int = 3, types: type = np.float32
) -> Path:
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(ROWS)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_uint32(f"{architecture}.pooling_type", pooling)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(PIECES)
    writer.add_token_types([3] * len(SPECIAL) + [1] * len(WORDS))
    writer.add_token_type_count(2)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_sep_token_id(separator)
    writer.add_unk_token_id(1)
    writer.add_pad_token_id(0)
    held = tensors()
    held["token_types.weight"] = held["token_types.weight"].astype(types)
    return write_out(writer, held, path)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("embedding") / "all-minilm.gguf")


def norm(rows: Floats, name: str, held: dict[str, Floats]) -> Floats:
    rows = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-12)
    return np.asarray(rows * held[f"{name}.weight"] + held[f"{name}.bias"], np.float32)


def bert(words: list[str]) -> Floats:
    """The mean of the last states of BERT (Devlin and others, 2018), of length 1: (WIDTH,)."""
    held = tensors()
    ids = [2, *(PIECES.index(f"▁{word}") for word in words), 3]
    state = held["token_embd.weight"][ids] + held["position_embd.weight"][: len(ids)] + held["token_types.weight"][0]
    state = norm(state, "token_embd_norm", held)

    def linear(rows: Floats, name: str) -> Floats:
        return np.asarray(rows @ held[f"{name}.weight"].T + held[f"{name}.bias"], np.float32)

    for layer in (f"blk.{number}." for number in range(LAYERS)):
        query, key, value = (
            linear(state, f"{layer}attn_{part}").reshape(len(ids), HEADS, -1).swapaxes(0, 1) for part in "qkv"
        )
        scores = np.exp(query @ key.swapaxes(1, 2) / np.sqrt(WIDTH // HEADS))
        attended = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(len(ids), WIDTH)
        state = norm(state + linear(attended, f"{layer}attn_output"), f"{layer}attn_output_norm", held)
        up = linear(state, f"{layer}ffn_up")
        gelu = up * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        state = norm(state + linear(gelu, f"{layer}ffn_down"), f"{layer}layer_output_norm", held)
    mean = state.mean(0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


@pytest.mark.engine
def test_vectors_are_those_of_bert_alone_and_together(embedding: Path) -> None:
    with closing(TextEmbedder(str(embedding))) as embedder:
        texts = ["the old boat", "bread", "Ship, city! old", "boat " * 40]
        found = embedder.of(texts)
        cut = ["boat"] * (CONTEXT - 2)
        wanted = np.stack([bert(["the", "old", "boat"]), bert(["bread"]), found[2], bert(cut)])
        assert np.abs(found - wanted).max() < 1e-3
        assert np.abs(np.concatenate([embedder.of([text]) for text in texts]) - found).max() < 1e-5


@pytest.mark.slow
@pytest.mark.engine
def test_a_passage_is_found_and_the_vectors_are_kept(
    embedding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_BYTES", 400)
    filler = " old the" * 90
    document = Document("a.md", "\n\n".join(f"The {word} old.{filler}" for word in ("boat", "bread", "town")))
    folder = tmp_path / "vectors"

    def answer(question: str) -> str:
        with closing(Selection([document], SearchModels(None, embedding, folder, threads=1))) as selecting:
            return selecting.text_for(question).text

    assert "The bread old" in answer("loaf") and "The boat" not in answer("loaf")
    (kept,) = folder.iterdir()
    assert kept.suffix == SUFFIX
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "The town old" in answer("city")
    assert kept.read_bytes() == whole  # it was not what had been written, so it was made again


def problem(path: Path) -> str:
    with pytest.raises(ChatError) as caught:
        check_embedding_model(read_gguf(path))
    return caught.value.message.removeprefix(f"{path}: ")


def test_another_file_is_refused_in_one_sentence(tmp_path: Path, tiny_model: Path) -> None:
    assert problem(tiny_model) == "is a model that answers, not an embedding model"
    assert problem(write_model(tmp_path / "r.gguf", pooling=4)) == "is a reranking model, not an embedding model"
    unclear = problem(write_model(tmp_path / "n.gguf", pooling=None))
    assert unclear == "does not say how the vectors of tokens become one of a text"
    wrong = problem(write_model(tmp_path / "s.gguf", separator=99))
    assert wrong == "key 'tokenizer.ggml.seperator_token_id' is 99, but the vocabulary has 13 pieces"
    half = problem(write_model(tmp_path / "h.gguf", types=np.float16))  # on which ggml would abort
    assert half == "tensor 'token_types.weight' is F16, which cannot be computed with"
    with pytest.raises(ChatError, match="is an embedding model, not a model that answers"):
        check_model(read_gguf(write_model(tmp_path / "e.gguf")))


@pytest.mark.slow
@pytest.mark.engine
def test_the_model_is_named_or_found_or_switched_off(tmp_path: Path, tiny_model: Path, own_home: Path) -> None:
    parts = [f"# Part {number}\n\n{'bread' if number == 17 else 'town'} {'the old ' * 70}" for number in range(30)]
    (tmp_path / "a.md").write_text("\n\n".join(parts))
    asked = ("-f", tmp_path / "a.md", "--find", "-m", tiny_model, "--dry-run", "loaf")
    ours = models_folder()
    ours.mkdir(parents=True)
    write_model(ours / "all-minilm.gguf")

    assert run(*asked, "--embedding-model", "off").returncode == 0
    assert not list(own_home.rglob(f"*{SUFFIX}"))
    done = run(*asked)
    assert done.returncode == 0 and "# Part 17" in json.loads(done.stdout)["text"]
    assert len(list(own_home.rglob(f"*{SUFFIX}"))) == 1
    done = run(*asked, "--embedding-model", tiny_model)
    assert done.returncode == 3 and b"is a model that answers, not an embedding model" in done.stderr
