"""Train the guide's SentencePiece vocabulary on its own corpus, with Mistral's v3 control pieces in their places.

python tests/guide/making/tokenizer.py FOLDER      reads FOLDER/topics.bin, writes FOLDER/tokenizer.model.v3
"""

from __future__ import annotations

import sys
from io import BytesIO
from itertools import islice
from pathlib import Path

from corpus import Writer
from ranker import whole

PIECES = 2304
SEED = 71
DIALOGUES = 12_000
CONTROL = (
    *("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[IMG]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"),
)


def texts(folder: Path) -> list[str]:
    """Every prompt and every answer of a corpus of its own seed, answers once."""
    writer = Writer(SEED, whole(folder))
    turns = [turn for dialogue in islice(writer.dialogues(), DIALOGUES) for turn in dialogue]
    answers = sorted({turn.answer for turn in turns})
    return [*(turn.question for turn in turns), *(turn.help for turn in turns if turn.help), *answers * 20]


def train(folder: Path) -> None:
    """Byte pairs with byte fallback, as Mistral's own vocabularies."""
    import sentencepiece

    model = BytesIO()  # a file's path would be written into the model
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts(folder)),
        model_writer=model,
        model_type="bpe",
        vocab_size=PIECES,
        byte_fallback=True,
        control_symbols=list(CONTROL),
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=1.0,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model.v3").write_bytes(model.getvalue())


if __name__ == "__main__":
    train(Path(sys.argv[1]))
