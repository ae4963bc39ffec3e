"""Rows read in pieces are the rows read at once, whatever their source; used pages are released."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from chat.errors import DataError
from convert.checkpoint.rows import ConstantRow, GatheredRows, MappedRows, Rows, SlicedRows, StackedRows
from convert.checkpoint.safetensors_file import open_safetensors
from convert.tensors.layout import rotary_order
from tests.convert.samples import bfloat16, float32, write_safetensors


def mapped(folder: Path, array: np.ndarray, name: str = "a") -> MappedRows:
    path = folder / f"{name}.safetensors"
    write_safetensors(path, {"pad": np.zeros(3, np.int8), name: array})
    file = open_safetensors(path)
    return MappedRows(file, file.tensors[name])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def check_pieces(rows: Rows, expected: np.ndarray) -> None:
    assert (rows.count, rows.columns) == expected.shape
    for height in (1, 3, rows.count):
        pieces = [rows.read(start, min(start + height, rows.count)) for start in range(0, rows.count, height)]
        assert np.array_equal(np.concatenate(pieces), expected)
        assert all(piece.dtype == np.float32 and piece.flags.c_contiguous for piece in pieces)


def test_every_kind_of_rows_reads_the_same_in_pieces(tmp_path: Path) -> None:
    first, second = normal(8, 6, seed=1), normal(8, 6, seed=2)
    one, two = mapped(tmp_path, first, "one"), mapped(tmp_path, second, "two")
    check_pieces(one, first)
    check_pieces(StackedRows([one, two, one]), np.concatenate([first, second, first]))
    check_pieces(SlicedRows(StackedRows([one, two]), 5, 7), np.concatenate([first, second])[5:12])
    order = np.array([7, 0, 3, 3, 1])
    check_pieces(GatheredRows(one, order), first[order])
    check_pieces(ConstantRow(0.5, 4), np.full((1, 4), 0.5, np.float32))


def test_leading_axes_are_taken_together_and_a_vector_is_one_row(tmp_path: Path) -> None:
    cube = normal(2, 3, 4)
    check_pieces(mapped(tmp_path, cube), cube.reshape(6, 4))
    check_pieces(mapped(tmp_path, cube[0, 0], "v"), cube[0, :1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_numbers_are_what_their_type_means(dtype: str, tmp_path: Path) -> None:
    numbers = np.concatenate([normal(40), np.array([0.0, -0.0, 1e-40, 65504, np.inf, -np.inf, np.nan], np.float32)])
    stored = bfloat16(numbers) if dtype == "bfloat16" else numbers.astype(dtype)
    expected = float32(stored) if dtype == "bfloat16" else stored.astype(np.float32)
    assert mapped(tmp_path, stored).read(0, 1)[0].tobytes() == expected.tobytes()


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tensor `a` holds I8, not floats"):
        mapped(tmp_path, np.zeros(4, np.int8))


def test_the_rotary_order_pairs_the_halves_of_each_head() -> None:
    assert rotary_order(8, 4).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    weights = normal(3 * 16, 5)
    expected = weights.reshape(3, 2, 8, 5).swapaxes(1, 2).reshape(48, 5)
    assert np.array_equal(weights[rotary_order(48, 16)], expected)


@pytest.mark.slow
def test_pages_that_were_read_are_given_back(tmp_path: Path) -> None:
    smaps = Path("/proc/self/smaps")
    if not smaps.exists():
        pytest.skip("needs /proc")
    rows = mapped(tmp_path, np.ones((4096, 1024), np.float32))

    def resident() -> int:
        found = re.search(rf"{re.escape(str(rows.file.path))}\n(?:.*\n)*?Rss: +(\d+) kB", smaps.read_text())
        assert found is not None
        return int(found[1])

    for start in range(0, 4096, 64):
        rows.read(start, start + 64)
        assert resident() < 6000  # the kernel maps up to 2 MiB around a fault
    rows.file.view("a").tobytes()
    assert resident() > 10_000  # so that the figure above means something
