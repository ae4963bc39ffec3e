"""Make `template_references.json.xz`: chat templates, and what transformers makes of conversations with them.

    python -m tests.chat.prompts.make_template_references LLAMA_CPP/models/templates

It needs transformers (5.24 made the file). The templates come from llama.cpp's folder, which is under the MIT licence.
An expected text is null where transformers fails: the template refuses the conversation, or cannot be run with it.
"""

from __future__ import annotations

import datetime
import json
import lzma
import sys
from pathlib import Path
from typing import Any

from tests.chat.prompts.template_conversations import NOW, SPECIAL_TOKENS, conversations, plain

OUTPUT = Path(__file__).parent / "template_references.json.xz"


def main(folder: Path) -> None:
    """Write the file."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import chat_template_utils

    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Fixed:
            return cls(*NOW)

    chat_template_utils.datetime = Fixed
    pieces = {name: number for number, name in enumerate(SPECIAL_TOKENS.values())}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(pieces, SPECIAL_TOKENS["unk_token"])), **SPECIAL_TOKENS
    )

    def expected(template: str, conversation: Any) -> str | None:
        messages, tools, continues = conversation
        try:
            return str(
                tokenizer.apply_chat_template(
                    plain(messages),
                    tools=list(tools) or None,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=not continues,
                    continue_final_message=continues,
                )
            )
        except Exception:  # any that the template's code raises
            return None

    made = {
        path.stem: {"template": text, "expected": [expected(text, each) for each in conversations()]}
        for path in sorted(folder.glob("*.jinja"))
        for text in [path.read_text()]
    }
    OUTPUT.write_bytes(lzma.compress(json.dumps(made, ensure_ascii=False).encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
