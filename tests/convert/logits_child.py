"""Write models' logits for some ids, with or without an adapter: its own process, for llama.cpp may abort.

Usage: python logits_child.py [[MODEL, ADAPTER|-], ...] IDS OUT.npy
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

os.environ["GGML_NO_BACKTRACE"] = "1"

import llama_cpp as c
import numpy as np


def logits(model_path: str, adapter_path: str, ids: list[int]) -> list[np.ndarray]:
    """One row for each id."""
    settings = c.llama_model_default_params()
    settings.use_extra_bufts = False
    model = c.llama_load_model_from_file(model_path.encode(), settings)
    if not model:
        sys.exit("the model does not load")
    options = c.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 256
    options.n_threads = options.n_threads_batch = 1
    options.type_k = options.type_v = 0  # float32
    options.flash_attn_type = 0
    context = c.llama_init_from_model(model, options)
    if adapter_path != "-":
        adapter = c.llama_adapter_lora_init(model, adapter_path.encode())
        if not adapter:
            sys.exit("the adapter does not load")
        adapters = (c.llama_adapter_lora_p_ctypes * 1)(adapter)
        if c.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(1.0)):
            sys.exit("the adapter cannot be used")
    batch = c.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for place, token in enumerate(ids):
        batch.token[place], batch.pos[place], batch.n_seq_id[place], batch.seq_id[place][0] = token, place, 1, 0
        batch.logits[place] = 1
    if c.llama_decode(context, batch):
        sys.exit("the batch cannot be decoded")
    width = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
    rows = [np.ctypeslib.as_array(c.llama_get_logits_ith(context, place), (width,)).copy() for place in range(len(ids))]
    c.llama_free(context)
    c.llama_model_free(model)
    return rows


def main(asked: list[list[str]], ids: list[int], out: str) -> None:
    """Write (asked, ids, vocabulary) float32."""
    c.llama_backend_init()
    np.save(out, np.array([logits(model, adapter, ids) for model, adapter in asked]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3])
