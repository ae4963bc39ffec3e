"""Time `mistral-chat convert` beside a plain loop over ggml_quantize_chunk, and beside `cp`, in one run.

    python tests/bench/convert_rate.py FOLDER OUT.gguf [TYPE] [--cp] [--no-verify]

FOLDER is a checkpoint of bfloat16 safetensors (tests/full_size.py makes one). The plain loop maps the same files,
widens the same numbers to float32 and packs them into the same types as OUT.gguf has, with one thread for each
processor, and writes nothing. The input is dropped from the page cache before each, so each reads it from the disk.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np

from convert.quantize.kernels import library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

CHUNK = 1 << 20  # numbers packed by one call


def forget(paths: list[Path]) -> None:
    """Drop files from the page cache, where the system allows it."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(name: str, work: Callable[[], object]) -> float:
    """Run, and print wall seconds and how busy the processors were."""
    before, began = used(), time.perf_counter()
    work()
    wall = time.perf_counter() - began
    busy = (used() - before) / wall / len(os.sched_getaffinity(0))
    print(f"{name}: {wall:.1f} s, {used() - before:.1f} s of processor, cores {100 * busy:.0f} % busy", flush=True)
    return wall


def used() -> float:
    """Seconds of processor of this process and its children."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def numbers(shards: list[Path]) -> Iterator[npt.NDArray[np.uint16]]:
    """The data of each shard, (numbers,) bfloat16 as uint16, mapped."""
    for shard in shards:
        with shard.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        yield np.memmap(shard, np.uint16, "r", offset=8 + header)


def plain_loop(shards: list[Path], written: Path) -> None:
    """Pack as many numbers of each type as the written file has, and throw them away."""
    chunks = list(_chunks(shards, gguf.GGUFReader(written).tensors))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for _ in threads.map(_pack, chunks):
            pass


def _chunks(shards: list[Path], tensors: list[gguf.ReaderTensor]) -> Iterator[tuple[npt.NDArray[np.uint16], int, int]]:
    waiting = numbers(shards)
    data, at = next(waiting), 0
    for tensor in tensors:
        if "sinks" in tensor.name:  # not in the checkpoint
            continue
        width, left = int(tensor.shape[0]), int(np.prod(tensor.shape))
        while left:
            if at == data.size:
                data, at = next(waiting), 0
            count = min(left, data.size - at, CHUNK // width * width)
            count = count // width * width or count
            yield data[at : at + count], width, int(tensor.tensor_type)
            at, left = at + count, left - count


def _pack(chunk: tuple[npt.NDArray[np.uint16], int, int]) -> None:
    halves, width, kind = chunk
    if halves.size % width or kind == gguf.GGMLQuantizationType.F32:
        return
    floats = np.left_shift(halves.astype(np.uint32), 16).view(np.float32)
    packed = np.empty(floats.size * 4, np.uint8)
    library().ggml_quantize_chunk(
        kind, floats.ctypes.data_as(ctypes.c_void_p), packed.ctypes.data_as(ctypes.c_void_p), 0,
        floats.size // width, width, None,
    )  # fmt: skip


def main() -> None:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("type", nargs="?", default="Q4_K_M")
    parser.add_argument("--cp", action="store_true")
    parser.add_argument("--no-verify", action="store_true")
    given = parser.parse_args()
    shards = sorted(given.folder.glob("*.safetensors"))
    program = Path(sys.executable).parent / "mistral-chat"
    command = [
        str(program),
        "convert",
        str(given.folder),
        "-t",
        given.type,
        "-o",
        str(given.out),
        "--json",
        "-q",
        "--overwrite",
    ]
    command += ["--no-verify"] if given.no_verify else []
    if given.cp:
        forget(shards)
        copy = given.out.with_suffix(".copy")
        copy.mkdir()
        timed("cp", lambda: subprocess.run(["cp", *shards, copy], check=True))
        shutil.rmtree(copy)
    forget(shards)
    report = given.out.with_suffix(".json")
    with report.open("wb") as out:
        timed("convert", lambda: subprocess.run(command, check=True, stdout=out))
    seconds = json.loads(report.read_text())["seconds"]
    forget(shards)
    plain = timed("plain loop", lambda: plain_loop(shards, given.out))
    print(
        f"{given.type}: writing {seconds['write']:.1f} s, {plain / seconds['write']:.3f} of the plain loop's speed;",
        end=" ",
    )
    print(f"verifying {seconds.get('verify', 0):.1f} s, {seconds['total']:.1f} s in all")


if __name__ == "__main__":
    main()
