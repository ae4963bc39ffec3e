"""Split what makes keys and values of latent attention into the two tensors of the GGUF, head by head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.checkpoint.rows import SlicedRows, StackedRows, TurnedRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.architecture.latent import LatentAttention
    from convert.checkpoint.rows import Rows

KEY_PART, VALUE_PART = "attn_k_b", "attn_v_b"
# For `mistral4` each expert's gate lies above its up, in one tensor, as in Hugging Face's layout.
GATE_AND_UP = "ffn_gate_up_exps"
GATE_AND_UP_PARTS = ("ffn_gate_exps", "ffn_up_exps")


def split_keys_and_values(rows: Rows, heads: int, latent: LatentAttention) -> Mapping[str, Rows]:
    """Give the rows of both tensors by their parts, each with its heads one below the other.

    Args:
        rows: (heads * (plain + value), rank), each head's keys above its values.

    Returns:
        `attn_k_b`, (heads * rank, plain), each head transposed, and `attn_v_b`, (heads * value, rank).
    """
    height = latent.plain + latent.value
    starts = range(0, heads * height, height)
    return {
        KEY_PART: StackedRows([TurnedRows(SlicedRows(rows, start, latent.plain)) for start in starts]),
        VALUE_PART: StackedRows([SlicedRows(rows, start + latent.plain, latent.value) for start in starts]),
    }
