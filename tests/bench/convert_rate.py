"""Measure `mistral-chat convert` beside `cp`, and beside llama.cpp's converter and llama-quantize, in one run.

    python tests/bench/convert_rate.py FOLDER OUT.gguf [-t TYPE] [--no-verify] [--plain]
        [--converter convert_hf_to_gguf.py --converter-python PYTHON --quantizer llama-quantize]

FOLDER is a checkpoint of safetensors (tests/full_size.py makes one). Files are written to a new folder beside OUT.gguf,
which alone stays. The input is dropped from the page cache before each measurement but those called cached. `cp` reads
all of the checkpoint and writes a file of the result's size to the disk.

The table has wall and processor seconds, the largest anonymous memory of the whole process tree, and the disk space
that was taken beside the result. `--plain` adds a plain loop over ggml_quantize_chunk() with one thread for each
processor, which packs the same numbers (of bfloat16) into the same types and writes nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np

from convert.quantize.kernels import library

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

CHUNK = 1 << 20  # numbers packed by one call of the plain loop
SAMPLING_SECONDS = 0.05


def forget(paths: list[Path]) -> None:
    """Drop files from the page cache, where the system allows it."""
    os.sync()  # only clean pages can be dropped
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@dataclass
class Measured:
    """One line of the table."""

    name: str
    wall: float = 0.0  # seconds
    processor: float = 0.0  # seconds
    memory: int = 0  # bytes
    disk: int = 0  # bytes

    def line(self) -> str:
        """The line, as Markdown."""
        return (
            f"| {self.name} | {self.wall:.1f} | {self.processor:.1f} | {self.memory / 2**20:,.0f} "
            f"| {self.disk / 1e9:.2f} |"
        )


def plus(name: str, first: Measured, second: Measured) -> Measured:
    """Two steps, one after the other."""
    return Measured(
        name,
        first.wall + second.wall,
        first.processor + second.processor,
        max(first.memory, second.memory),
        max(first.disk, second.disk),
    )


def anonymous_memory(root: int) -> int:
    """Bytes of anonymous memory of a process and its descendants."""
    parents: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = dict(
                line.split(":", 1)
                for line in (entry / "status").read_text().splitlines()
                if line.startswith(("PP", "Rss"))
            )
        except OSError:
            continue  # it ended
        parents[int(entry.name)] = int(fields["PPid"])
        sizes[int(entry.name)] = int(fields.get("RssAnon", "0 kB").split()[0]) * 1024
    family, total = {root}, 0
    for process in sorted(parents):  # a child's number is the larger one, but for a rare wrap
        if process in family or parents[process] in family:
            family.add(process)
            total += sizes[process]
    return total


def used_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk."""
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_blocks * 512
        except OSError:  # it was renamed
            continue
    return total


def measure(name: str, command: list[str], folder: Path, out: Path | None = None) -> Measured:
    """Run a command that writes to `folder`; it must succeed."""
    found, is_done = Measured(name), threading.Event()
    before = used_bytes(folder)
    print("$", shlex.join(command), flush=True)
    stream = out.open("wb") if out else subprocess.DEVNULL
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=stream, stderr=subprocess.DEVNULL if out is None else None)

    def sample() -> None:
        while not is_done.wait(SAMPLING_SECONDS):
            found.memory = max(found.memory, anonymous_memory(process.pid))
            found.disk = max(found.disk, used_bytes(folder) - before)

    sampler = threading.Thread(target=sample)
    sampler.start()
    _, status, usage = os.wait4(process.pid, 0)
    found.wall = time.perf_counter() - began
    is_done.set()
    sampler.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed with exit code {process.returncode}")
    found.processor = usage.ru_utime + usage.ru_stime
    print(found.line(), flush=True)
    return found


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


def llama_cpp(given: argparse.Namespace, work: Path, result_bytes: int) -> Iterator[Measured]:
    """llama.cpp's converter to BF16, and llama-quantize; then both."""
    whole, packed = work / "whole.gguf", work / "packed.gguf"
    shards = sorted(given.folder.glob("*.safetensors"))
    forget(shards)
    converter = [given.converter_python, given.converter, str(given.folder), "--outfile", str(whole)]
    first = measure("llama.cpp's converter", [*converter, "--outtype", "bf16"], work)
    yield first
    forget([whole])
    threads = str(len(os.sched_getaffinity(0)))
    second = measure("llama-quantize", [given.quantizer, str(whole), str(packed), given.type, threads], work)
    first.disk, second.disk = whole.stat().st_size, whole.stat().st_size
    yield second
    yield plus("llama.cpp's two tools", first, second)
    difference = packed.stat().st_size - result_bytes
    print(f"llama.cpp's file is {difference:+,} bytes larger than convert's")
    whole.unlink()
    packed.unlink()


def main() -> None:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("-t", "--type", default="Q4_K_M")
    parser.add_argument("--no-verify", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--converter")
    parser.add_argument("--converter-python", default=sys.executable)
    parser.add_argument("--quantizer")
    given = parser.parse_args()
    shards = sorted(given.folder.glob("*.safetensors"))
    work = given.out.with_suffix(".measured")
    work.mkdir()
    result, report, copy = work / given.out.name, work / "report.json", work / "copy"
    program = str(Path(sys.executable).parent / "mistral-chat")
    command = [program, "convert", str(given.folder), "-t", given.type, "-o", str(result), "--json", "-q"]
    command += ["--no-verify"] if given.no_verify else []
    lines: list[Measured] = []
    for name in ("mistral-chat convert", "mistral-chat convert, cached"):
        if name.endswith("cached"):
            measure("reading", ["cat", *map(str, shards)], work)
        else:
            forget(shards)
        result.unlink(missing_ok=True)
        measured = measure(name, command, work, report)
        measured.disk -= result.stat().st_blocks * 512
        lines.append(measured)
        print(json.dumps(json.loads(report.read_text())["seconds"]))
    files = " ".join(shlex.quote(str(shard)) for shard in shards)
    source, target = shlex.quote(str(result)), shlex.quote(str(copy))
    pair = f"cat {files} > /dev/null && cp {source} {target} && sync {target}"
    for name in ("cp", "cp, cached"):
        if name == "cp":
            forget([*shards, result])
        lines.append(measure(name, ["sh", "-c", pair], work))
        lines[-1].disk = 0
        copy.unlink()
    if given.converter and given.quantizer:
        lines += llama_cpp(given, work, result.stat().st_size)
    if given.plain:
        forget(shards)
        began, before = time.perf_counter(), time.process_time()
        plain_loop(shards, result)
        lines.append(Measured("plain loop", time.perf_counter() - began, time.process_time() - before))
    result.replace(given.out)
    report.unlink()
    work.rmdir()
    print(f"\n| {given.type} | wall s | processor s | anonymous memory, MiB | more disk, GB |\n|---|---|---|---|---|")
    for each in lines:
        print(each.line())


if __name__ == "__main__":
    main()
