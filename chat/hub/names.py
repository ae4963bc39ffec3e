"""Names of models on the hub: `hf:owner/repo@revision:QUANT`, and the official models under the names that people use.

Sizes in the catalogue are computed from the published shapes: two bytes for each weight, one where the release is FP8,
with the vision encoder where there is one (the scales of FP8 are left out: some kilobytes), and what the converter's
plan makes of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from chat.errors import UsageError

PREFIX = "hf:"
DEFAULT_REVISION = "main"
_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?/[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
_REVISION = re.compile(r"[\w.][\w./-]*", re.ASCII)
_LONGEST_REPOSITORY = 96
_WEB = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/")
APACHE = "Apache 2.0"
RESEARCH = "Mistral Research License"
NON_PRODUCTION = "Mistral Non-Production License"
MODIFIED_MIT = "modified MIT"  # free up to a revenue that the licence names
_CACHED_TOKENS = 8192  # of conversation, counted into the memory needed
_WORKING_BYTES = 500_000_000  # buffers, vocabulary and the program itself


@dataclass(frozen=True)
class HubName:
    """What was asked for on the hub."""

    repository: str  # owner/name
    revision: str | None = None  # branch, tag or commit; None is the newest
    wanted: str | None = None  # a quantization such as Q4_K_M, or the name of a file

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{PREFIX}{self.repository}{revision}" + (f":{self.wanted}" if self.wanted else "")


def is_repository(text: str) -> bool:
    """Whether the text could name a repository: `owner/name`, in the hub's own characters."""
    return (
        _REPOSITORY.fullmatch(text) is not None
        and len(text) <= _LONGEST_REPOSITORY
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
    )


def read_hub_name(text: str) -> HubName:
    """Read `hf:owner/repo`, with `@revision` and `:QUANT` or `:FILE` after it; `hf:` and a web address are optional.

    Raises:
        UsageError: no repository is named, or in characters that none has.
    """
    rest = _WEB.sub("", text.removeprefix(PREFIX), count=1).rstrip("/")
    rest, _, wanted = rest.partition(":")
    repository, _, revision = rest.partition("@")
    if not is_repository(repository):
        raise UsageError(f"`{text}` names no repository", hint="write `hf:owner/name`, or `hf:owner/name:Q4_K_M`")
    if revision and (_REVISION.fullmatch(revision) is None or ".." in revision):
        raise UsageError(f"`{text}` names no revision after `@`", hint="a branch, a tag or a commit, such as `@main`")
    return HubName(repository, revision or None, wanted or None)


@dataclass(frozen=True)
class Official:
    """One official model."""

    repository: str  # on the hub
    good_for: str
    download_bytes: int  # the weights as released: bfloat16, or FP8 and bfloat16
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
_MINISTRAL_3B = (2_034_806_784, 106_496)
_MINISTRAL_8B = (5_190_500_352, 139_264)
_MINISTRAL_14B = (8_231_178_240, 163_840)
_NEMO = (24_495_564_800, 7_469_322_240, 163_840)
_SMALL = (47_144_806_400, 14_326_026_240, 163_840)
_SMALL_SEEING = (48_022_722_560, 14_326_026_240, 163_840)
_123B = (74_889_216_000, 360_448)
_8X7B = (93_405_585_408, 28_447_727_616, 131_072)

