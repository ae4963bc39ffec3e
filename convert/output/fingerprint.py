"""Identify a checkpoint, with the adapters merged into it, by one hash of samples of its tensors."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.checkpoint.folder import Checkpoint
    from convert.checkpoint.mapped_file import TensorEntry, TensorFile
    from convert.lora.adapter import Adapter

SAMPLE_BYTES = 4096


def fingerprint(checkpoint: Checkpoint) -> str:
    """Hash a checkpoint without reading all of it.

    SHA-256, in hexadecimal, over the file of sizes (config.json or params.json), and then for every tensor in the
    order of names: name, dtype, shape, and the first and last 4,096 bytes of its numbers. Two checkpoints that were
    trained differently differ in it; it does not prove that every byte between the samples is the same.
    """
    digest = hashlib.sha256(checkpoint.config_path.read_bytes())
    _add(digest, checkpoint.tensors)
    return digest.hexdigest()


def fingerprint_with(base: str, adapters: Sequence[tuple[Adapter, float]]) -> str:
    """Hash a base's fingerprint with the adapters that are merged into it; the base's own where there are none."""
    if not adapters:
        return base
    digest = hashlib.sha256(base.encode())
    for adapter, strength in adapters:
        digest.update(f"\0{strength!r}\0{[pair.scale for pair in adapter.pairs]}\0".encode())
        _add(digest, {part.entry.name: (part.file, part.entry) for part in adapter.parts})
    return digest.hexdigest()


def _add(digest: hashlib._Hash, tensors: Mapping[str, tuple[TensorFile, TensorEntry]]) -> None:
    for name in sorted(tensors):
        file, entry = tensors[name]
        digest.update(f"{name}\0{entry.dtype}\0{list(entry.shape)}\0".encode())
        size = min(SAMPLE_BYTES, entry.nbytes)
        for offset in (entry.offset, entry.offset + entry.nbytes - size):
            digest.update(file.file.view(offset, size))
            file.file.release(offset, size)
