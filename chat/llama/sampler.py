"""Draw the next id from logits with llama.cpp's sampler chain."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError
from chat.llama.library import llama

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.request import Sampling
    from chat.llama.context import LlamaContext

LARGEST_SEED = 0xFFFF_FFFE  # the next number means "random" to llama.cpp
PENALTY_TOKENS = 64  # the last ids that a repeat penalty counts, as in llama.cpp


def settle(sampling: Sampling) -> Sampling:
    """The sampling with a random seed where none was given.

    Raises:
        UsageError: a value is out of its range.
    """
    rules = (
        ("temperature", sampling.temperature, 0.0 <= sampling.temperature < float("inf"), "0 or more"),
        ("top-p", sampling.top_p, 0.0 < sampling.top_p <= 1.0, "above 0 and at most 1"),
        ("min-p", sampling.min_p, 0.0 <= sampling.min_p <= 1.0, "between 0 and 1"),
        ("top-k", sampling.top_k, 0 <= sampling.top_k < 1 << 31, "0 (all) or more"),
        ("repeat-penalty", sampling.repeat_penalty, 0.0 < sampling.repeat_penalty < float("inf"), "above 0"),
        ("seed", sampling.seed, 0 <= (sampling.seed or 0) <= LARGEST_SEED, f"between 0 and {LARGEST_SEED}"),
    )
    for name, value, fits, limits in rules:
        if not fits:
            raise UsageError(f"`--{name} {value}` is out of range: it must be {limits}")
    if sampling.seed is None:
        return replace(sampling, seed=secrets.randbelow(LARGEST_SEED + 1))
    return sampling


class Sampler:
    """A sampler chain for one answer.

    It applies the repeat penalty, and at temperature 0 takes the likeliest id; else it applies top-k, top-p, min-p and
    the temperature, and draws.
    """

    def __init__(self, sampling: Sampling, vocabulary_size: int, history: Sequence[int] = ()) -> None:
        """Build the chain.

        Args:
            sampling: as `settle` returns it.
            vocabulary_size: the number of logits.
            history: ids before the answer, whose end a repeat penalty counts too.
        """
        api = self._api = llama()
        self._chain: Any = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        for link in _links(api, sampling, vocabulary_size):
            api.llama_sampler_chain_add(self._chain, link)
        if sampling.repeat_penalty != 1.0:
            for token in history[-PENALTY_TOKENS:]:
                api.llama_sampler_accept(self._chain, token)

    def sample(self, context: LlamaContext, row: int = -1) -> int:
        """Draw an id from a row of logits of the context's last batch; -1 is the last row with logits."""
        token: int = self._api.llama_sampler_sample(self._chain, context.pointer, row)
        return token

    def close(self) -> None:
        """Free the chain."""
        if self._chain:
            self._api.llama_sampler_free(self._chain)
            self._chain = None


def _links(api: Any, sampling: Sampling, vocabulary_size: int) -> list[Any]:
    links = []
    if sampling.repeat_penalty != 1.0:
        penalty = api.llama_sampler_init_penalties(vocabulary_size, PENALTY_TOKENS, sampling.repeat_penalty, 0.0, 0.0)
        links.append(penalty)
    if sampling.temperature == 0:
        return [*links, api.llama_sampler_init_greedy()]
    links += [
        api.llama_sampler_init_top_k(sampling.top_k),
        api.llama_sampler_init_top_p(sampling.top_p, 1),
        api.llama_sampler_init_min_p(sampling.min_p, 1),
        api.llama_sampler_init_temp(sampling.temperature),
        api.llama_sampler_init_dist(sampling.seed),
    ]
    return links
