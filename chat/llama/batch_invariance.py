"""Where llama.cpp computes several rows bit for bit like one row at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat.core.request import EngineOptions
    from chat.gguf.reader import GgufFile
    from chat.llama.memory_plan import MemoryPlan

# With quantized weights llama.cpp multiplies up to seven rows one by one, and seven take four and a half times as long
# as one; from eight rows on it computes tiles of sixteen, which add up in another order. That holds unless rows are
# repacked, with flash attention, and up to 256 cells or on one thread: beyond, several threads share the cells of a
# single row, but not those of several rows, and a choice between two nearly equal ids may fall the other way.
MAX_BATCH_INVARIANT_ROWS = 7
INVARIANT_TYPES = frozenset({"Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"})


def why_rows_differ(options: EngineOptions, file: GgufFile, plan: MemoryPlan) -> str:
    """Why several rows have other bits than one row at a time, as a noun phrase; empty where they have not."""
    kinds = {tensor.type for tensor in file.tensors.values() if len(tensor.shape) > 1}
    reasons = (
        (plan.repack, "repacked weights"),
        (plan.gpu_layers > 0, "layers on a GPU"),
        (options.flash_attention == "off", "flash attention off"),
        (not kinds <= INVARIANT_TYPES, f"{', '.join(sorted(kinds - INVARIANT_TYPES))} weights"),
    )
    return next((words for applies, words in reasons if applies), "")
