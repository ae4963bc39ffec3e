"""Compare a conversion with a plain loop over ggml_quantize_chunk on the same rows, alternating in one run.

    python tests/convert/speed.py [--layers 1] [--types Q4_K_M Q8_0] [--rounds 3]

Both read the same mapped weights in the same pieces on as many threads; the plain loop packs into one buffer again
and again and writes nothing. Prints seconds of wall and processor time, and the ratio of the fastest rounds.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from convert.pipeline import Options, convert, make_draft, make_jobs
from convert.quantize import library_path
from convert.stream import cut, usable_cpus
from tests.full_size import write_checkpoint


def plain_loop(options: Options) -> None:
    """Read and pack every piece; keep nothing."""
    library = ctypes.CDLL(str(library_path()))
    pack = library.ggml_quantize_chunk
    pack.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    chunks, lock = cut(make_jobs(make_draft(options))), threading.Lock()

    def loop() -> None:
        buffer = np.empty(1 << 24, dtype=np.uint8)
        while True:
            with lock:
                chunk = next(chunks, None)
            if chunk is None:
                return
            rows = chunk.job.rows.read(chunk.start, chunk.stop)
            pack(chunk.job.tensor.type.ggml_id, rows.ctypes.data, buffer.ctypes.data, 0, *rows.shape, None)

    threads = [threading.Thread(target=loop) for _ in range(usable_cpus())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def timed(work: object, *arguments: object) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.monotonic(), time.process_time()
    work(*arguments)  # type: ignore[operator]
    return time.monotonic() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--types", nargs="+", default=["Q4_K_M", "Q8_0"])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        source, out = Path(place) / "model", Path(place) / "out.gguf"
        write_checkpoint(source, given.layers)
        for kind in given.types:
            options = Options(source, out, kind, overwrite=True, verify=False, show_progress=False)
            plain, ours = [], []
            for _ in range(given.rounds):
                plain.append(timed(plain_loop, options))
                ours.append(timed(convert, options))
            for name, index in (("wall", 0), ("processor", 1)):
                first, second = min(each[index] for each in plain), min(each[index] for each in ours)
                print(f"{kind} {name}: plain loop {first:.2f} s, convert {second:.2f} s, ratio {first / second:.3f}")


if __name__ == "__main__":
    main()
