"""Name a checkpoint's content by one hash that costs no second reading of it. Knows no model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convert.checkpoint import Checkpoint

SAMPLE_BYTES = 4096


def fingerprint(checkpoint: Checkpoint) -> str:
    """Hash what tells one checkpoint from another.

    SHA-256, in hexadecimal, over the file of sizes (config.json or params.json), and then for every tensor in the
    order of names: name, dtype, shape, and the first and last 4,096 bytes of its numbers. Two checkpoints that were
    trained differently differ in it; it does not prove that every byte between the samples is the same.
    """
    digest = hashlib.sha256(checkpoint.config_path.read_bytes())
    for name in sorted(checkpoint.tensors):
        file, entry = checkpoint.tensors[name]
        digest.update(f"{name}\0{entry.dtype}\0{list(entry.shape)}\0".encode())
        size = min(SAMPLE_BYTES, entry.nbytes)
        for offset in (entry.offset, entry.offset + entry.nbytes - size):
            digest.update(file.file.view(offset, size))
            file.file.release(offset, size)
    return digest.hexdigest()
