"""Vectors of texts from an embedding model, as llama.cpp pools them."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from chat.errors import EngineError, MemoryLimitError
from chat.llama.hardware import worker_threads
from chat.llama.library import LOG, llama
from chat.llama.model import LoadSettings, Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

MOST_TOKENS = 512  # of a text, and of a batch
MOST_TEXTS = 64  # of a batch


class TextEmbedder:
    """An embedding model in memory."""

    def __init__(self, path: str, threads: int = 0) -> None:
        """Load a model that `check_embedding_model` has accepted.

        Args:
            path: its file.
            threads: that compute; 0 chooses.

        Raises:
            ModelError: llama.cpp refuses it.
            MemoryLimitError: there is no memory for it.
        """
        api = self._api = llama()
        self._model = Model(path, LoadSettings())
        self._limit = max(min(MOST_TOKENS, self._model.trained_context), 1)
        params = api.llama_context_default_params()
        params.embeddings = True
        params.n_seq_max = self._together = min(MOST_TEXTS, self._limit)
        # An encoder sees a whole text at once; llama.cpp aborts where the texts of a batch cannot all be equally long
        params.n_ctx = params.n_batch = params.n_ubatch = self._limit + -self._limit % self._together
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = threads or worker_threads()
        self._context: Any = api.llama_init_from_model(self._model.pointer, params)
        if not self._context:
            raise MemoryLimitError(f"no memory for the embedding model: {LOG.last_error() or 'no reason given'}")
        self.width: int = api.llama_model_n_embd_out(self._model.pointer)
        self._batch: Any = api.llama_batch_init(self._limit, 0, 1)

    def of(self, texts: Sequence[str], advance: Callable[[int], None] = lambda _count: None) -> Vectors:
        """The vectors of texts; of a text that is longer than the model reads, that of its beginning.

        Args:
            texts: what is read.
            advance: called with the number of texts that were read, after each batch.

        Returns:
            (texts, width) float32, of length 1.

        Raises:
            EngineError: the model cannot compute them.
        """
        ids = [self._ids_of(text) for text in texts]
        vectors = np.zeros((len(texts), self.width), np.float32)
        for numbers in _batches([len(each) for each in ids], self._limit, self._together):
            self._read([ids[number] for number in numbers])
            for sequence, number in enumerate(numbers):
                found = self._api.llama_get_embeddings_seq(self._context, sequence)
                if not found:
                    raise EngineError(f"{self._model.path}: llama.cpp gives no vector of a text")
                vectors[number] = np.ctypeslib.as_array(found, (self.width,))
            advance(len(numbers))
        if not np.isfinite(vectors).all():
            raise EngineError(f"{self._model.path}: computes vectors with NaN or infinite numbers")
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-9))
        return vectors

    def _ids_of(self, text: str) -> list[int]:
        """The tokens of a text, with those that the model wants around it."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        ids = (ctypes.c_int32 * room)()
        count = self._api.llama_tokenize(self._model.vocab, data, len(data), ids, room, True, False)
        if count < 0:
            raise EngineError(f"{self._model.path}: llama.cpp cannot cut a text into tokens")
        found = list(ids[:count])
        return found if count <= self._limit else [*found[: self._limit - 1], found[-1]]

    def _read(self, texts: Sequence[Sequence[int]]) -> None:
        """Compute the vectors of some texts, each as a sequence of its own."""
        batch, at = self._batch, 0
        for sequence, ids in enumerate(texts):
            for position, token in enumerate(ids):
                batch.token[at], batch.pos[at] = token, position
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                batch.logits[at] = 1
                at += 1
        batch.n_tokens = at
        memory = self._api.llama_get_memory(self._context)
        if memory:
            self._api.llama_memory_clear(memory, True)
        if status := self._api.llama_decode(self._context, batch):
            raise EngineError(f"{self._model.path}: llama.cpp cannot read a text (code {status}): {LOG.last_error()}")

    def close(self) -> None:
        """Free the model."""
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._context)
        self._model.close()


def _batches(lengths: Sequence[int], most_tokens: int, most_texts: int) -> Iterator[list[int]]:
    """The numbers of texts that are read together; those without tokens are left out."""
    together: list[int] = []
    total = 0
    for number, length in enumerate(lengths):
        if not length:
            continue
        if together and (total + length > most_tokens or len(together) == most_texts):
            yield together
            together, total = [], 0
        together.append(number)
        total += length
    if together:
        yield together
