"""Numbers that a block cannot hold are found before llama.cpp packs them, wherever they are."""

from __future__ import annotations

import numpy as np
import pytest

from chat.errors import DataError
from convert.native.widen import Numbers
from convert.quantize.kernels import BLOCK_TYPES, MAX_FLOAT16, quantize

Q8_0 = BLOCK_TYPES["Q8_0"]


def rows_with(value: float, place: int) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((4, 256), dtype=np.float32)
    rows.reshape(-1)[place] = value
    return rows


@pytest.mark.parametrize("place", [0, 255, 700, 1023])
@pytest.mark.parametrize("value", [MAX_FLOAT16 * 1.001, -MAX_FLOAT16 * 1.001, 3e38, np.nan, np.inf, -np.inf])
def test_what_does_not_fit_is_named(value: float, place: int) -> None:
    words = "too large for Q8_0" if np.isfinite(value) else r"(nan|-?inf) in row \d+, column \d+"
    with pytest.raises(DataError, match=f"^t: .*row {place // 256}|{words}"):
        quantize(Numbers("F32", rows_with(value, place)), Q8_0, "t")


@pytest.mark.parametrize("value", [MAX_FLOAT16, -MAX_FLOAT16, MAX_FLOAT16 / 2, 0.0])
def test_what_fits_is_packed_though_its_square_is_large(value: float) -> None:
    assert quantize(Numbers("F32", rows_with(value, 300)), Q8_0, "t").shape == (4, 272)


def test_many_moderate_numbers_are_moderate() -> None:
    """Their sum of squares says nothing: each must be looked at."""
    assert quantize(Numbers("F32", np.full((64, 256), MAX_FLOAT16, np.float32)), Q8_0, "t").shape == (64, 272)
    assert quantize(Numbers("F32", np.empty((0, 256), np.float32)), Q8_0, "t").shape == (0, 272)
