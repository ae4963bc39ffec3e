"""Convert and verify one layer of Mistral Large 3 in its true width, and report the private memory that it takes.

Usage: python -m tests.bench.large_layer FOLDER [TYPE]

The checkpoint, 11.6 GB of FP8 with 128 experts, is a sparse file of zeros: it takes no space on the disk. The GGUF,
6.5 GB as Q4_0, is removed. Fails where private memory exceeds 2 GiB.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import threading
import time
from pathlib import Path

from tests.processes import children_of

LIMIT_BYTES = 2 << 30
WIDTH, HEADS, QUERY_RANK, RANK, TURNED, PLAIN, VALUE = 7168, 128, 1536, 512, 64, 128, 128
EXPERTS, EXPERT_HIDDEN, VOCABULARY = 128, 4096, 512
PARAMS = {
    "dim": WIDTH,
    "n_layers": 1,
    "hidden_dim": 16384,
    "n_heads": HEADS,
    "norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 262144,
    "q_lora_rank": QUERY_RANK,
    "kv_lora_rank": RANK,
    "qk_rope_head_dim": TURNED,
    "qk_nope_head_dim": PLAIN,
    "v_head_dim": VALUE,
    "moe": {
        "num_experts": EXPERTS,
        "num_experts_per_tok": 4,
        "expert_hidden_dim": EXPERT_HIDDEN,
        "num_shared_experts": 1,
    },
    "yarn": {"factor": 16, "original_max_position_embeddings": 16384, "beta": 32, "alpha": 1, "apply_scale": False},
    "llama_4_scaling": {"beta": 0.1, "original_max_position_embeddings": 16384},
}


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of one layer, and of what is beside the layers."""
    at = "layers.0."
    found: dict[str, tuple[int, ...]] = {
        "tok_embeddings.weight": (VOCABULARY, WIDTH),
        "norm.weight": (WIDTH,),
        "output.weight": (VOCABULARY, WIDTH),
        at + "attention_norm.weight": (WIDTH,),
        at + "ffn_norm.weight": (WIDTH,),
        at + "gate.weight": (EXPERTS, WIDTH),
        at + "attention.q_a_norm.weight": (QUERY_RANK,),
        at + "attention.kv_a_norm.weight": (RANK,),
        at + "attention.wq_a.weight": (QUERY_RANK, WIDTH),
        at + "attention.wq_b.weight": (HEADS * (PLAIN + TURNED), QUERY_RANK),
        at + "attention.wkv_a_with_mqa.weight": (RANK + TURNED, WIDTH),
        at + "attention.wkv_b.weight": (HEADS * (PLAIN + VALUE), RANK),
        at + "attention.wo.weight": (WIDTH, HEADS * VALUE),
    }
    for owner in ("shared_experts", *(f"experts.{number}" for number in range(EXPERTS))):
        found[f"{at}{owner}.w1.weight"] = (EXPERT_HIDDEN, WIDTH)
        found[f"{at}{owner}.w2.weight"] = (WIDTH, EXPERT_HIDDEN)
        found[f"{at}{owner}.w3.weight"] = (EXPERT_HIDDEN, WIDTH)
    return found


def make_checkpoint(folder: Path) -> None:
    """Write the header of a file of zeros: FP8 matrices with a scale each, the others bfloat16."""
    folder.mkdir(parents=True)
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes().items():
        is_packed = ".attention.w" in name or "experts" in name
        size = shape[0] * (shape[1] if len(shape) > 1 else 1) * (1 if is_packed else 2)
        kind = "F8_E4M3" if is_packed else "BF16"
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
        if is_packed:
            scale = name.removesuffix("weight") + "qscale_weight"
            header[scale] = {"dtype": "F32", "shape": [], "data_offsets": [end, end + 4]}
            end += 4
    text = json.dumps(header).encode()
    with (folder / "consolidated.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    (folder / "params.json").write_text(json.dumps(PARAMS))
    tokenizer = Path(__file__).parents[1] / "checkpoints/mistral-v0.1/tokenizer.model"
    shutil.copy(tokenizer, folder / "tokenizer.model")


def private_bytes() -> int:
    """Memory that this process and its children have for themselves: neither mapped files nor shared memory.

    `Private_Dirty` of smaps is another number: it counts pages of the new file that the verification maps before the
    system has written them to the disk, which are the page cache's.
    """
    return sum(map(_anonymous_bytes, [os.getpid(), *children_of(os.getpid())]))


def _anonymous_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def main(folder: Path, kind: str) -> None:
    """Convert, measure twenty times a second, and clean up."""
    from convert.draft import ConversionOptions
    from convert.pipeline import convert

    make_checkpoint(folder / "model")
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], private_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    out = folder / "out.gguf"
    try:
        report = convert(ConversionOptions(folder / "model", out, kind, show_progress=False))
    finally:
        done.set()
        watcher.join()
        out.unlink(missing_ok=True)
        shutil.rmtree(folder / "model")
    seconds = time.monotonic() - started
    print(f"{report.size / 1e9:.1f} GB in {seconds:.0f} s, at most {most[0] / 2**20:.0f} MiB of private memory")
    if most[0] > LIMIT_BYTES:
        sys.exit("more than 2 GiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "Q4_0")
