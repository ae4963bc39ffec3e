"""Know where llama.cpp computes several rows bit for bit like one by one. Knows types and settings, not ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat.core.request import EngineOptions
    from chat.gguf.reader import GgufFile
    from chat.llama.memory_plan import MemoryPlan

# Up to seven rows llama.cpp multiplies each by itself with quantized weights, and the seven take four and a half times
# as long as one; from eight on it goes by tiles of sixteen, which add up in another order. That holds unless rows are
# repacked, with flash attention, and up to 256 cells or on one thread: beyond, threads share the cells of a single row,
# but not those of several, and a choice between two nearly equal ids may fall the other way.
MAX_BATCH_INVARIANT_ROWS = 7
EQUAL_TYPES = frozenset({"Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"})


def why_rows_differ(options: EngineOptions, file: GgufFile, chosen: MemoryPlan) -> str:
    """Why llama.cpp computes several rows otherwise than one by one; nothing where it does not."""
    kinds = {tensor.type for tensor in file.tensors.values() if len(tensor.shape) > 1}
    reasons = (
        (chosen.repack, "repacked rows"),
        (chosen.gpu_layers > 0, "layers on a GPU"),
        (options.flash_attention == "off", "attention without flash attention"),
        (not kinds <= EQUAL_TYPES, f"tensors of type {', '.join(sorted(kinds - EQUAL_TYPES))}"),
    )
    return next((words for is_so, words in reasons if is_so), "")
