"""Large counts in words."""

from __future__ import annotations

import pytest

from chat.system.units import count_text, size_text


@pytest.mark.parametrize(
    ("count", "size", "number"),
    [
        (0, "0 bytes", "0"),
        (1, "1 byte", "1"),
        (999, "999 bytes", "999"),
        (65_536, "66 kB", "65,536"),
        (1_935_104, "2 MB", "1.94 million"),
        (7_248_023_552, "7.2 GB", "7.25 billion"),
    ],
)
def test_large_counts_have_the_largest_unit_that_fits(count: int, size: str, number: str) -> None:
    assert (size_text(count), count_text(count)) == (size, number)
