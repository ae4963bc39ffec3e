"""A program that loads GGUF files with llama.cpp, each in a fork of its own, and decodes tokens. For tests only.

Reads paths on stdin, a model's or, with `adapter` before it, a LoRA's for the model that `base` named, with `encoder` a
picture encoder's for the model that `sees` named, or with `embedding` an embedding model's. Writes a line of JSON for
each: the path, and what llama.cpp did with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import tempfile
from functools import partial
from typing import TYPE_CHECKING

import llama_cpp as lib
import numpy as np

from chat.errors import ChatError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_pictures import picture_sizes
from chat.llama.model import LoadSettings, Model
from chat.llama.picture_encoder import PictureEncoder
from chat.llama.text_embedder import TextEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = "the é\x01 漢字\n".encode()
PROCESSOR_SECONDS, WALL_SECONDS = 10, 60  # of one file, before it counts as hanging


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


def load_adapter(base: lib.llama_model_p, path: str) -> str:
    """Load a LoRA for a model."""
    return "loaded" if lib.llama_adapter_lora_init(base, path.encode()) else "refused"


def encode_picture(model: Model, path: str) -> str:
    """Encode a picture as the program does it."""
    file = read_gguf(path)
    sizes = picture_sizes(file)
    pixels = np.random.default_rng(1).integers(0, 256, (2 * sizes.cell, 3 * sizes.cell, 3), dtype=np.uint8)
    try:
        encoder = PictureEncoder(
            file, model, sizes, lambda: False, threads=1, uses_gpu=False, flash_attention="auto"
        )  # fmt: skip
        encoder.encode(pixels)
        encoder.close()
    except ChatError as error:
        return f"refused: {error.message[-200:]}"
    return "encoded"


def embed(path: str) -> str:
    """Compute vectors as the program does it."""
    try:
        embedder = TextEmbedder(path, 1)
        embedder.of(["the a\u00e9 \u6f22\u5b57 the", "a", "", "the " * 700])
        embedder.close()
    except ChatError as error:
        return f"refused: {error.message[-200:]}"
    return "embedded"


def forked(task: Callable[[], str]) -> str:
    """What a task returns, or how it ended the fork that did it: `killed` with its last words, or `hangs`."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as words:
        child = os.fork()
        if child == 0:
            os.dup2(words.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
            signal.alarm(WALL_SECONDS)
            try:
                os.write(writing, task().encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            result = pipe.read().decode()
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        words.seek(0)
        said = words.read()[-300:].decode(errors="replace").strip()
    if -ended in (signal.SIGPROF, signal.SIGALRM):
        return "hangs"
    return f"killed, status {ended}: {said}" if ended or not result else result


def main() -> None:
    """One path for each line of stdin."""
    lib.llama_log_set(silent, ctypes.c_void_p(0))
    lib.llama_backend_init()
    base = sees = None
    for line in sys.stdin:
        kind, _, path = line.rstrip("\n").rpartition(" ")
        if kind == "base":
            base = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
            continue
        if kind == "sees":
            sees = Model(path, LoadSettings())
            continue
        task = {
            "adapter": partial(load_adapter, base),
            "encoder": partial(encode_picture, sees),
            "embedding": embed,
        }.get(kind, load)
        result = forked(partial(task, path))
        print(json.dumps([path, result]), flush=True)


if __name__ == "__main__":
    main()
