"""A checkpoint in the hub's cache is read through its links, and nothing outside the cache is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.errors import DataError
from chat.hub import CachedRepository, hub_cache
from convert.checkpoint.folder import open_checkpoint
from tests.folders import CHECKPOINTS

CHECKPOINT = CHECKPOINTS / "mistral-v0.1"
FILES = ("config.json", "model.safetensors", "tokenizer.model")
COMMIT = "c" * 40


@pytest.fixture
def snapshot() -> Path:
    """The checkpoint as the hub library leaves it: links to blobs, one of them in the store that repositories share."""
    cache = CachedRepository("mistralai/Tiny")
    shared = hub_cache() / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    shared.write_bytes((CHECKPOINT / "model.safetensors").read_bytes())
    for name in FILES:
        blob = cache.blob(f"etag-of-{name}")
        blob.parent.mkdir(parents=True, exist_ok=True)
        if name == "model.safetensors":
            blob.symlink_to(Path("../../blobs/ab") / shared.name)
        else:
            blob.write_bytes((CHECKPOINT / name).read_bytes())
        cache.link(name, COMMIT, blob.name)
    return cache.snapshot(COMMIT)


def test_links_inside_the_hubs_cache_are_followed(snapshot: Path) -> None:
    checkpoint = open_checkpoint(snapshot)
    assert checkpoint.name == "mistralai/Tiny"
    assert checkpoint.tensors.keys() == open_checkpoint(CHECKPOINT).tensors.keys()


@pytest.mark.parametrize("place", ["models--other--One/blobs/x", "../outside"])
def test_a_link_to_another_repository_or_out_of_the_cache_is_refused(snapshot: Path, place: str) -> None:
    target = hub_cache() / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((CHECKPOINT / "model.safetensors").read_bytes())
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(target)
    with pytest.raises(DataError, match="is a link that leads out of the folder"):
        open_checkpoint(snapshot)
