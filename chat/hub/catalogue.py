"""The official models under the names that people use.

Sizes are exact: two bytes for each weight of the published shapes, and what the converter's plan makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass

APACHE = "Apache 2.0"
RESEARCH = "Mistral Research License"
_CACHED_TOKENS = 8192  # of conversation, counted into the memory needed
_WORKING_BYTES = 500_000_000  # buffers, vocabulary and the program itself


@dataclass(frozen=True)
class Official:
    """One official model."""

    repository: str  # on the hub
    good_for: str
    download_bytes: int  # the weights, bfloat16
    q4_bytes: int  # the tensors as Q4_K_M
    cache_bytes: int  # for each token of a conversation, float16
    licence: str = APACHE
    window: int | None = None  # tokens
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people call it: the repository's own name, in small letters."""
        return self.repository.rpartition("/")[2].lower()

    @property
    def memory_bytes(self) -> int:
        """Memory to run it as Q4_K_M with a conversation of 8192 tokens, or as long as its window."""
        return self.q4_bytes + self.cache_bytes * min(_CACHED_TOKENS, self.window or _CACHED_TOKENS) + _WORKING_BYTES


_7B_OLD = (14_483_464_192, 4_367_704_064, 131_072)
_7B = (14_496_047_104, 4_372_054_016, 131_072)
_NEMO = (24_495_564_800, 7_469_322_240, 163_840)
_SMALL = (47_144_806_400, 14_326_026_240, 163_840)
_8X7B = (93_405_585_408, 28_447_727_616, 131_072)

CATALOGUE = (
    Official(
        "mistralai/Mistral-7B-Instruct-v0.3", "the default: chat, tools, every laptop", *_7B, aliases=("mistral", "7b")
    ),
    Official("mistralai/Mistral-7B-Instruct-v0.2", "chat over long texts (32k)", *_7B_OLD),
    Official("mistralai/Mistral-7B-Instruct-v0.1", "chat without an end: sliding window", *_7B_OLD, window=4096),
    Official("mistralai/Mistral-7B-v0.3", "completion, fine-tuning", *_7B),
    Official("mistralai/Mistral-7B-v0.1", "completion without an end: sliding window", *_7B_OLD, window=4096),
    Official(
        "mistralai/Ministral-8B-Instruct-2410", "chat in many languages, tools; not for business",
        16_039_616_512, 4_903_616_512, 147_456, RESEARCH, aliases=("ministral",),
    ),
    Official("mistralai/Mistral-Nemo-Instruct-2407", "many languages, long texts (128k)", *_NEMO, aliases=("nemo",)),
    Official("mistralai/Mistral-Nemo-Base-2407", "completion in many languages", *_NEMO),
    Official(
        "mistralai/Mistral-Small-24B-Instruct-2501", "the best of one desktop: reasoning, tools",
        *_SMALL, aliases=("small",),
    ),
    Official("mistralai/Mistral-Small-24B-Base-2501", "completion, fine-tuning", *_SMALL),
    Official(
        "mistralai/Mixtral-8x7B-Instruct-v0.1", "as good as a 45B, as fast as a 13B", *_8X7B, aliases=("mixtral",)
    ),
    Official("mistralai/Mixtral-8x7B-v0.1", "completion", *_8X7B),
    Official(
        "mistralai/Mixtral-8x22B-Instruct-v0.1", "a workstation's: code, mathematics, tools",
        281_260_142_592, 85_598_035_968, 229_376,
    ),
    Official("mistralai/Mixtral-8x22B-v0.1", "completion", 281_241_268_224, 85_591_511_040, 229_376),
)  # fmt: skip
DEFAULT = CATALOGUE[0]


def find_official(name: str) -> Official | None:
    """The official model of this name, alias or repository, in any case."""
    wanted = name.lower()
    for each in CATALOGUE:
        if wanted in (each.name, each.repository.lower(), *each.aliases):
            return each
    return None


def official_names() -> tuple[str, ...]:
    """Every name that `find_official` knows, repositories left out."""
    return tuple(name for each in CATALOGUE for name in (each.name, *each.aliases))
