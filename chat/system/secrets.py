"""The environment variables that hold keys, and the environment without them that a child process gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HOST_KEYS = {"api.mistral.ai": "MISTRAL_API_KEY", "api.openai.com": "OPENAI_API_KEY"}  # by the host they belong to
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SECRETS = {*HUB_TOKENS, "MISTRAL_CHAT_REMOTE_KEY", *HOST_KEYS.values()}


def withhold(*names: str | None) -> None:
    """Keep more variables from child processes that start from now on."""
    _SECRETS.update(name for name in names if name)


def child_environment(variables: Mapping[str, str] = os.environ, *, keeps: Iterable[str] = ()) -> dict[str, str]:
    """The environment variables without keys.

    Args:
        variables: the process's own by default.
        keeps: keys that the child needs.
    """
    secrets = _SECRETS.difference(keeps)
    return {name: value for name, value in variables.items() if name not in secrets}