CATALOGUE = (
    Official(
        "mistralai/Mistral-7B-Instruct-v0.3", "the default: chat, tools, every laptop", *_7B, aliases=("mistral", "7b")
    ),
    Official(
        "mistralai/Ministral-3-3B-Instruct-2512", "chat and tools in little memory",
        4_671_989_760, *_MINISTRAL_3B, aliases=("ministral-3b",),
    ),
    Official(
        "mistralai/Ministral-3-8B-Instruct-2512", "chat, tools, many languages, long texts (256k)",
        10_420_523_008, *_MINISTRAL_8B, aliases=("ministral", "ministral-8b"),
    ),
    Official(
        "mistralai/Ministral-3-14B-Instruct-2512", "nearly a 24B, in half the memory",
        15_726_581_760, *_MINISTRAL_14B, aliases=("ministral-14b",),
    ),
    Official("mistralai/Ministral-3-3B-Reasoning-2512", "thinks before it answers", 7_698_180_096, *_MINISTRAL_3B),
    Official("mistralai/Ministral-3-8B-Reasoning-2512", "thinks before it answers", 17_836_052_480, *_MINISTRAL_8B),
    Official("mistralai/Ministral-3-14B-Reasoning-2512", "thinks before it answers", 27_890_063_360, *_MINISTRAL_14B),
    Official(
        "mistralai/Mistral-Small-3.2-24B-Instruct-2506", "the best for one desktop: chat, tools, long texts",
        *_SMALL_SEEING, aliases=("small",),
    ),
    Official(
        "mistralai/Magistral-Small-2509", "thinks before it answers: mathematics, hard questions",
        *_SMALL_SEEING, aliases=("magistral",),
    ),
    Official(
        "mistralai/Devstral-Small-2-24B-Instruct-2512", "code and coding agents",
        25_792_911_360, *_SMALL[1:], aliases=("devstral",),
    ),
    Official("mistralai/Devstral-Small-2507", "code and coding agents, the first generation", *_SMALL),
    Official(
        "mistralai/Codestral-22B-v0.1", "code in 80 languages; not for business",
        44_494_565_376, 13_340_467_200, 229_376, NON_PRODUCTION, aliases=("codestral",),
    ),
    Official("mistralai/Mistral-Nemo-Instruct-2407", "many languages, long texts (128k)", *_NEMO, aliases=("nemo",)),
    Official(
        "mistralai/Mixtral-8x7B-Instruct-v0.1", "as good as a 45B, as fast as a 13B", *_8X7B, aliases=("mixtral",)
    ),
    Official(
        "mistralai/Mistral-Small-4-119B-2603", "chat, code and reasoning; as fast as a 6B, in much memory",
        120_922_732_544, 72_150_814_720, 23_040, aliases=("small-4",),
    ),
    Official(
        "mistralai/Devstral-2-123B-Instruct-2512", "code and coding agents, on a workstation",
        128_249_389_056, *_123B, MODIFIED_MIT, aliases=("devstral-2",),
    ),
    Official(
        "mistralai/Mistral-Medium-3.5-128B", "chat, code and reasoning, on a workstation",
        129_391_546_368, *_123B, MODIFIED_MIT, aliases=("medium",),
    ),
    Official(
        "mistralai/Mixtral-8x22B-Instruct-v0.1", "a workstation's: code, mathematics, tools",
        281_260_142_592, 85_598_035_968, 229_376,
    ),
    Official("mistralai/Mistral-7B-Instruct-v0.2", "chat over long texts (32k)", *_7B_OLD),
    Official("mistralai/Mistral-7B-Instruct-v0.1", "chat without an end: sliding window", *_7B_OLD, window=4096),
    Official("mistralai/Mistral-7B-v0.3", "completion, fine-tuning", *_7B),
    Official("mistralai/Mistral-7B-v0.1", "completion without an end: sliding window", *_7B_OLD, window=4096),
    Official(
        "mistralai/Ministral-8B-Instruct-2410", "chat in many languages, tools; not for business",
        16_039_616_512, 4_903_616_512, 147_456, RESEARCH,
    ),
    Official("mistralai/Mistral-Small-24B-Instruct-2501", "chat, tools; text only", *_SMALL),
    Official("mistralai/Mistral-Small-24B-Base-2501", "completion, fine-tuning", *_SMALL),
    Official("mistralai/Mistral-Nemo-Base-2407", "completion in many languages", *_NEMO),
    Official("mistralai/Mixtral-8x7B-v0.1", "completion", *_8X7B),
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


def near_names(name: str) -> tuple[str, ...]:
    """Up to three names of official models that are like `name`: those that contain its words, else similar ones."""
    wanted = name.lower()
    words = wanted.replace("_", "-").replace(":", "-").replace(" ", "-").strip("-").split("-")
    holding = [known for known in official_names() if all(word in known for word in words)]
    return tuple((holding or get_close_matches(wanted, official_names(), n=3, cutoff=0.5))[:3])
