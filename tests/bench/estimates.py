"""What loading was estimated to take beside what llama.cpp reserves and the process then holds, over many settings.

    python tests/bench/estimates.py MODEL.gguf...

Weights, cache and work are compared with the buffers that llama.cpp's log names; the whole, where the context is small
enough to be filled, with the most that was ever resident. Each is the estimate as a part of what was measured: 1.00 is
right.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.errors import ChatError
from chat.worker.client import LocalBackend

BUFFER = re.compile(r"(model|KV|compute|output) buffer size = +([0-9.]+) MiB")
CONTEXTS, KV_TYPES, ATTENTION, REPACK = (512, 8192, 32768), ("f16", "f32", "q8_0"), ("on", "off"), ("off", "on")
FILLED_CELLS = 1024
NEAR = 0.1


def measure(path: str, options: dict[str, Any]) -> dict[str, float]:
    """The estimates, each as a part of what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        engine = LocalBackend(EngineOptions(path, threads=1, **options), log_file=log)
        details = engine.info().details
        fills = details["cells"] <= FILLED_CELLS
        if fills:
            ids = tuple(5 + at % 300 for at in range(details["cells"] - 8))
            list(engine.reply(Request(Prompt(ids=ids), Sampling(temperature=0), max_tokens=2)))
        status = Path(f"/proc/{engine.pid}/status").read_text()
        engine.close()
        said: dict[str, float] = {}
        for kind, size in BUFFER.findall(log.read_text()):
            said[kind] = said.get(kind, 0) + float(size) * 2**20
    peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024
    parts = {
        "weights": (details["weights_bytes"] + details["copied_bytes"]) / said["model"],
        "cache": details["cache_bytes"] / said["KV"],
        "work": details["work_bytes"] / (said["compute"] + said["output"]),
    }
    return parts | ({"whole": details["host_bytes"] / peak} if fills else {})


def main() -> None:
    """Print every setting, marked where an estimate is off by more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    off, count = 0, 0
    for path in parser.parse_args().models:
        for context, kv_type, attention, repack in product(CONTEXTS, KV_TYPES, ATTENTION, REPACK):
            options = {"context": context, "kv_type": kv_type, "flash_attention": attention, "repack": repack}
            try:
                found = measure(path, options)
            except ChatError as error:
                if "flash" not in error.message and "context" not in error.message:
                    raise
                continue
            wrong = [name for name, part in found.items() if abs(part - 1) > NEAR]
            count, off = count + len(found), off + len(wrong)
            shown = "  ".join(f"{name} {part:.2f}" for name, part in found.items())
            settings = " ".join(map(str, options.values()))
            print(f"{Path(path).name} {settings}: {shown}{'  OFF: ' if wrong else ''}{' '.join(wrong)}", flush=True)
    print(f"{off} of {count} estimates are off by more than {NEAR:.0%}")


if __name__ == "__main__":
    main()
