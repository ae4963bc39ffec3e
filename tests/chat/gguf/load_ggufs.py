"""A child that loads GGUF files with llama.cpp and decodes a token of each, until one of them ends it. For tests only.

Reads paths on stdin, a model's or, with `adapter` before it, a LoRA's for the model loaded first. Writes `start PATH`
before and `done RESULT` after each, so that the parent process can see which file was the last.
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp as lib

TEXT = "the é\x01 漢字\n".encode()


@lib.llama_log_callback
def silent(_level: int, _text: bytes, _data: object) -> None:
    """Drop what llama.cpp says."""


def load(path: str) -> str:
    """Load a model, tokenize and decode with it, and free it."""
    parameters = lib.llama_model_default_params()
    parameters.use_extra_bufts = False
    model = lib.llama_model_load_from_file(path.encode(), parameters)
    if not model:
        return "refused"
    try:
        return decode(model)
    finally:
        lib.llama_model_free(model)


def decode(model: lib.llama_model_p) -> str:
    """Tokenize a text, decode it and look at the logits."""
    vocabulary = lib.llama_model_get_vocab(model)
    count = lib.llama_vocab_n_tokens(vocabulary)
    ids = (lib.llama_token * 64)()
    written = lib.llama_tokenize(vocabulary, TEXT, len(TEXT), ids, 64, True, False)
    buffer = ctypes.create_string_buffer(512)
    for number in range(0, count, max(count // 50, 1)):
        lib.llama_token_to_piece(vocabulary, number, buffer, 512, 0, True)
    parameters = lib.llama_context_default_params()
    parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = 256, 64, 64
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.swa_full = False
    results = set()
    for parameters.flash_attn_type in (lib.LLAMA_FLASH_ATTN_TYPE_DISABLED, lib.LLAMA_FLASH_ATTN_TYPE_ENABLED):
        context = lib.llama_init_from_model(model, parameters)
        if not context:
            return "no context"
        results.add(lib.llama_decode(context, lib.llama_batch_get_one(ids, max(written, 1))))
        results.add(lib.llama_decode(context, lib.llama_batch_get_one(ids, 1)))
        lib.llama_free(context)
    return "decoded " + ", ".join(map(str, sorted(results)))


def main() -> None:
    """One path for each line of stdin."""
    lib.llama_log_set(silent, ctypes.c_void_p(0))
    lib.llama_backend_init()
    base = None
    for line in sys.stdin:
        kind, _, path = line.rstrip("\n").rpartition(" ")
        print("start", path, flush=True)
        if kind == "base":
            base = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
            result = "loaded" if base else "refused"
        elif kind == "adapter":
            adapter = lib.llama_adapter_lora_init(base, path.encode())
            result = "loaded" if adapter else "refused"
        else:
            result = load(path)
        print("done", result, flush=True)


if __name__ == "__main__":
    main()
