"""Choose the types of `--fit`: those that lose least in a file of a given size, or in a machine's memory.

What a type loses of a tensor is measured on the tensor. How much that matters to the model's answers differs from part
to part: the factors were measured on SmolLM2 135M, one part at a time, as the Kullback-Leibler divergence from the F16
file over the relative squared error of the part (`tests/bench/part_sensitivity.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chat.errors import ChatError, MemoryLimitError, UsageError
from chat.gguf.keys import TokenizerKey
from chat.gguf.reader import GgufFile, TensorInfo
from chat.gguf.types import DEFAULT_ALIGNMENT, align
from chat.gguf.writer import VERSION
from chat.llama.memory_estimate import cache_bytes, sizes_of, work_bytes
from chat.llama.memory_plan import BATCH, PROCESS_BYTES, SMALLEST_CONTEXT
from chat.llama.sliding_window import choose_window, padded, rolling_cells
from chat.system.progress import count_bar
from chat.system.terminal_text import size_text
from convert.draft import FitDetails, plan_model
from convert.output.tensor_writer import usable_cpus
from convert.quantize.allocation import Choice, allocate
from convert.quantize.fit_goal import memory_with
from convert.quantize.kernels import BLOCK_TYPES, load_library
from convert.quantize.recipes import RECIPES, Override, Recipe, find_recipe
from convert.quantize.sensitivity import Sampled, measure_errors, types_for
from convert.quantize.type_overrides import TypeOverrides, read_override

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from convert.draft import ConversionDraft, ConversionOptions
    from convert.from_checkpoint import CheckpointModel
    from convert.from_gguf import GgufModel
    from convert.quantize.fit_goal import Goal
    from convert.quantize.imatrix import Importance
    from convert.quantize.kernels import TensorType
    from convert.quantize.recipes import Plan, PlannedTensor

    Model = CheckpointModel | GgufModel

LARGEST = "Q8_0"  # the recipe in which every matrix has the largest of the types that are tried
COMPARED = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
# KL divergence in nats by the relative squared error of all tensors of a part; the output layer was stored apart
SENSITIVITY = {
    "token_embd": 0.5,
    "output": 6.3,
    "attn_q": 2.0,
    "attn_k": 1.6,
    "attn_v": 11.4,
    "attn_output": 1.7,
    "ffn_gate": 2.6,
    "ffn_up": 5.6,
    "ffn_down": 10.7,
}
OTHER_PART = 5.0
QUANTIZED_INPUTS = 0.004  # what llama.cpp's rounding of the inputs of quantized matrices adds, measured on Q8_0
# `enum llama_ftype` of the type of most tensors, as llama.cpp's loader guesses it of a file without one
FILE_TYPES = {"IQ4_XS": 30, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18, "Q8_0": 7, "IQ4_NL": 25}
FILE_TYPES |= {"Q4_1": 3, "Q5_0": 8, "Q5_1": 9, "Q4_0": 2, "F16": 1, "BF16": 32, "F32": 0}


@dataclass(frozen=True)
class Losses:
    """What each type loses of each tensor, as KL divergence.

    Attributes:
        plan: the tensors.
        of_tensor: by name, then type; only tensors that have a choice.
    """

    plan: Plan
    of_tensor: Mapping[str, Mapping[str, float]]

    def of_plan(self, plan: Plan) -> float:
        """What a whole file loses, nothing where all is as in the source."""
        lost = sum(self.of_tensor[each.name][each.type.name] for each in plan.tensors if each.name in self.of_tensor)
        return lost + QUANTIZED_INPUTS if lost else 0.0


def draft_fit(model: Model, options: ConversionOptions, importance: Importance | None) -> ConversionDraft:
    """Draft the file of `--fit`. A sample of the weights is read.

    Args:
        model: to convert.
        options: with the goal.
        importance: how much each column matters, if it is known.

    Raises:
        UsageError: no file is that small.
        MemoryLimitError: no file leaves room in that memory.
        ChatError: the weights cannot be read, or the importance matrix was made with another model.
    """
    assert options.fit is not None
    load_library()
    user = TypeOverrides(find_recipe(LARGEST), tuple(map(read_override, options.tensor_types)), importance)
    largest = model.draft(user, options.file)
    room = _room(options.fit, largest)
    losses = _measure(model, user, largest.plan, shown=options.show_progress)
    kinds = _choose(losses, options.fit, room, len(largest.header))
    exact = tuple(Override(re.compile(f"^{re.escape(name)}$"), kind) for name, kind in kinds.items())
    types = replace(user, recipe=_recipe(options.fit, Counter(kind.name for kind in kinds.values())))
    draft = model.draft(replace(types, overrides=(*user.overrides, *exact)), options.file)
    details = FitDetails(
        goal=options.fit.text,
        budget_bytes=room.budget_bytes,
        context=room.context,
        expected_kl=losses.of_plan(draft.plan),
        by_importance=importance is not None,
        recipes=_recipes(model, user, losses, len(largest.header)),
    )
    return replace(draft, fit=details, notes=(*room.notes, *_notes(details, kinds.values())))


def _choose(losses: Losses, goal: Goal, room: _Room, header_bytes: int) -> dict[str, TensorType]:
    """The type of each tensor that has a choice.

    Raises:
        ChatError: even the smallest types are too large.
    """
    tensors = [each for each in losses.plan.tensors if each.name in losses.of_tensor]
    fixed = sum(align(each.nbytes) for each in losses.plan.tensors if each.name not in losses.of_tensor)
    choices = [_choices(each, losses.of_tensor[each.name]) for each in tensors]
    chosen = allocate(choices, room.budget_bytes - header_bytes - fixed)
    if chosen is None:
        least = sum(min(choice.nbytes for choice in each) for each in choices)
        raise _too_small(goal, room, least + fixed + header_bytes)
    return {
        each.name: BLOCK_TYPES[list(losses.of_tensor[each.name])[place]]
        for each, place in zip(tensors, chosen, strict=True)
    }


def _measure(model: Model, user: TypeOverrides, plan: Plan, *, shown: bool) -> Losses:
    """What each type loses of each matrix that has blocks."""
    matrices = [each for each in plan.tensors if each.type.name != "F32"]
    rows = {tensor.name: tensor.rows for tensor in model.tensors}
    sampled = [
        Sampled(
            each.name,
            rows[each.name],
            each.rows_per_matrix,
            (each.type,) if _is_forced(each.name, user) else types_for(rows[each.name]),
            user.importance_of(each),
        )
        for each in matrices
    ]
    with count_bar("measuring the types", len(sampled), enabled=shown) as bar:
        errors = measure_errors(sampled, usable_cpus(), bar)
    return Losses(
        plan,
        {
            each.name: {kind: error * _sensitivity(each.name, model) for kind, error in found.items()}
            for each, found in zip(matrices, errors, strict=True)
        },
    )


def _is_forced(name: str, user: TypeOverrides) -> bool:
    return any(override.pattern.search(name) for override in user.overrides)


def _sensitivity(name: str, model: Model) -> float:
    """KL divergence by the relative squared error of one tensor."""
    if not name.startswith("blk."):
        part = name.partition(".")[0]
        return SENSITIVITY.get("output" if part == "token_embd" and model.sizes.is_tied else part, OTHER_PART)
    own = name.split(".")[2]
    part = next((part for part in SENSITIVITY if own.startswith(part)), "")
    return SENSITIVITY.get("attn_v" if own.startswith("attn_kv") else part, OTHER_PART) / model.sizes.layers


def _choices(tensor: PlannedTensor, losses: Mapping[str, float]) -> list[Choice]:
    return [
        Choice(align(tensor.row_count * BLOCK_TYPES[kind].row_bytes(tensor.columns)), loss)
        for kind, loss in losses.items()
    ]


def _recipe(goal: Goal, counts: Counter[str]) -> Recipe:
    """A recipe in name: every tensor's type is given."""
    most = max(counts, key=lambda name: counts[name]) if counts else LARGEST
    return Recipe(f"fit-{goal.text}", FILE_TYPES[most], most, most)


