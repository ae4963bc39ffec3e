"""Refuse a GGUF that is no embedding model, or that llama.cpp would abort on when it computes vectors.

Source: llama.cpp's models/bert.cpp, and `llm_graph_context::build_pooling` in llama-graph.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import ModelError
from chat.gguf.cursor import shown
from chat.gguf.keys import ENCODER_ARCHITECTURES, ModelKey, TokenizerKey
from chat.gguf.types import MATRIX_TYPES
from chat.gguf.validate_layers import PLAIN, RequiredTensor, check_numbers, check_tensors, count, matrix
from chat.gguf.validate_model import check_file
from chat.gguf.validate_vocabulary import check_encoding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.gguf.reader import GgufFile

MEAN, FIRST, LAST, RANK = 1, 2, 3, 4  # enum llama_pooling_type: how the states of a text become one vector
BERT = "bert"
TOKEN_TYPES = "token_types.weight"  # a row of it is added to each token's: ggml adds float32 only, and aborts
BERT_IDS = {TokenizerKey.BOS_ID: 101, TokenizerKey.SEPARATOR_ID: 102}  # where the file does not say
EPSILONS = (ModelKey.LAYER_NORM_EPSILON, ModelKey.LAYER_NORM_RMS_EPSILON)
HINT = "`--embedding-model` takes models such as nomic-embed-text, all-minilm, bge-m3 or embeddinggemma"


def is_encoder(file: GgufFile) -> bool:
    """Whether a file's architecture makes vectors of texts and nothing else."""
    return file.architecture in ENCODER_ARCHITECTURES


def check_embedding_model(file: GgufFile) -> None:
    """Refuse what cannot turn a text into a vector.

    Raises:
        DataError: a rule is broken; the message names the file, the key or tensor, the value and the limit.
        ModelError: it is a model of another kind.
    """
    pooling = file.key(ModelKey.POOLING_TYPE)
    if file.is_adapter:
        raise ModelError(f"{file.path}: is an adapter, not an embedding model", hint=HINT)
    check_file(file)
    if pooling == RANK:
        raise ModelError(f"{file.path}: is a reranking model, not an embedding model", hint=HINT)
    if pooling is None and not is_encoder(file):
        raise ModelError(f"{file.path}: is a model that answers, not an embedding model", hint=HINT)
    if pooling not in (MEAN, FIRST, LAST):
        raise ModelError(f"{file.path}: does not say how the vectors of tokens become one of a text", hint=HINT)
    if not file.metadata.get(TokenizerKey.TOKENS):
        raise file.fault("has no vocabulary")
    check_encoding(file)
    _check_special_pieces(file)
    if is_encoder(file):
        _check_encoder(file)
    if file.architecture == BERT:
        _check_bert(file)


def _check_special_pieces(file: GgufFile) -> None:
    """Refuse a vocabulary without the pieces around a text: llama.cpp asserts that they are there."""
    usual = BERT_IDS if file.metadata[TokenizerKey.MODEL] == BERT else {TokenizerKey.SEPARATOR_ID: 0}
    for key, number in usual.items():
        if (number := file.metadata.get(key, number)) >= file.vocabulary_size:
            raise file.fault(f"key '{key}' is {number}, but the vocabulary has {file.vocabulary_size} pieces")


def _check_encoder(file: GgufFile) -> None:
    """Refuse values that the graph of an encoder cannot compute with; llama.cpp refuses wrong shapes itself."""
    check_numbers(file, dict.fromkeys(EPSILONS, ("f32",)), ())
    width = file.key(ModelKey.EMBEDDING_LENGTH)
    if file.key(ModelKey.EMBEDDING_LENGTH_OUT, width) not in (0, width):
        raise file.key_fault(ModelKey.EMBEDDING_LENGTH_OUT, f"is not the {width} of embedding_length")
    head = file.key(ModelKey.KEY_LENGTH, width // count(file, ModelKey.HEAD_COUNT))
    for size in (head, file.key(ModelKey.ROPE_DIMENSION_COUNT, head)):
        if size % 2 or not size:  # ggml asserts
            raise file.fault(f"a head has {size} columns, but rotating them by pairs needs an even number")
    for name, tensor in file.tensors.items():
        is_added = len(tensor.shape) == 1 or name == TOKEN_TYPES
        if tensor.type not in (PLAIN if is_added else MATRIX_TYPES):
            raise file.fault(f"tensor {shown(name)} is {tensor.type}, which cannot be computed with")


def _check_bert(file: GgufFile) -> None:
    width, heads = file.key(ModelKey.EMBEDDING_LENGTH), count(file, ModelKey.HEAD_COUNT)
    if width % heads:
        raise file.fault(f"{width} columns cannot be divided among {heads} heads")
    if not file.metadata.get(TokenizerKey.TOKEN_TYPE_COUNT):
        raise file.fault(f"key '{TokenizerKey.TOKEN_TYPE_COUNT}' is missing or 0")
    epsilon = ModelKey.LAYER_NORM_EPSILON
    check_numbers(file, {epsilon: ("f32",)}, (epsilon,))
    check_tensors(file, _bert_tensors(file, width, count(file, ModelKey.FEED_FORWARD_LENGTH)))


def _bert_tensors(file: GgufFile, width: int, rows: int) -> Iterator[RequiredTensor]:
    """Every tensor that llama.cpp looks for."""
    types = file.metadata[TokenizerKey.TOKEN_TYPE_COUNT]
    yield matrix("token_embd", width, file.vocabulary_size)
    yield matrix("position_embd", width, file.key(ModelKey.CONTEXT_LENGTH))
    yield RequiredTensor(TOKEN_TYPES, (width, types), PLAIN, required=False)
    yield from _norm("token_embd_norm", width)
    for name in ("cls", "cls.output"):  # of a classifier, which is not used
        for part in ("weight", "bias"):
            if (tensor := file.tensors.get(f"{name}.{part}")) is not None:
                yield RequiredTensor(tensor.name, tensor.shape, frozenset({tensor.type}))
    for number in range(file.key(ModelKey.BLOCK_COUNT)):
        layer = f"blk.{number}."
        fused = f"{layer}attn_qkv.weight" in file.tensors
        parts = {"attn_qkv": 3 * width} if fused else dict.fromkeys(("attn_q", "attn_k", "attn_v"), width)
        for part, size in parts.items():
            yield from _linear(layer + part, width, size)
        yield from _linear(f"{layer}attn_output", width, width)
        yield from _norm(f"{layer}attn_output_norm", width)
        yield from _linear(f"{layer}ffn_up", width, rows)
        yield from _linear(f"{layer}ffn_down", rows, width)
        yield from _norm(f"{layer}layer_output_norm", width)


def _linear(name: str, columns: int, rows: int) -> Iterator[RequiredTensor]:
    yield matrix(name, columns, rows)
    yield RequiredTensor(f"{name}.bias", (rows,), PLAIN, required=False)


def _norm(name: str, width: int) -> Iterator[RequiredTensor]:
    yield RequiredTensor(f"{name}.weight", (width,), PLAIN)
    yield RequiredTensor(f"{name}.bias", (width,), PLAIN)
