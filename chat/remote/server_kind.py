"""What a server is: the one place that tells programs apart, for what the API leaves to each of them.

A known host decides. Else the list of models does: by its headers, then by who owns the models. What says nothing is
`unknown`, and gets the fields that most servers take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.remote.server_address import ServerAddress

ServerKind = Literal[
    "vllm", "sglang", "llama-server", "llama-cpp-python", "ollama", "litellm", "mistral", "openai", "unknown"
]
NAMES: dict[ServerKind, str] = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "llama-cpp-python": "llama-cpp-python",
    "llama-server": "llama-server",
    "ollama": "Ollama",
    "litellm": "LiteLLM",
    "mistral": "Mistral's API",
    "openai": "OpenAI's API",
    "unknown": "a server of an unknown kind",
}
_HOSTS: dict[str, ServerKind] = {
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    "api.openai.com": "openai",
    "openai.azure.com": "openai",
    "services.ai.azure.com": "openai",
}
_OWNERS: dict[str, ServerKind] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llama-server",
    "me": "llama-cpp-python",
    "library": "ollama",
    "mistralai": "mistral",
}


def kind_of_host(server: ServerAddress) -> ServerKind:
    """What the server is by its host alone, without asking it."""
    return next((kind for host, kind in _HOSTS.items() if f".{server.host}".endswith(f".{host}")), "unknown")


def kind_of_models(models: Any, header: Callable[[str], str]) -> ServerKind:
    """What the server is by its list of models.

    Args:
        models: the JSON of `GET /models`.
        header: gives a header of that response, empty without one.
    """
    if header("Server").lower().startswith("llama.cpp"):
        return "llama-server"
    if header("X-LiteLLM-Version"):
        return "litellm"
    listed = models.get("data") if isinstance(models, dict) else None
    for each in listed if isinstance(listed, list) else ():
        owner = each.get("owned_by") if isinstance(each, dict) else None
        if isinstance(owner, str) and owner in _OWNERS:
            return _OWNERS[owner]
    return "unknown"
