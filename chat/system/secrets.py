"""The environment variables that hold keys, and the environment without them that a child process gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST_KEYS = {"api.mistral.ai": "MISTRAL_API_KEY", "api.openai.com": "OPENAI_API_KEY"}  # by the host they belong to
_SECRETS = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MISTRAL_CHAT_REMOTE_KEY", *HOST_KEYS.values()}


def withhold(*names: str | None) -> None:
    """Keep more variables from child processes that start from now on."""
    _SECRETS.update(name for name in names if name)


def child_environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables without keys.

    Args:
        variables: the process's own by default.
    """
    return {name: value for name, value in variables.items() if name not in _SECRETS}
