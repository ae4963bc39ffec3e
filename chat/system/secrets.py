"""The environment variables that hold keys, and the environment without them that a child process gets."""

from __future__ import annotations

import os

HOST_KEYS = {"api.mistral.ai": "MISTRAL_API_KEY", "api.openai.com": "OPENAI_API_KEY"}  # by the host they belong to
_SECRETS = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MISTRAL_CHAT_REMOTE_KEY", *HOST_KEYS.values()}


def withhold(*names: str | None) -> None:
    """Keep more variables from child processes that start from now on."""
    _SECRETS.update(name for name in names if name)


def child_environment() -> dict[str, str]:
    """The process's own environment without keys."""
    return {name: value for name, value in os.environ.items() if name not in _SECRETS}
