"""Time the first token of `mistral-chat` beside llama.cpp's own `llama-completion`, from the start of the process.

    python tests/bench/first_token.py MODEL.gguf LLAMA_COMPLETION [--rounds 3] [--prompt hi] [--threads N] [--warm-only]

Both get the same prompt tokens and take the likeliest token. `llama-completion` runs as it is by default, and once more
with the switches that make it start fastest. Cold: the model's file is dropped from the page cache before each start;
warm: it was read just before. All that the process does until its first byte counts: load, repack, warm-up, prompt.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

PROGRAM = [sys.executable, "-m", "chat"]
FAST_SWITCHES = ["--no-warmup", "--no-repack"]
PAGE = mmap.PAGESIZE


def cached_share(path: Path) -> float:
    """The part of a file that lies in the page cache."""
    size = path.stat().st_size
    pages = (ctypes.c_ubyte * -(-size // PAGE))()
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with path.open("rb") as file:
        address = library.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if library.mincore(address, size, pages):
        raise OSError(ctypes.get_errno(), "mincore")
    library.munmap(address, size)
    return sum(page & 1 for page in pages) / len(pages)


def make_cold(path: Path) -> None:
    """Drop a file from the page cache, and check that it is gone: a program that is about to end may still map it."""
    for _ in range(50):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if (share := cached_share(path)) < 0.01:
            return
        time.sleep(0.1)
    raise SystemExit(f"{share:.0%} of {path} stays in the page cache: is another program using it?")


def make_warm(path: Path) -> None:
    """Read a file from end to end."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def first_byte(command: list[str]) -> tuple[float, str]:
    """Seconds from the start of a process to its first byte on stdout that is no line break, and what came with it.

    Raises:
        SystemExit: it ended without a word, with what it said on stderr.
    """
    with tempfile.TemporaryFile() as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        said = b""
        while not said:
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                errors.seek(0)
                raise SystemExit(f"{command[0]} said nothing: {errors.read()[-2000:].decode('utf-8', 'replace')}")
            said = chunk.lstrip(b"\n")
        seconds = time.perf_counter() - begun
        process.terminate()
        process.wait()
        process.stdout.close()
    return seconds, said.decode("utf-8", "replace")


def rendered(model: str, prompt: str) -> str:
    """The prompt as the model reads it, without its beginning-of-sequence token, which the other tool adds itself."""
    done = subprocess.run([*PROGRAM, "-m", model, "--dry-run", prompt], capture_output=True, text=True, check=True)
    text: str = json.loads(done.stdout)["text"]
    return text.removeprefix("<s>").removeprefix(" ")


def main() -> None:
    """Take turns, and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tool", help="path of llama-completion")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", default="hi")
    parser.add_argument("--threads", help="for both; each chooses for itself if not given")
    parser.add_argument("--warm-only", action="store_true")
    given = parser.parse_args()
    path = Path(given.model)
    threads = ["--threads", given.threads] if given.threads else []
    ours = [*PROGRAM, "-m", given.model, "--temperature", "0", "-n", "16", *threads, given.prompt]
    theirs = [given.tool, "-m", given.model, "--temp", "0", "-n", "16", "-no-cnv", "--no-display-prompt", *threads]
    theirs += ["-p", rendered(given.model, given.prompt)]
    commands = {"mistral-chat": ours, "llama-completion": theirs, " ".join(FAST_SWITCHES): [*theirs, *FAST_SWITCHES]}
    for name, prepare in {"cold": make_cold, "warm": make_warm}.items():
        if name == "cold" and given.warm_only:
            continue
        taken: dict[str, list[float]] = {each: [] for each in commands}
        for _ in range(given.rounds):
            for each, command in commands.items():
                prepare(path)
                seconds, said = first_byte(command)
                taken[each].append(seconds)
                print(f"  {name} {each}: {seconds:.3f} s, {said!r}", file=sys.stderr, flush=True)
        best = median(taken["mistral-chat"])
        for each, runs in taken.items():
            print(f"{name:5} {each:26} {median(runs):8.3f} s  {median(runs) / best:6.2f} of ours", flush=True)


if __name__ == "__main__":
    main()
