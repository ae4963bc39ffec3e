"""Access to the Hugging Face hub and to its cache on this machine. Its library is imported only when it is used."""

from chat.hub.cache import CachedRepository, cached_gguf_files, hub_cache, place_in_cache, remove_cached
from chat.hub.header_download import checkpoint_outline
from chat.hub.names import PREFIX, HubName, is_repository, read_hub_name
from chat.hub.pull import (
    checkpoint_files,
    checkpoint_size,
    gguf_here,
    pull_files,
    pull_gguf,
    pull_projector,
    require_room,
)
from chat.hub.select import DEFAULT_QUANT, PROJECTOR_TYPES, choose_gguf, needed_for_conversion, quant_of

__all__ = [
    "DEFAULT_QUANT",
    "PREFIX",
    "PROJECTOR_TYPES",
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
    "place_in_cache",
    "pull_files",
    "pull_gguf",
    "pull_projector",
    "quant_of",
    "read_hub_name",
    "remove_cached",
    "require_room",
]
