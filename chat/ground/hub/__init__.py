"""Access to the Hugging Face hub and to its cache on this machine. Loads the hub's library only when it asks."""

from chat.ground.hub.cache import CachedRepository, cached_gguf_files, hub_cache, remove_cached
from chat.ground.hub.choice import DEFAULT_QUANT, choose_gguf, needed_for_conversion, quant_of
from chat.ground.hub.naming import PREFIX, HubName, is_repository, read_hub_name
from chat.ground.hub.outline import checkpoint_outline
from chat.ground.hub.pull import (
    checkpoint_files,
    checkpoint_size,
    gguf_here,
    pull_files,
    pull_gguf,
    require_room,
)

__all__ = [
    "DEFAULT_QUANT",
    "PREFIX",
    "CachedRepository",
    "HubName",
    "cached_gguf_files",
    "checkpoint_files",
    "checkpoint_outline",
    "checkpoint_size",
    "choose_gguf",
    "gguf_here",
    "hub_cache",
    "is_repository",
    "needed_for_conversion",
    "pull_files",
    "pull_gguf",
    "quant_of",
    "read_hub_name",
    "remove_cached",
    "require_room",
]
