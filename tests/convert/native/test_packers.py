"""The fast kernels give the bytes of llama.cpp's own kernels, with the vectors of every instruction set."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from chat.errors import DataError
from convert.native.packers import PACKED_TYPES, Packer, packers, sample
from convert.native.widen import Numbers
from convert.quantize import kernels
from convert.quantize.kernels import BLOCK_TYPES, TensorType, packer_of, slow_types
from tests import grids
from tests.convert.native.blocks import MAKERS, WIDTH, Floats, blocks_of, importances, real_blocks

BLOCKS = 400  # of 256 numbers, for each type, with importance and without
ALL_BLOCKS = 1_000_000  # of the type, with --full
AT_ONCE = 20_000
COLUMNS = 5 * WIDTH  # a number of blocks in a row that no number of lanes divides
WEIGHTS = [(kind, has_importance) for kind in PACKED_TYPES for has_importance in (False, True)]


def has_sums(name: str, has_importance: bool) -> bool:
    """Whether a type is packed with sums, whose rounding depends on contraction in nearly every block."""
    return name != "Q8_0" and (has_importance or name not in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"))


built = pytest.mark.skipif(not packers(), reason="the fast kernels are not built here")


def ggml(rows: Floats, kind: TensorType, importance: Floats | None) -> np.ndarray:
    """What llama.cpp's own kernels make of rows."""
    packed = np.empty((len(rows), kind.row_bytes(rows.shape[1])), np.uint8)
    weights = None if importance is None else importance.ctypes.data
    shape = (len(rows), rows.shape[1])
    kernels.library().ggml_quantize_chunk(kind.ggml_id, rows.ctypes.data, packed.ctypes.data, 0, *shape, weights)
    return packed


def fast(packer: Packer, rows: Floats | Numbers, kind: TensorType, importance: Floats | None) -> np.ndarray:
    numbers = rows if isinstance(rows, Numbers) else Numbers("F32", rows)
    packed = np.empty((len(numbers.values), kind.row_bytes(numbers.values.shape[1])), np.uint8)
    address = ctypes.cast(kernels.library().ggml_quantize_chunk, ctypes.c_void_p).value
    assert packer.pack(kind.ggml_id, numbers, packed, importance, address)
    return packed


def all_lanes(packer: Packer) -> list[Packer]:
    """The packer with the vectors of each instruction set of this machine."""
    return [Packer(packer.library, lanes) for lanes in (4, 8, 16) if lanes <= packer.lanes]


