"""Write the embeddings that libmtmd makes of pictures: its own process, for llama.cpp may abort.

Usage: python vision_child.py [[MODEL, MMPROJ], ...] PICTURES.npz OUT.npz
where the arrays `N-M` of PICTURES.npz are the pictures, (height, width, 3) uint8, of the file with the number N.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

os.environ["GGML_NO_BACKTRACE"] = "1"

import llama_cpp as c
import llama_cpp.mtmd_cpp as m
import numpy as np

PICTURE = 1  # MTMD_INPUT_CHUNK_TYPE_IMAGE


def embed(context: object, picture: np.ndarray, width: int) -> np.ndarray:
    """(tokens, width) float32."""
    rows, columns, _ = picture.shape
    pixels = np.ascontiguousarray(picture)
    bitmap = m.mtmd_bitmap_init(columns, rows, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
    marker = m.mtmd_default_marker()
    text = m.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
    chunks = m.mtmd_input_chunks_init()
    if m.mtmd_tokenize(context, chunks, ctypes.byref(text), (ctypes.c_void_p * 1)(bitmap), 1):
        sys.exit("the picture cannot be cut into tokens")
    found = [m.mtmd_input_chunks_get(chunks, number) for number in range(m.mtmd_input_chunks_size(chunks))]
    (chunk,) = [each for each in found if m.mtmd_input_chunk_get_type(each) == PICTURE]
    if m.mtmd_encode_chunk(context, chunk):
        sys.exit("the picture cannot be encoded")
    shape = (m.mtmd_input_chunk_get_n_tokens(chunk), width)
    made = np.ctypeslib.as_array(m.mtmd_get_output_embd(context), shape).copy()
    m.mtmd_input_chunks_free(chunks)
    m.mtmd_bitmap_free(bitmap)
    return made


def main(asked: list[list[str]], pictures: str, out: str) -> None:
    """Write an array for each picture, under its name."""
    c.llama_backend_init()
    stored = np.load(pictures)
    made = {}
    for number, (model_path, mmproj_path) in enumerate(asked):
        model = c.llama_load_model_from_file(model_path.encode(), c.llama_model_default_params())
        settings = m.mtmd_context_params_default()
        settings.use_gpu = settings.warmup = settings.print_timings = False
        settings.n_threads = 1
        settings.flash_attn_type = 0  # which would round keys and values to float16
        settings.image_min_tokens, settings.image_max_tokens = 1, 4096
        context = m.mtmd_init_from_file(mmproj_path.encode(), model, settings)
        if not context:
            sys.exit("the mmproj file does not load")
        names = [name for name in stored if name.startswith(f"{number}-")]
        made |= {name: embed(context, stored[name], c.llama_model_n_embd(model)) for name in names}
        m.mtmd_free(context)
        c.llama_model_free(model)
    np.savez(out, **made)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3])
