"""Recognise which of Mistral's prompt formats a checkpoint uses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# A file's suffix is the surest sign: `tokenizer.model.v3`. The multimodal variants differ in image tokens only.
FORMAT_OF_SUFFIX: Mapping[str, str] = {"v1": "v1", "v2": "v2", "v3": "v3", "v7": "v7", "v7m1": "v7"}


def format_of_pieces(pieces: Collection[bytes]) -> str:
    """The format of a SentencePiece vocabulary, by the control pieces that each version brought.

    v2 brought the instruction and tool tokens and left ids 10 to 770 reserved as `[control_N]`; v3 gave names to
    some of them, the first was `[control_8]`; v7 brought the system prompt's own tokens.
    """
    if b"[SYSTEM_PROMPT]" in pieces:
        return "v7"
    if b"[INST]" not in pieces:
        return "v1"
    return "v2" if b"[control_8]" in pieces else "v3"


def is_foreign(chat_template: str | None) -> bool:
    """Whether a chat template is of another family than Mistral's, all of which say `[INST]`.

    Llama 2's say it too, with `<<SYS>>` around the system prompt.
    """
    return chat_template is not None and ("[INST]" not in chat_template or "<<SYS>>" in chat_template)


RAW = "raw"  # no format: the text is continued as it is
# Official models that only continue text, by the names of their repositories and torrents
_BASE = re.compile(
    r"mi[sx]tral-(7b|8x7b|8x22b)-v0\.[1-3]|mixtral-8x7b-32kseqlen|(.*[-_.])?base([-_.].*)?", re.IGNORECASE
)
_TAUGHT = re.compile(r"instruct|chat", re.IGNORECASE)


def is_base_model(name: str) -> bool:
    """Whether a repository's or folder's name clearly says that the model was not taught to answer."""
    own = name.rpartition("/")[2]
    return _BASE.fullmatch(own) is not None and _TAUGHT.search(own) is None
