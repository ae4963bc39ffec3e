"""Widening gives NumPy's bits, NaN and infinity among them, with the vectors of every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from convert.native import widen
from convert.native.libraries import libraries
from convert.native.widen import FORMS, Numbers, widen_bytes

ALL = np.arange(1 << 16, dtype=np.uint16)
built = pytest.mark.skipif(not libraries(), reason="the fast kernels are not built here")


@built
@pytest.mark.parametrize("form", ["F16", "BF16"])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_every_number_of_16_bits_is_widened_to_the_same_bits(lanes: int, form: str) -> None:
    library = libraries()[0]
    if lanes > library.mistral_lanes():
        pytest.skip("this processor lacks the instructions")
    numbers = np.empty(ALL.size, np.float32)
    library.mistral_widen(lanes, FORMS[form], ALL.ctypes.data, numbers.ctypes.data, ALL.size)
    expected = ALL.astype(np.uint32) << 16
    if form == "F16":
        expected = ALL.view(np.float16).astype(np.float32).view(np.uint32)
    assert np.array_equal(numbers.view(np.uint32), expected)


@pytest.mark.parametrize("is_built", [True, False])
@pytest.mark.parametrize("count", [0, 1, 15, 33])
def test_any_count_is_widened(count: int, is_built: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_built:
        monkeypatch.setattr(widen, "libraries", tuple)
    halves = ALL[1000 : 1000 + count]
    assert np.array_equal(Numbers("F16", halves.view(np.float16)).widened(), halves.view(np.float16).astype(np.float32))
    assert np.array_equal(Numbers("BF16", halves).widened().view(np.uint32), halves.astype(np.uint32) << 16)
    table = np.random.default_rng(1).standard_normal(256, dtype=np.float32)
    codes = np.random.default_rng(2).integers(0, 256, count).astype(np.uint8)
    assert np.array_equal(widen_bytes(codes, table), table[codes])
