"""The official models, from the catalogue of the program."""

from __future__ import annotations

from chat.hub.names import CATALOGUE, Official
from chat.system.terminal_text import size_text
from docs.generate.markdown import table

_HEAD = """\
---
hide:
  - toc
---

# Official models

`mistral-chat models pull NAME` downloads one and converts it to Q4_K_M; a short name will do. `mistral-chat models list
--official` prints this list with what fits the memory of your machine. *Memory* is that of a conversation of 8,192
tokens, or of the window where there is one. Sizes are computed from the published shapes.
"""
_LICENCES = """
"Not for business" is how the list sums up the Mistral Research License and the Mistral Non-Production License. The
modified MIT licence is free up to a revenue that its text names. The text that counts is in the model's repository.
Any other GGUF on the hub is `-m hf:OWNER/REPO:QUANT`.
"""


def page() -> str:
    """The catalogue as a table."""
    rows = [
        (
            "<br>".join((_link(model), *(f"`{alias}`" for alias in model.aliases))),
            model.good_for,
            model.licence,
            *(size_text(size) for size in (model.download_bytes, model.q4_bytes, model.memory_bytes)),
            f"{model.window:,}" if model.window else "",
        )
        for model in CATALOGUE
    ]
    head = ("name, short names", "good for", "licence", "download", "Q4_K_M", "memory", "window")
    return f"{_HEAD}\n{table(head, rows)}{_LICENCES}"


def _link(model: Official) -> str:
    return f"[{model.name}](https://huggingface.co/{model.repository})"
