"""Make chat/documents/english_words.gguf: vectors of English words, as an embedding model has each word by itself.

`python -m tests.chat.documents.make_word_table all-minilm.gguf` reads the model that tests/bench/minilm_gguf.py writes:
all-MiniLM-L6-v2, Apache-2.0. It keeps the `WIDTH` main directions of the vectors, as Model2Vec does (Tulkens and van
Dongen, 2024), in 4 bits.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from chat.documents.selection import ENGLISH_WORDS
from chat.documents.word_vectors import TABLE
from chat.gguf.keys import TokenizerKey
from chat.gguf.reader import read_gguf
from chat.llama.text_embedder import TextEmbedder

WIDTH = 128
_ENGLISH = re.compile(r"▁?[a-z0-9]+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    model = parser.parse_args().model
    pieces = [piece for piece in read_gguf(model).metadata[TokenizerKey.TOKENS] if _ENGLISH.fullmatch(piece)]
    vectors = TextEmbedder(str(model)).of([piece.removeprefix("▁") for piece in pieces])
    vectors -= vectors.mean(axis=0)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    vectors = vectors @ directions[:, : -WIDTH - 1 : -1]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    writer = GGUFWriter(ENGLISH_WORDS, "words")
    writer.add_name("English words of all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    writer.add_token_list(pieces)
    packed = quantize(vectors, GGMLQuantizationType.Q4_0)
    writer.add_tensor(TABLE, packed, raw_dtype=GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
