"""Parse names of hub repositories: `hf:owner/repo@revision:QUANT`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chat.errors import UsageError

PREFIX = "hf:"
DEFAULT_REVISION = "main"
_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?/[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
_REVISION = re.compile(r"[\w.][\w./-]*", re.ASCII)
_LONGEST_REPOSITORY = 96
_WEB = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/")


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
