"""Read latent attention and the mixture of experts beside it: Mistral Small 4 and Large 3, in both layouts."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import DataError, ModelError
from convert.architecture.config_reader import SIZE_LIMIT, told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.architecture.config_reader import ConfigReader

EXPERT_LIMIT = 1024  # LLAMA_MAX_EXPERTS


@dataclass(frozen=True)
class LatentAttention:
    """Sizes of attention whose keys and values are kept as one latent vector for each token.

    Attributes:
        query_rank: Numbers of a query's own latent vector; None where queries are computed directly.
        rank: Numbers of the latent vector of keys and values.
        turned: Columns of a head that turn with the position.
        plain: Columns of a query's or key's head that do not.
        value: Columns of a value's head.
    """

    query_rank: int | None
    rank: int
    turned: int
    plain: int
    value: int


@dataclass(frozen=True)
class Mixture:
    """The experts of a model with latent attention; `experts` is 0 where every layer is dense.

    Attributes:
        used: Experts that a token uses.
        hidden: Columns within one expert.
        shared: Experts that every token uses, as one matrix.
        dense_layers: Layers at the start that have no experts.
        groups: Groups of experts, of which `groups_used` are chosen before the experts.
        weights_scale: Factor of the experts' weights.
        are_weights_normed: Whether the weights of a token's experts are divided by their sum.
    """

    experts: int
    used: int
    hidden: int
    shared: int
    dense_layers: int
    groups: int = 1
    groups_used: int = 1
    weights_scale: float = 1.0
    are_weights_normed: bool = True


# What config.json calls the parts of a mixture, and what params.json does within `moe`.
CONFIG_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "experts": "n_routed_experts",
        "used": "num_experts_per_tok",
        "hidden": "moe_intermediate_size",
        "shared": "n_shared_experts",
        "dense": "first_k_dense_replace",
        "groups": "n_group",
        "groups_used": "topk_group",
        "scale": "routed_scaling_factor",
        "norm": "norm_topk_prob",
        "every": "moe_layer_freq",
    }
)
PARAMS_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "experts": "num_experts",
        "used": "num_experts_per_tok",
        "hidden": "expert_hidden_dim",
        "shared": "num_shared_experts",
        "dense": "first_k_dense_replace",
        "groups": "num_expert_groups",
        "groups_used": "num_expert_groups_per_tok",
        "scale": "routed_scale",
        "norm": "norm_topk_prob",
        "every": "route_every_n",
    }
)


def read_latent(read: ConfigReader) -> LatentAttention | None:
    """Read the sizes of latent attention; None for ordinary attention. Both layouts have the same names.

    Raises:
        DataError: a size is missing or impossible.
        ModelError: llama.cpp does not compute it.
    """
    if read.get("kv_lora_rank") is None:
        return None
    if read.get("rope_interleave") is False:
        raise ModelError(f"{read.path}: latent attention with `rope_interleave` off cannot be converted")
    turned = _size(read, "qk_rope_head_dim")
    if turned % 2:
        raise DataError(f"{read.path}: `qk_rope_head_dim` is {turned}, but columns turn in pairs")
    return LatentAttention(
        query_rank=read.count("q_lora_rank"),
        rank=_size(read, "kv_lora_rank"),
        turned=turned,
        plain=_size(read, "qk_nope_head_dim"),
        value=_size(read, "v_head_dim"),
    )


def read_mixture(read: ConfigReader, names: Mapping[str, str], layers: int, hidden: int) -> Mixture:
    """Read the experts of a model with latent attention.

    Args:
        read: Of config.json, or of `moe` in params.json.
        names: What they are called there.
        layers: Of the model.
        hidden: Columns within a dense layer, which is also that of experts where there are none.

    Raises:
        DataError: a value is missing or impossible.
        ModelError: llama.cpp does not compute it.
    """
    experts = read.count(names["experts"], limit=EXPERT_LIMIT) or 0
    if not experts:
        return Mixture(0, 0, hidden, 0, layers)
    if _whole(read, names["every"], 1) != 1:
        raise ModelError(f"{read.path}: experts only in some layers cannot be converted")
    dense = _whole(read, names["dense"], 0)
    if dense > layers:
        raise DataError(f"{read.path}: `{names['dense']}` is {dense}, but there are {layers} layers")
    used = _size(read, names["used"])
    if used > experts:
        raise DataError(f"{read.path}: `{names['used']}` is {used} of {experts} experts")
    shared = _whole(read, names["shared"], 0)
    if not shared:
        raise ModelError(f"{read.path}: latent attention without a shared expert cannot be converted")
    groups, groups_used = _groups(read, names, experts)
    scale = read.number(names["scale"])
    return Mixture(
        experts=experts,
        used=used,
        hidden=_size(read, names["hidden"]),
        shared=shared,
        dense_layers=dense,
        groups=groups,
        groups_used=groups_used,
        weights_scale=1.0 if scale is None else scale,
        are_weights_normed=_flag(read, names["norm"], True),
    )


def _groups(read: ConfigReader, names: Mapping[str, str], experts: int) -> tuple[int, int]:
    """How many groups of experts there are, and how many are used; one of one where all are used."""
    groups, used = read.count(names["groups"]) or 1, read.count(names["groups_used"]) or 1
    if experts % groups or used > groups:
        raise DataError(f"{read.path}: {experts} experts cannot form {groups} groups of which {used} are used")
    if groups == used:
        return 1, 1
    if experts == groups:
        raise ModelError(f"{read.path}: groups of one expert each cannot be converted")
    return groups, used


def _size(read: ConfigReader, name: str) -> int:
    value = read.count(name)
    if value is None:
        raise DataError(f"{read.path}: `{name}` is missing")
    return value


def _whole(read: ConfigReader, name: str, usual: int) -> int:
    value: Any = read.get(name)
    if value is None:
        return usual
    if type(value) is not int or not 0 <= value <= SIZE_LIMIT:
        raise DataError(f"{read.path}: `{name}` is {told(value)}, but must be a whole number from 0")
    return value


def _flag(read: ConfigReader, name: str, usual: bool) -> bool:
    value: Any = read.get(name)
    if value is None:
        return usual
    if not isinstance(value, bool):
        raise DataError(f"{read.path}: `{name}` is {told(value)}, but must be true or false")
    return value