def _recipes(model: Model, user: TypeOverrides, losses: Losses, header_bytes: int) -> dict[str, dict[str, float]]:
    """Size and loss of the recipes, for comparison."""
    plans = {name: plan_model(model.tensors, model.sizes, replace(user, recipe=RECIPES[name])) for name in COMPARED}
    return {
        name: {"size": header_bytes + plan.data_bytes, "expected_kl": losses.of_plan(plan)}
        for name, plan in plans.items()
    }


def _notes(details: FitDetails, kinds: Iterable[TensorType]) -> tuple[str, ...]:
    counts = Counter(kind.name for kind in kinds)
    types = ", ".join(f"{counts[name]} {name}" for name in BLOCK_TYPES if name in counts)
    others = ", ".join(
        f"{name} {each['expected_kl']:.2g} in {size_text(int(each['size']))}" for name, each in details.recipes.items()
    )
    measure = "the importance matrix" if details.by_importance else "the weights alone"
    return (
        f"tensors: {types}",
        f"expected loss, by {measure}: a KL divergence of {details.expected_kl:.2g} from the source ({others}); "
        "a model of 135 million weights gave the scale, larger ones lose less",
    )


@dataclass(frozen=True)
class _Room:
    """What a goal leaves for the file."""

    budget_bytes: int
    context: int | None = None
    notes: tuple[str, ...] = ()


