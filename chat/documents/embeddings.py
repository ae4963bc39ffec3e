"""How near passages are to a question, as an embedding model has it; the vectors of passages are kept in a file."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chat.gguf.keys import GeneralKey
from chat.gguf.reader import read_gguf
from chat.gguf.validate_embedding import check_embedding_model
from chat.inference.kv_state_files import fingerprint_of_file
from chat.llama.text_embedder import MOST_TOKENS, TextEmbedder
from chat.system.cache_files import new_cache_file, remove_oldest
from chat.system.paths import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from chat.documents.passages import Passage
    from chat.gguf.reader import GgufFile

    Floats = npt.NDArray[np.float32]

SUFFIX = ".vectors"
MOST_BYTES = 256 << 20  # of all files together
DIGEST_BYTES = 32
# What each part adds to the scores of BM25. On the `dev` half of tests/chat/documents/search_set/questions.tsv, with
# all-MiniLM-L6-v2, 30 to 100 for sentences and 0 to 30 for passages find 94 to 99 of 100; on the other half 91 to 95.
SENTENCE_WEIGHT = 40.0
PASSAGE_WEIGHT = 20.0
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|(?<=[。！？])|\n\n|\n(?=[|#-])")
_WORDS = re.compile(r"\s*\S+\s+\S+\s+\S|.{12}", re.DOTALL)  # of the beginning of a sentence
# What a model was trained to read before a question and before a text, by its name: their model cards
_PREFIXES: tuple[tuple[str, str, str], ...] = (
    (r"\bnomic\b", "search_query: ", "search_document: "),
    (r"gemma\b", "task: search result | query: ", "title: none | text: "),
    (r"\be5\b", "query: ", "passage: "),
    (r"\bbge m3\b", "", ""),
    (r"\b(?:bge|arctic|mxbai)\b", "Represent this sentence for searching relevant passages: ", ""),
    (r"\bqwen3\b", "Instruct: Find the passage that answers the question\nQuery: ", ""),
)


class EmbeddingScores:
    """The vectors of the sentences of passages."""

    def __init__(
        self,
        passages: Sequence[Passage],
        model: Path,
        folder: Path | None,
        advance: Callable[[int, int], None] = lambda _read, _all: None,
        threads: int = 0,
    ) -> None:
        """Compute the vectors, or read those that were kept.

        Args:
            passages: of the documents.
            model: an embedding model's GGUF.
            folder: where vectors are kept; None keeps none.
            advance: called with the number of sentences that were read, and of all.
            threads: that compute; 0 chooses.

        Raises:
            ChatError: the model cannot be used.
        """
        file = read_gguf(model)
        check_embedding_model(file)
        self._before, before_text = _prefixes(file)
        parts = [(number, part) for number, each in enumerate(passages) for part in _sentences(each.text)]
        texts = [f"{before_text}{_titled(passages[number], part)}" for number, part in parts]
        self._embedder = TextEmbedder(str(model), threads)
        kept = None if folder is None else _KeptVectors(folder, file, texts, self._embedder.width)
        vectors = None if kept is None else kept.read()
        if vectors is None:
            vectors = self._embedder.of(texts, lambda count: advance(count, len(texts)))
            if kept is not None:
                kept.write(vectors)
        self._owners = np.array([number for number, _ in parts], np.int64)
        self._sentences = vectors
        self._means = np.zeros((len(passages), self._embedder.width), np.float32)
        np.add.at(self._means, self._owners, vectors)
        self._means /= np.maximum(np.linalg.norm(self._means, axis=1, keepdims=True), np.float32(1e-9))

    def scores(self, question: str) -> Floats:
        """How near passages are to a question, as a whole and in their nearest sentence: (passages,) float32."""
        row = self._embedder.of([self._before + question])[0]
        nearest = np.full(len(self._means), -1, np.float32)
        np.maximum.at(nearest, self._owners, self._sentences @ row)
        scores: Floats = SENTENCE_WEIGHT * nearest + PASSAGE_WEIGHT * (self._means @ row)
        return scores


def _titled(passage: Passage, text: str) -> str:
    return f"{passage.heading}: {text}" if passage.heading else text


def _sentences(text: str) -> list[str]:
    """The sentences and table rows of a passage that say something; all of it if none does."""
    return [part for part in _SENTENCE_END.split(text) if _WORDS.match(part)] or [text]


def _prefixes(file: GgufFile) -> tuple[str, str]:
    """What stands before a question, and before a text."""
    names = (file.path.stem, file.metadata.get(GeneralKey.NAME, ""), file.architecture)
    name = re.sub(r"[\W_]+", " ", " ".join(each for each in names if isinstance(each, str)).lower())
    return next(((question, text) for mark, question, text in _PREFIXES if re.search(mark, name)), ("", ""))


class _KeptVectors:
    """The file of the vectors of some texts by one model: a SHA-256 of the rest, then float32 rows, little-endian."""

    def __init__(self, folder: Path, file: GgufFile, texts: Sequence[str], width: int) -> None:
        samples = [(tensor.offset, tensor.bytes) for tensor in file.tensors.values()]
        subject = json.dumps([fingerprint_of_file(file.path, samples), MOST_TOKENS, *texts])
        self._shape = (len(texts), width)
        self._path = folder / (hashlib.sha256(subject.encode("utf-8", "replace")).hexdigest()[:32] + SUFFIX)

    def read(self) -> Floats | None:
        """The vectors; None if there are none, or if they are not what was written."""
        try:
            data = self._path.read_bytes()
            digest, rows = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
            if hashlib.sha256(rows).digest() != digest:
                return None
            self._path.touch()  # the file used last is removed last
            return np.frombuffer(rows, "<f4").reshape(self._shape)
        except (OSError, ValueError, MemoryError):
            return None

    def write(self, vectors: Floats) -> None:
        """Keep the vectors; without room or permission nothing is kept."""
        rows = vectors.astype("<f4").tobytes()
        with suppress(OSError):
            make_private_folder(self._path.parent)
            with new_cache_file(self._path) as file:
                file.write(hashlib.sha256(rows).digest() + rows)
            remove_oldest(self._path, MOST_BYTES)
