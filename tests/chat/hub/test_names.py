"""The official models, by exact sizes and names that do not clash."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import pytest

from chat.hub.names import CATALOGUE, DEFAULT, Official, find_official, near_names, official_names
from convert.quantize.recipes import Facts, find_recipe, make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

# Published: layers, width, feed-forward, heads, vocabulary, experts; 8 key heads of 128 each.
_7B_OLD = (32, 4096, 14336, 32, 32000, 0)
_7B = (32, 4096, 14336, 32, 32768, 0)
_NEMO = (40, 5120, 14336, 32, 131072, 0)
_SMALL = (40, 5120, 32768, 32, 131072, 0)
_MINISTRAL_3B = (26, 3072, 9216, 32, 131072, 0)
_MINISTRAL_8B = (34, 4096, 14336, 32, 131072, 0)
_MINISTRAL_14B = (40, 5120, 16384, 32, 131072, 0)
_123B = (88, 12288, 28672, 96, 131072, 0)
_8X7B = (32, 4096, 14336, 32, 32000, 8)
SHAPES = {
    "mistral-7b-instruct-v0.3": _7B,
    "mistral-7b-instruct-v0.2": _7B_OLD,
    "mistral-7b-instruct-v0.1": _7B_OLD,
    "mistral-7b-v0.3": _7B,
    "mistral-7b-v0.1": _7B_OLD,
    "ministral-3-3b-instruct-2512": _MINISTRAL_3B,
    "ministral-3-8b-instruct-2512": _MINISTRAL_8B,
    "ministral-3-14b-instruct-2512": _MINISTRAL_14B,
    "ministral-3-3b-reasoning-2512": _MINISTRAL_3B,
    "ministral-3-8b-reasoning-2512": _MINISTRAL_8B,
    "ministral-3-14b-reasoning-2512": _MINISTRAL_14B,
    "ministral-8b-instruct-2410": (36, 4096, 12288, 32, 131072, 0),
    "mistral-nemo-instruct-2407": _NEMO,
    "mistral-nemo-base-2407": _NEMO,
    "mistral-small-3.2-24b-instruct-2506": _SMALL,
    "magistral-small-2509": _SMALL,
    "devstral-small-2-24b-instruct-2512": _SMALL,
    "devstral-small-2507": _SMALL,
    "mistral-small-24b-instruct-2501": _SMALL,
    "mistral-small-24b-base-2501": _SMALL,
    "codestral-22b-v0.1": (56, 6144, 16384, 48, 32768, 0),
    "devstral-2-123b-instruct-2512": _123B,
    "mistral-medium-3.5-128b": _123B,
    "mixtral-8x7b-instruct-v0.1": _8X7B,
    "mixtral-8x7b-v0.1": _8X7B,
    "mixtral-8x22b-instruct-v0.1": (56, 6144, 16384, 48, 32768, 8),
    "mixtral-8x22b-v0.1": (56, 6144, 16384, 48, 32000, 8),
}
SMALL_4 = "mistral-small-4-119b-2603"  # latent attention: ranks 1024 and 256, heads of 64 + 64 and 128
SHAPES[SMALL_4] = (36, 4096, 2048, 32, 131072, 128)
TIED = {name for name in SHAPES if name.startswith("ministral-3-3b-")}
FP8 = {name for name in SHAPES if name.endswith("instruct-2512")} | {"mistral-medium-3.5-128b", SMALL_4}
TEXT_ONLY = {"devstral-2-123b-instruct-2512"}
SEEING = {
    *(name for name in SHAPES if "ministral-3-" in name),
    *FP8,
    "mistral-small-3.2-24b-instruct-2506",
    "magistral-small-2509",
} - TEXT_ONLY


def latent_tensors() -> list[tuple[str, tuple[int, ...]]]:
    """Every tensor of Small 4: its name and shape."""
    layers, width, inner, heads, pieces, experts = SHAPES[SMALL_4]
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,),
        "attn_q_a": (1024, width),
        "attn_q_a_norm": (1024,),
        "attn_q_b": (heads * 128, 1024),
        "attn_kv_a_mqa": (256 + 64, width),
        "attn_kv_a_norm": (256,),
        "attn_k_b": (heads, 256, 64),
        "attn_v_b": (heads, 128, 256),
        "attn_output": (width, heads * 128),
        "ffn_norm": (width,),
        "ffn_gate_inp": (experts, width),
        "ffn_gate_up_exps": (experts, 2 * inner, width),
        "ffn_down_exps": (experts, width, inner),
        "ffn_gate_shexp": (inner, width),
        "ffn_up_shexp": (inner, width),
        "ffn_down_shexp": (width, inner),
    }
    outer = [
        ("token_embd.weight", (pieces, width)),
        ("output.weight", (pieces, width)),
        ("output_norm.weight", (width,)),
    ]
    inside = [(f"blk.{layer}.{name}.weight", shape) for layer in range(layers) for name, shape in shapes.items()]
    return [*outer, *inside]


def vision_parameters(width: int) -> int:
    """Weights of the vision encoder (24 layers of 1024 and 4096, patches of 14 x 14) and its projector."""
    layer = 4 * 1024**2 + 3 * 1024 * 4096 + 2 * 1024
    patches = 3 * 14 * 14 * 1024 + 1024
    projector = 1024 + 4 * 1024 * 1024 + 1024 * width + width * width
    return 24 * layer + patches + projector


def released_bytes(name: str, found: Sequence[tuple[str, tuple[int, ...]]]) -> int:
    """Two bytes for each weight, one for the matrices in the layers of an FP8 release."""
    sizes = [
        prod(shape)
        * (1 if name in FP8 and tensor.startswith("blk.") and len(shape) > 1 and "_inp" not in tensor else 2)
        for tensor, shape in found
    ]
    return sum(sizes) + (2 * vision_parameters(SHAPES[name][1]) if name in SEEING else 0)


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
    found = latent_tensors() if official.name == SMALL_4 else tensors(*shape)
    if official.name in TIED:
        found = [(name, each) for name, each in found if name != "output.weight"]
    assert official.download_bytes == released_bytes(official.name, found)
    plan = make_plan(find_recipe("Q4_K_M"), found, Facts(layers, heads, 1 if official.name == SMALL_4 else 8, experts))
    assert official.q4_bytes == plan.data_bytes
    numbers = 256 + 64 if official.name == SMALL_4 else 2 * 8 * 128  # of each layer
    assert official.cache_bytes == layers * numbers * 2


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


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("devstral-smal", ("devstral-small-2-24b-instruct-2512", "devstral-small-2507")),
        ("mistral-small-3.2", ("mistral-small-3.2-24b-instruct-2506",)),
        ("Ministral 14B", ("ministral-3-14b-instruct-2512", "ministral-14b", "ministral-3-14b-reasoning-2512")),
        ("mixtrall", ("mixtral",)),
        ("nothing-like-it", ()),
    ],
)
def test_a_wrong_name_finds_the_nearest_ones(name: str, near: tuple[str, ...]) -> None:
    found = near_names(name)
    assert found[: len(near)] == near if near else found == ()