def _room(goal: Goal, draft: ConversionDraft) -> _Room:
    """What a goal leaves for the file, beside the system, the cache and the buffers of a machine."""
    if not goal.is_memory:
        return _Room(goal.nbytes)
    metadata = {key.key: key.value for key in draft.keys}
    header = len(draft.header)
    tensors = {
        each.name: TensorInfo(each.name, each.shape[::-1], each.type.name, header + each.offset, each.nbytes)
        for each in draft.plan.tensors
    }
    file = GgufFile(draft.path, VERSION, draft.size, DEFAULT_ALIGNMENT, metadata, tensors, header)
    pieces = metadata.get(TokenizerKey.TOKENS, ())
    sizes = replace(sizes_of(file), vocabulary=len(pieces) if isinstance(pieces, tuple) else 0)
    window = choose_window(file, "auto")
    context = min(SMALLEST_CONTEXT, padded(sizes.trained_context))
    cells = rolling_cells(window.size, BATCH) if window.rolling and window.size is not None else context
    cache = cache_bytes(sizes, "f16", cells, window, BATCH)
    beside = cache + work_bytes(sizes, min(BATCH, cells), cells, scores=False) + PROCESS_BYTES
    beside += draft.projector.size if draft.projector else 0
    buffers = ", the buffers and the picture encoder" if draft.projector else " and the buffers"
    budget = goal.nbytes - goal.for_system - beside
    return _Room(
        budget,
        context,
        (
            f"of {goal.text}, {size_text(goal.for_system)} stay for other programs, and {size_text(beside)} are for a "
            f"context of {context:,} tokens{buffers}, {size_text(max(budget, 0))} for the file",
        ),
    )


def _too_small(goal: Goal, room: _Room, least: int) -> ChatError:
    if not goal.is_memory:
        return UsageError(
            f"`--fit {goal.text}` is too small: the smallest file takes {size_text(least)}",
            hint=f"`--fit {_rounded_up(least)}`, or a smaller model",
        )
    needed = memory_with(least + goal.nbytes - goal.for_system - room.budget_bytes)
    return MemoryLimitError(
        f"`--fit {goal.text}` is too small: the smallest file takes {size_text(least)}, and a machine for it has "
        f"{size_text(needed)} of memory at least",
        hint=f"`--fit {_rounded_up(needed)}-ram`, or a smaller model",
    )


def _rounded_up(nbytes: int) -> str:
    """A size that `--fit` takes, no smaller than `nbytes`."""
    unit, name = (10**8, "GB") if nbytes >= 10**9 else (10**6, "MB")
    steps = -(-nbytes // unit)
    return f"{steps / 10:g}GB" if name == "GB" else f"{steps}MB"
