"""Read PEFT's adapter_config.json: the scale of each module. Kinds of adapters that cannot be merged are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any

from chat.errors import DataError, ModelError
from convert.tensors.names import MERGE_FIRST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RANK_LIMIT = 65_536
PATTERN_LIMIT = 1000  # patterns in one file
# values of `init_lora_weights` that leave the base as it is; PiSSA, OLoRA, LoftQ, CorDA and LoRA-GA change it too
INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal")
# settings that change the arithmetic, and the message about each
REFUSED = (
    ("use_dora", "is a DoRA: it also scales every row to a length, which a sum of weights cannot say"),
    ("use_qalora", "is a QALoRA, which groups its inputs"),
    ("use_bdlora", "is a block-diagonal LoRA"),
    ("alora_invocation_tokens", "is an activated LoRA, which acts on some tokens only"),
    ("invocation_string", "is an activated LoRA, which acts on some tokens only"),
    ("layer_replication", "repeats layers of its base"),
    ("target_parameters", "changes parameters of fused experts"),
    ("trainable_token_indices", "changes single tokens' embeddings"),
    ("megatron_config", "is one of Megatron"),
    ("lora_bias", "has biases, which Mistral models do not"),
    ("arrow_config", "routes between adapters"),
)
# a repeated group can make matching exponential in a hostile file; PEFT's examples need none
_DANGEROUS = re.compile(r"\)[*+?{]|\(\?")
_REPEATS = re.compile(r"[*+?{]")


@dataclass(frozen=True)
class LoraSettings:
    """The ranks and alphas of an adapter's modules."""

    path: Path
    rank: int
    alpha: float
    is_rank_stabilised: bool
    ranks: Mapping[str, int]  # pattern of a module's name -> rank
    alphas: Mapping[str, float]

    def rank_of(self, module: str) -> int:
        """The rank of a module."""
        return self.ranks.get(self._key(self.ranks, module), self.rank)

    def scale_of(self, module: str) -> float:
        """The factor of the product of a module's two matrices."""
        alpha = self.alphas.get(self._key(self.alphas, module), self.alpha)
        rank = self.rank_of(module)
        return alpha / sqrt(rank) if self.is_rank_stabilised else alpha / rank

    def _key(self, patterns: Mapping[str, Any], module: str) -> str:
        """The first pattern that matches the module's name or its end, as PEFT looks it up; else the module."""
        return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), module)


def read_lora_settings(path: Path, values: Mapping[str, Any]) -> LoraSettings:
    """Read a PEFT configuration.

    Raises:
        ModelError: the adapter is not a plain LoRA.
        DataError: a value is not valid.
    """
    kind = values.get("peft_type")
    if kind is None and "fine_tune_type" in values:
        raise ModelError(f"{path}: is an adapter of MLX", hint="fuse it with `mlx_lm.fuse` and convert the model")
    if kind != "LORA":
        raise ModelError(f"{path}: is a {str(kind)[:40]} adapter, but only LoRA can be merged", hint=MERGE_FIRST)
    for key, reason in REFUSED:
        if values.get(key):
            raise ModelError(f"{path}: {reason}", hint=MERGE_FIRST)
    start = values.get("init_lora_weights")
    if not isinstance(start, bool | str | None) or start not in INITIALISATIONS:
        raise ModelError(
            f"{path}: was started with {str(start)[:40]}, which changes the base model too", hint=MERGE_FIRST
        )
    if values.get("bias", "none") != "none":
        raise ModelError(f"{path}: trains biases, which Mistral models do not have", hint=MERGE_FIRST)
    return LoraSettings(
        path=path,
        rank=_rank(path, "r", values.get("r")),
        alpha=_alpha(path, "lora_alpha", values.get("lora_alpha")),
        is_rank_stabilised=bool(values.get("use_rslora")),
        ranks={key: _rank(path, "rank_pattern", rank) for key, rank in _patterns(path, values, "rank_pattern")},
        alphas={key: _alpha(path, "alpha_pattern", alpha) for key, alpha in _patterns(path, values, "alpha_pattern")},
    )


def _patterns(path: Path, values: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    found = values.get(name) or {}
    if not isinstance(found, dict) or len(found) > PATTERN_LIMIT:
        raise DataError(f"{path}: `{name}` must be an object of at most {PATTERN_LIMIT} patterns")
    for key in found:
        if len(key) > 200 or _DANGEROUS.search(key) or len(_REPEATS.findall(key)) > 3:
            raise DataError(f"{path}: the pattern {key[:80]!r} in `{name}` is too complicated")
        try:
            re.compile(key)
        except re.error as error:
            raise DataError(f"{path}: {key[:80]!r} in `{name}` is not a pattern ({error})") from error
    return list(found.items())


def _rank(path: Path, name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= RANK_LIMIT:
        raise DataError(f"{path}: `{name}` is {str(value)[:40]}, but must be a whole number from 1 to {RANK_LIMIT}")
    return value


def _alpha(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or abs(value) > 1e9:
        raise DataError(f"{path}: `{name}` is {str(value)[:40]}, but must be a number")
    return float(value)
