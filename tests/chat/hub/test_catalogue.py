"""The official models, by exact sizes and names that do not clash."""

from __future__ import annotations

from math import prod

import pytest

from chat.hub.catalogue import CATALOGUE, DEFAULT, Official, find_official, official_names
from convert.quantize.recipes import Facts, find_recipe, make_plan

SHAPES = {  # published: layers, width, feed-forward, heads, vocabulary, experts; 8 key heads of 128 each
    "mistral-7b-instruct-v0.3": (32, 4096, 14336, 32, 32768, 0),
    "mistral-7b-instruct-v0.2": (32, 4096, 14336, 32, 32000, 0),
    "mistral-7b-instruct-v0.1": (32, 4096, 14336, 32, 32000, 0),
    "mistral-7b-v0.3": (32, 4096, 14336, 32, 32768, 0),
    "mistral-7b-v0.1": (32, 4096, 14336, 32, 32000, 0),
    "ministral-8b-instruct-2410": (36, 4096, 12288, 32, 131072, 0),
    "mistral-nemo-instruct-2407": (40, 5120, 14336, 32, 131072, 0),
    "mistral-nemo-base-2407": (40, 5120, 14336, 32, 131072, 0),
    "mistral-small-24b-instruct-2501": (40, 5120, 32768, 32, 131072, 0),
    "mistral-small-24b-base-2501": (40, 5120, 32768, 32, 131072, 0),
    "mixtral-8x7b-instruct-v0.1": (32, 4096, 14336, 32, 32000, 8),
    "mixtral-8x7b-v0.1": (32, 4096, 14336, 32, 32000, 8),
    "mixtral-8x22b-instruct-v0.1": (56, 6144, 16384, 48, 32768, 8),
    "mixtral-8x22b-v0.1": (56, 6144, 16384, 48, 32000, 8),
}


def tensors(
    layers: int, width: int, inner: int, heads: int, pieces: int, experts: int
) -> list[tuple[str, tuple[int, ...]]]:
    """Every tensor's name and shape."""
    outer = (experts,) if experts else ()
    end = "_exps" if experts else ""
    found: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (pieces, width)),
        ("output.weight", (pieces, width)),
        ("output_norm.weight", (width,)),
    ]
    for layer in range(layers):
        shapes: dict[str, tuple[int, ...]] = {
            "attn_q": (heads * 128, width),
            "attn_k": (1024, width),
            "attn_v": (1024, width),
            "attn_output": (width, heads * 128),
            "attn_norm": (width,),
            "ffn_norm": (width,),
            f"ffn_gate{end}": (*outer, inner, width),
            f"ffn_up{end}": (*outer, inner, width),
            f"ffn_down{end}": (*outer, width, inner),
        }
        if experts:
            shapes["ffn_gate_inp"] = (experts, width)
        found += [(f"blk.{layer}.{name}.weight", shape) for name, shape in shapes.items()]
    return found


@pytest.mark.parametrize("official", CATALOGUE, ids=lambda each: each.name)
def test_sizes_are_those_of_the_converters_plan(official: Official) -> None:
    shape = SHAPES[official.name]
    layers, _, _, heads, _, experts = shape
    found = tensors(*shape)
    assert official.download_bytes == 2 * sum(prod(each) for _, each in found)
    plan = make_plan(find_recipe("Q4_K_M"), found, Facts(layers, heads, 8, experts))
    assert official.q4_bytes == plan.data_bytes
    assert official.cache_bytes == layers * 2 * 8 * 128 * 2


def test_every_name_means_one_model() -> None:
    names = [*official_names(), *(each.repository for each in CATALOGUE)]
    assert len({name.lower() for name in names}) == len(names)
    assert all(find_official(name.upper()) is find_official(name) is not None for name in names)
    assert all(each.repository.startswith("mistralai/") for each in CATALOGUE)


def test_the_default_is_the_7b_instruct_that_fits_a_laptop() -> None:
    assert DEFAULT.repository == "mistralai/Mistral-7B-Instruct-v0.3"
    assert find_official("mistral") is DEFAULT
    assert DEFAULT.memory_bytes == 4_372_054_016 + 8192 * 131_072 + 500_000_000


def test_a_window_bounds_the_memory() -> None:
    windowed = find_official("mistral-7b-instruct-v0.1")
    assert windowed and windowed.memory_bytes == 4_367_704_064 + 4096 * 131_072 + 500_000_000
