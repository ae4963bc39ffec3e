"""Decide each tensor's type, size and place in the file by its name and shape, as llama-quantize does.

Source of the rules: llama_tensor_get_type_impl and tensor_type_fallback in llama.cpp's src/llama-quant.cpp.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from chat.errors import UsageError
from chat.gguf.types import align
from convert.quantize.kernels import BLOCK_TYPES, TensorType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Facts:
    """What the rules of a recipe depend on in the model."""

    layers: int
    heads: int
    kv_heads: int
    experts: int = 0
    has_importance: bool = False
    is_tied: bool = False  # the output layer is the embedding
    is_70b: bool = False  # llama.cpp calls the model so, and gives its values more bits


def _more(layer: int, facts: Facts) -> bool:
    """Whether llama.cpp gives the layer more bits: those of the first and last eighth, and every third between."""
    eighth = facts.layers // 8
    return layer < eighth or layer >= 7 * facts.layers // 8 or (layer - eighth) % 3 == 2


def _in_first_eighth(layer: int, facts: Facts) -> bool:
    return layer < facts.layers // 8


def _q6_where_more(layer: int, facts: Facts) -> str | None:
    return "Q6_K" if _more(layer, facts) else None


def _q5_in_first_four(layer: int, facts: Facts) -> str | None:
    return "Q5_K" if layer < 4 else None


def _q5_in_first_eighth(layer: int, facts: Facts) -> str | None:
    return "Q5_K" if _in_first_eighth(layer, facts) else None


def _q5_in_first_eighth_unless_important(layer: int, facts: Facts) -> str | None:
    return "Q5_K" if not facts.has_importance and _in_first_eighth(layer, facts) else None


def _q41_in_first_eighth_if_important(layer: int, facts: Facts) -> str | None:
    return "Q4_1" if facts.has_importance and _in_first_eighth(layer, facts) else None


def _q5_for_shared_heads(layer: int, facts: Facts) -> str | None:
    return "Q5_K" if facts.heads // facts.kv_heads >= 4 else None


@dataclass(frozen=True)
class Recipe:
    """The types of one `-t`: a base type and rules for exceptions; a rule that returns None keeps the base."""

    name: str
    file_type: int  # enum llama_ftype, for general.file_type
    base: str
    output: str
    attn_v: Callable[[int, Facts], str | None] = lambda layer, facts: None
    ffn_down: Callable[[int, Facts], str | None] = lambda layer, facts: None
    attn_output_of_8_experts: str | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether numbers share a block, as opposed to plain floats."""
        return BLOCK_TYPES[self.base].is_quantized


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe("F32", 0, "F32", "F32"),
            Recipe("F16", 1, "F16", "F16"),
            Recipe("BF16", 32, "BF16", "BF16"),
            Recipe("Q8_0", 7, "Q8_0", "Q8_0"),
            Recipe("Q6_K", 18, "Q6_K", "Q6_K"),
            Recipe("Q5_K_M", 17, "Q5_K", "Q6_K", _q6_where_more, _q6_where_more),
            Recipe("Q4_K_M", 15, "Q4_K", "Q6_K", _q6_where_more, _q6_where_more, "Q5_K"),
            Recipe("Q4_K_S", 14, "Q4_K", "Q6_K", _q5_in_first_four, _q5_in_first_eighth, "Q5_K"),
            Recipe("Q4_0", 2, "Q4_0", "Q6_K", ffn_down=_q41_in_first_eighth_if_important),
            Recipe("IQ4_XS", 30, "IQ4_XS", "Q6_K", _q5_for_shared_heads, _q5_in_first_eighth_unless_important, "Q5_K"),
        )
    }
)

FALLBACK: Mapping[str, str] = MappingProxyType({"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"})

_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor's type and place in the file; `shape` is row-major, `offset` is in bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    nbytes: int

    @property
    def ggml_type(self) -> int:
        """The number of the type in ggml's `enum ggml_type`."""
        return self.type.ggml_id

    @property
    def columns(self) -> int:
        """Numbers in a row."""
        return self.shape[-1]

    @property
    def row_count(self) -> int:
        """Rows over all experts; 1 for a vector."""
        return prod(self.shape[:-1])

    @property
    def rows_per_matrix(self) -> int:
        """Rows of one expert, which share one importance vector."""
        return self.shape[-2] if len(self.shape) > 1 else 1