def batches(count: int) -> Iterator[tuple[str, Floats]]:
    """At least `count` blocks of WIDTH as rows of COLUMNS, an equal share of each kind; real ones as well."""
    random = np.random.default_rng(7)
    share = -(-count // (len(MAKERS) + 1))
    for kind in (*MAKERS, "real"):
        for start in range(0, share, AT_ONCE):
            blocks = 5 * -(-min(AT_ONCE, share - start) // 5)
            if kind == "real":
                numbers = real_blocks()[random.integers(0, len(real_blocks()), blocks)]
            else:
                numbers = blocks_of(kind, random, blocks)
            yield kind, numbers.reshape(-1, COLUMNS)


@built
@pytest.mark.parametrize(("name", "has_importance"), WEIGHTS)
def test_the_bytes_are_those_of_llama_cpp(name: str, has_importance: bool) -> None:
    kind = BLOCK_TYPES[name]
    packer = packer_of(kind, has_importance=has_importance)
    assert packer is not None
    tried = list(importances(np.random.default_rng(3), COLUMNS)) if has_importance else [None]
    count = ALL_BLOCKS * kind.block // WIDTH if grids.FULL else BLOCKS
    for number, (words, rows) in enumerate(batches(count)):
        importance = tried[number % len(tried)]
        expected = ggml(rows, kind, importance).reshape(-1, kind.block_bytes)
        for each in all_lanes(packer):
            found = fast(each, rows, kind, importance).reshape(-1, kind.block_bytes)
            differing = int((found != expected).any(1).sum())
            assert not differing, f"{words}: {differing} of {len(expected)} blocks differ with {each.lanes} lanes"


@built
@pytest.mark.parametrize("count", [1, 2, 7, 17])
@pytest.mark.parametrize("name", PACKED_TYPES)
def test_any_number_of_blocks_is_packed_and_nothing_is_written_past_them(name: str, count: int) -> None:
    kind = BLOCK_TYPES[name]
    packer = packer_of(kind, has_importance=False)
    assert packer is not None
    rows = blocks_of("normal", np.random.default_rng(count), count)[:, : kind.block]
    rows = np.ascontiguousarray(rows)
    for each in all_lanes(packer):
        room = np.full((count + 1, kind.block_bytes), 0xA5, np.uint8)
        address = ctypes.cast(kernels.library().ggml_quantize_chunk, ctypes.c_void_p).value
        each.pack(kind.ggml_id, Numbers("F32", rows), room[:count], None, address)
        assert np.array_equal(room[:count], ggml(rows, kind, None))
        assert (room[count] == 0xA5).all()


@built
@pytest.mark.skipif(len(packers()) < 2 or packers()[0].lanes < 8, reason="needs fused multiplication")
@pytest.mark.parametrize(("name", "has_importance"), [each for each in WEIGHTS if has_sums(*each)])
def test_the_sample_tells_contracted_sums_from_others(name: str, has_importance: bool) -> None:
    """It decides which library packs a type: a build of ggml for another processor may contract."""
    rows, importance = sample()
    one, other = (fast(packer, rows, BLOCK_TYPES[name], importance if has_importance else None) for packer in packers())
    differing = (one != other).reshape(-1, BLOCK_TYPES[name].block_bytes).any(1).mean()
    assert differing > 0.02


def stored(rows: Floats, form: str) -> Numbers:
    """Rows rounded to a form of 16 bits."""
    if form == "F16":
        return Numbers(form, rows.astype(np.float16))
    return Numbers(form, (rows.view(np.uint32) >> 16).astype(np.uint16))


@built
@pytest.mark.parametrize("form", ["F16", "BF16"])
@pytest.mark.parametrize("name", PACKED_TYPES)
def test_rows_of_16_bits_are_packed_as_their_float32(name: str, form: str) -> None:
    kind = BLOCK_TYPES[name]
    random = np.random.default_rng(5)
    importance = (random.standard_normal(COLUMNS) ** 2).astype(np.float32)
    rows = np.concatenate([blocks_of(words, random, 5) for words in MAKERS]).reshape(-1, COLUMNS)
    numbers = stored(rows, form)
    for weights in (None, importance):
        packer = packer_of(kind, has_importance=weights is not None)
        assert packer is not None
        expected = ggml(numbers.widened(), kind, weights)
        for each in all_lanes(packer):
            assert np.array_equal(fast(each, numbers, kind, weights), expected)


@built
@pytest.mark.parametrize("form", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("name", PACKED_TYPES)
def test_a_number_that_does_not_fit_is_noticed_wherever_it_is(name: str, form: str) -> None:
    kind = BLOCK_TYPES[name]
    packer = packer_of(kind, has_importance=False)
    assert packer is not None
    rows = blocks_of("normal", np.random.default_rng(5), 6).reshape(2, -1)
    tried = [np.nan, np.inf, -np.inf] if form == "F16" else [np.nan, -np.inf, 65536.0, -3e38]
    packed = np.empty((2, kind.row_bytes(rows.shape[1])), np.uint8)
    address = ctypes.cast(kernels.library().ggml_quantize_chunk, ctypes.c_void_p).value
    for value, place in itertools.product(tried, (0, 15, 300, 767, 1535)):
        damaged = rows.copy()
        damaged.reshape(-1)[place] = value
        numbers = Numbers("F32", damaged) if form == "F32" else stored(damaged, form)
        for each in all_lanes(packer):
            assert not each.pack(kind.ggml_id, numbers, packed, None, address)
        with pytest.raises(DataError, match=f"row {place // 768}"):
            kernels.quantize(numbers, kind, "t")


class Wrong(Packer):
    """A library of another compiler, which rounds the last bit of one number otherwise."""

    def pack(self, ggml_id: int, rows: Numbers, packed: np.ndarray, importance: Floats | None, address: int) -> bool:
        fits = super().pack(ggml_id, rows, packed, importance, address)
        packed[-1, -1] ^= 1
        return fits


@built
def test_a_type_whose_bytes_differ_is_packed_by_llama_cpp_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    packer_of.cache_clear()
    packer = packers()[0]
    rows = blocks_of("normal", np.random.default_rng(1), 8)
    expected = ggml(rows, BLOCK_TYPES["Q4_K"], None)
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "packers", lambda: (Wrong(packer.library, packer.lanes),))
        assert packer_of(BLOCK_TYPES["Q4_K"], has_importance=False) is None
        assert np.array_equal(kernels.quantize(Numbers("F32", rows), BLOCK_TYPES["Q4_K"], "t"), expected)
        assert slow_types([(BLOCK_TYPES["Q4_K"], False), (BLOCK_TYPES["F16"], False)]) == ["Q4_K"]
    packer_of.cache_clear()


def test_without_the_kernels_llama_cpp_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    packer_of.cache_clear()
    rows = blocks_of("normal", np.random.default_rng(1), 8)
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "packers", lambda: ())
        assert packer_of(BLOCK_TYPES["Q6_K"], has_importance=True) is None
        packed = kernels.quantize(Numbers("F32", rows), BLOCK_TYPES["Q6_K"], "t")
        assert slow_types([(BLOCK_TYPES["Q6_K"], False)]) == []
    packer_of.cache_clear()
    assert np.array_equal(packed, ggml(rows, BLOCK_TYPES["Q6_K"], None))
