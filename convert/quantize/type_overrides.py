"""Read the user's choice of types: the recipe, types of single tensors, an importance matrix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.errors import UsageError
from convert.quantize.imatrix import read_imatrix
from convert.quantize.kernels import BLOCK_TYPES
from convert.quantize.recipes import Override, find_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chat.gguf.writer import KeyValue
    from convert.checkpoint.rows import Floats
    from convert.quantize.imatrix import Importance
    from convert.quantize.recipes import Plan, PlannedTensor, Recipe

LONGEST_PATTERN = 500
RARELY_MEASURED = ("token_embd.weight", "output.weight")  # llama-imatrix leaves them out by default


@dataclass(frozen=True)
class TypeOverrides:
    """The types that the user chose for the tensors."""

    recipe: Recipe
    overrides: tuple[Override, ...] = ()
    importance: Importance | None = None
    is_to_be_measured: bool = False  # the matrix is made before the file is written

    @property
    def has_importance(self) -> bool:
        """Whether the file is written with an importance matrix."""
        return self.importance is not None or self.is_to_be_measured

    def importance_of(self, tensor: PlannedTensor) -> Floats | None:
        """The importance of a tensor's columns, (experts, columns) float32, or None where there is none.

        Raises:
            DataError: the importance matrix was made with another model.
        """
        return self.importance.of_tensor(tensor) if self.importance else None

    def keys(self) -> tuple[KeyValue, ...]:
        """The keys that note the importance matrix in the file."""
        return self.importance.keys() if self.importance else ()

    def warnings(self, plan: Plan) -> tuple[str, ...]:
        """Warnings about choices that have no effect.

        Raises:
            DataError: the importance matrix was made with another model.
        """
        warnings = [
            f"`--tensor-type {override.pattern.pattern}={override.type.name}` matches no tensor"
            for override in self.overrides
            if not any(override.pattern.search(tensor.name) for tensor in plan.tensors)
        ]
        packed = [tensor for tensor in plan.tensors if self.importance and tensor.type.is_quantized]
        lacking = [tensor.name for tensor in packed if self.importance_of(tensor) is None]
        lacking = [name for name in lacking if name not in RARELY_MEASURED]
        if lacking and self.importance:
            more = f" and {len(lacking) - 1} more tensors" if lacking[1:] else ""
            warnings.append(f"{self.importance.path}: says nothing of `{lacking[0]}`{more}")
        return tuple(warnings)


def read_type_overrides(
    type_names: Sequence[str],
    tensor_types: Sequence[str] = (),
    imatrix: Path | None = None,
    *,
    is_to_be_measured: bool = False,
) -> tuple[TypeOverrides, ...]:
    """Read `-t`, `--tensor-type` and `--imatrix`; `is_to_be_measured` stands for `--calibrate`.

    Of several files, those of plain floats have no importance matrix.

    Args:
        type_names: of each file.
        tensor_types: of all files.
        imatrix: of all files.
        is_to_be_measured: the importance matrix is made before the files are written.

    Raises:
        UsageError: a type is unknown, a pattern is not valid, or a recipe has no blocks.
        ChatError: the importance matrix cannot be read.
    """
    recipes = [find_recipe(name) for name in type_names]
    overrides = tuple(read_override(text) for text in tensor_types)
    quantized = [recipe for recipe in recipes if recipe.is_quantized]
    plain = next((recipe for recipe in recipes if not recipe.is_quantized), None)
    if plain is not None and (overrides or not quantized) and (overrides or imatrix or is_to_be_measured):
        option = "--tensor-type" if overrides else "--imatrix" if imatrix else "--calibrate"
        raise UsageError(f"`{option}` goes with a quantized type, not with {plain.name}", hint="add `-t Q4_K_M`")
    importance = read_imatrix(imatrix) if imatrix else None
    return tuple(
        TypeOverrides(recipe, overrides, importance, is_to_be_measured)
        if recipe in quantized
        else TypeOverrides(recipe)
        for recipe in recipes
    )


def read_override(text: str) -> Override:
    """Read REGEX=TYPE; the pattern may match anywhere in a tensor's name, and the first that matches counts.

    Raises:
        UsageError: it does not have that form, or the type or the pattern is not valid.
    """
    pattern, equals, name = text.rpartition("=")
    if not equals or not pattern:
        raise UsageError(f"`--tensor-type {text[:200]}` is not of the form REGEX=TYPE", hint="such as `attn_v=Q8_0`")
    kind = BLOCK_TYPES.get(name.upper())
    if kind is None:
        raise UsageError(f"`--tensor-type {text[:200]}`: unknown type `{name[:60]}`", hint=f"types are {_type_names()}")
    if len(pattern) > LONGEST_PATTERN:
        raise UsageError(f"`--tensor-type`: a pattern of {len(pattern)} characters is longer than {LONGEST_PATTERN}")
    try:
        return Override(re.compile(pattern, re.IGNORECASE | re.ASCII), kind)  # as llama-quantize, which lowers its case
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"`--tensor-type {text[:200]}`: the pattern is wrong: {error}") from error


def _type_names() -> str:
    return ", ".join(BLOCK_TYPES)