@dataclass(frozen=True)
class Plan:
    """The tensors in the order of the file, and their bytes with the padding."""

    type_name: str  # of the recipe
    tensors: tuple[PlannedTensor, ...]
    data_bytes: int


@dataclass(frozen=True)
class Override:
    """Tensors whose name holds a match of `pattern` get `type`, whatever the recipe says."""

    pattern: re.Pattern[str]
    type: TensorType = field(compare=False)


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`, in any case.

    Raises:
        UsageError: there is none.
    """
    recipe = RECIPES.get(name.upper())
    if recipe is None:
        raise UsageError(f"unknown type `{name}`", hint=f"types are {', '.join(RECIPES)}")
    return recipe


def make_plan(
    recipe: Recipe, tensors: Iterable[tuple[str, tuple[int, ...]]], facts: Facts, overrides: Sequence[Override] = ()
) -> Plan:
    """Plan tensors in the order and with the types of llama-quantize.

    Args:
        tensors: Names and row-major shapes.
        overrides: The first whose pattern matches a name decides its type, where the recipe has blocks.
    """
    ruled: Counter[str] = Counter()
    chosen = [
        (name, shape, _choose_type(recipe, name, shape, facts, overrides, ruled))
        for name, shape in sorted(tensors, key=lambda tensor: _order(tensor[0]))
    ]
    return place_tensors(recipe.name, chosen)


def place_tensors(type_name: str, tensors: Iterable[tuple[str, tuple[int, ...], TensorType]]) -> Plan:
    """Plan tensors of known types in the order of llama-quantize; shapes are row-major."""
    planned: list[PlannedTensor] = []
    offset = 0
    for name, shape, kind in sorted(tensors, key=lambda tensor: _order(tensor[0])):
        nbytes = prod(shape[:-1]) * kind.row_bytes(shape[-1])
        planned.append(PlannedTensor(name, shape, kind, offset, nbytes))
        offset += align(nbytes)
    return Plan(type_name, tuple(planned), offset)


def _order(name: str) -> tuple[int, bytes]:
    layer = _layer(name)
    return (-1 if layer is None else layer, name.encode())


def _layer(name: str) -> int | None:
    match = _LAYER.match(name)
    return int(match[1]) if match else None


def _choose_type(
    recipe: Recipe, name: str, shape: tuple[int, ...], facts: Facts, overrides: Sequence[Override], ruled: Counter[str]
) -> TensorType:
    """The type of one tensor; `ruled` counts the tensors of each part that the recipe's rules decided before."""
    if len(shape) < 2 or name.endswith(("_norm.weight", "ffn_gate_inp.weight")):
        return BLOCK_TYPES["F32"]
    base = BLOCK_TYPES[recipe.base]
    if not recipe.is_quantized:
        return base
    forced = next((override.type for override in overrides if override.pattern.search(name)), None)
    return _fitting(forced or BLOCK_TYPES[_recipe_type(recipe, name, shape[-1], facts, ruled)], shape[-1])


def _recipe_type(recipe: Recipe, name: str, columns: int, facts: Facts, ruled: Counter[str]) -> str:
    if name == "output.weight" or (name == "token_embd.weight" and facts.is_tied):
        return recipe.output if BLOCK_TYPES[recipe.base].fits(columns) else "Q8_0"
    layer = _layer(name)
    if layer is None:
        return recipe.base
    part = name.split(".")[2].removesuffix("_exps").removesuffix("_shexp")
    part = "attn_v" if part == "attn_kv_b" else part  # for llama.cpp as sensitive
    if part == "attn_v" or not facts.experts:  # llama.cpp counts tensors, without the overridden ones
        layer = ruled[part]
    ruled[part] += 1
    if facts.experts == 8 and part in ("attn_v", "attn_k"):
        return "Q8_0"
    if facts.experts == 8 and part == "attn_output":
        return recipe.attn_output_of_8_experts or recipe.base
    if part == "attn_v":
        kind = recipe.attn_v(layer, facts) or recipe.base
        return "Q5_K" if facts.is_70b and kind == "Q4_K" else kind
    if part == "ffn_down":
        return recipe.ffn_down(layer, facts) or recipe.base
    return recipe.base


def _fitting(kind: TensorType, columns: int) -> TensorType:
    """The type itself, or llama.cpp's fallback where a row does not divide into its blocks."""
    if kind.fits(columns):
        return kind
    smaller = BLOCK_TYPES[FALLBACK.get(kind.name, kind.name)]
    return smaller if smaller.fits(columns) else BLOCK_TYPES["F16"]
