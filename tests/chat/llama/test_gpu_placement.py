"""Layers lie where llama.cpp puts them: the output first, then the last layers, neighbours on each GPU."""

from __future__ import annotations

import pytest

from chat.llama.gpu_placement import RESERVE_BYTES, Parts, most_layers, on_gpus, split

MIB = 1 << 20
PARTS = Parts(layers=(10, 20, 30, 40), output=7, work=1)


@pytest.mark.parametrize(("count", "taken"), [(0, 0), (1, 7 + 1), (2, 47 + 1), (3, 77 + 1), (4, 97 + 1), (5, 107 + 1)])
def test_the_output_goes_to_the_gpu_first_and_the_last_layers_follow(count: int, taken: int) -> None:
    assert on_gpus(PARTS, (1000,), count) == (taken,)


@pytest.mark.parametrize(
    ("free", "count", "taken"),
    [
        ((500, 500), 4, (20 + 30 + 1, 40 + 7 + 1)),
        ((500, 500), 5, (10 + 20 + 30 + 1, 40 + 7 + 1)),  # a layer that begins before the bound is before it
        ((900, 100), 5, (107 + 1, 0)),
        ((100, 900), 5, (10 + 1, 97 + 1)),
        ((0, 100, 0), 5, (0, 107 + 1, 0)),
        ((300, 300, 300), 5, (10 + 20 + 1, 30 + 40 + 1, 7 + 1)),
    ],
)
def test_several_gpus_share_neighbouring_layers(free: tuple[int, ...], count: int, taken: tuple[int, ...]) -> None:
    assert on_gpus(PARTS, free, count) == taken


def test_as_many_layers_go_there_as_fit_on_each_gpu_with_a_reserve() -> None:
    parts = Parts((100 * MIB,) * 10, 50 * MIB, 20 * MIB)
    for count in range(1, 12):
        enough = RESERVE_BYTES + sum(on_gpus(parts, (1,), count))
        assert [most_layers(parts, (free,)) for free in (enough - 1, enough)] == [count - 1, count]
    two = (RESERVE_BYTES + 620 * MIB, RESERVE_BYTES + 620 * MIB)
    assert (most_layers(parts, two), on_gpus(parts, two, 11)) == (11, (620 * MIB, 470 * MIB))
    assert [most_layers(parts, free) for free in ((), (0,), (0, 0))] == [0, 0, 0]


def test_a_gpu_that_is_nearly_full_gets_no_layers() -> None:
    parts = Parts((100 * MIB,) * 10, 50 * MIB, 20 * MIB)
    free = (RESERVE_BYTES + 10 * MIB, RESERVE_BYTES + 2000 * MIB)
    assert split(parts, free) == (0, 1980 * MIB)
    assert (most_layers(parts, free), on_gpus(parts, free, 11)) == (11, (0, 1070 * MIB))
    assert split(parts, (5, 7)) == (5, 7)  # who asks for layers nevertheless gets them as llama.cpp would place them
