"""The GGUF keys that the program knows, with the comments that stand after them in `chat/gguf/keys.py`."""

from __future__ import annotations

import ast
import inspect

from chat.gguf import keys
from docs.generate.markdown import table, text

_HEAD = """\
# GGUF keys

The metadata that this program reads or writes. `mistral-chat models show FILE --metadata` prints those of a file. The
names are of ggml's specification and of llama.cpp, but for those that begin with `mistral_chat.`: other programs ignore
them.
"""
_CLASSES = {  # title, and what stands below it
    "MistralChatKey": ("Our own", ""),
    "GeneralKey": ("General", ""),
    "ModelKey": ("Sizes", "Each begins with the architecture, as in `llama.context_length`."),
    "TokenizerKey": ("Vocabulary", ""),
    "PictureKey": ("Picture encoders", "Of the encoder's own file, `mmproj-NAME.gguf`."),
    "AdapterKey": ("Adapters", "Of a LoRA adapter's file."),
    "ImatrixKey": ("Importance matrices", "Of the matrix's own file; those of `quantize.` are notes in a model."),
    "SplitKey": ("Files in parts", "Of each part of a model in several files."),
}


def described_keys(source: str, name: str) -> list[tuple[str, str]]:
    """The keys in a class, each with the comment on its line.

    Args:
        source: that of the module.
        name: of the class.

    Raises:
        ValueError: a key has no comment.
    """
    lines = source.splitlines()
    [found] = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name]
    rows = []
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
            key, comment = str(node.value.value), lines[node.value.lineno - 1].partition("  # ")[2]
            if not comment:
                raise ValueError(f"{name}: {key} has no comment that describes it")
            rows.append((key, comment))
    return rows


def page() -> str:
    """The page of keys, a table for each class of them."""
    source = inspect.getsource(keys)
    if missing := {name for name in vars(keys) if name.endswith("Key")} - _CLASSES.keys():
        raise ValueError(f"keys without a section: {missing}")
    parts = [_HEAD]
    for name, (title, below) in _CLASSES.items():
        rows = [(f"`{key}`", text(words)) for key, words in described_keys(source, name)]
        parts.append(f"## {title}\n\n{below}\n\n{table(('key', 'meaning'), rows)}")
    return "\n".join(parts)
