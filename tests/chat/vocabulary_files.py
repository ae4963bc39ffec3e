"""Vocabulary-only GGUF files that our converter made of mistral-common's tokenizer files, and their references."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import mistral_common
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from chat.gguf.reader import read_gguf
from chat.llama.model import LoadSettings, Model
from chat.llama.tokenizer.tokenizer import Tokenizer
from convert.tokenizer.load import read_vocabulary
from convert.tokenizer.sentencepiece_file import Piece, PieceType, SentencePieceFile, parse_sentencepiece
from convert.tokenizer.tekken import parse_tekken
from convert.tokenizer.vocabulary import GgufVocabulary as Stored
from tests.grids import FULL

DATA = Path(mistral_common.__file__).parent / "data"
SENTENCEPIECE = {
    "v1": ("tokenizer.model.v1", 32000),
    "v2": ("mistral_instruct_tokenizer_240216.model.v2", 32768),
    "v3": ("mistral_instruct_tokenizer_240323.model.v3", 32768),
    "v7": ("mistral_instruct_tokenizer_241114.model.v7", 32768),
}
TEKKEN = ("v3-tekken", "v7-tekken", "v11", "v13", "v15")
FORMATS = (*SENTENCEPIECE, *TEKKEN)
# mistral-common ships no Tekken file of v7 and later: these are theirs by the names that its formats look up
FIRST_NEWER = 32  # `[ARGS]` in the ids that mistral-common expects of its released v11 and v13 files
NEWER_SPECIALS = ("[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]")
NEWEST_SPECIALS = ("[MODEL_SETTINGS]", "[/MODEL_SETTINGS]")
EFFORTS = ("none", "high")


@dataclass(frozen=True)
class Case:
    """One prompt format: our vocabulary, loaded by llama.cpp, and mistral-common's tokenizer of the same file."""

    name: str
    vocabulary: Tokenizer
    metadata: dict[str, Any]
    reference: Any

    def text_ids(self, text: str) -> list[int]:
        """What mistral-common makes of one text."""
        ids: list[int] = self.reference.instruct_tokenizer.tokenizer.encode(text, bos=False, eos=False)
        return ids


@cache
def case(name: str) -> Case:
    """The vocabulary of one format, kept open; Tekken files are cut to fewer pieces unless it is the full run."""
    folder = _folder() / name
    folder.mkdir()
    stored, tokenizer = _sentencepiece(name, folder) if name in SENTENCEPIECE else _tekken(name, folder)
    assert stored.prompt_format == name
    path = write_vocabulary(folder / "vocabulary.gguf", stored)
    vocabulary, metadata = load(path)
    return Case(name, vocabulary, metadata, MistralTokenizer.from_file(tokenizer))


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="vocabularies-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def load(path: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """A vocabulary-only file, loaded for as long as the tests run."""
    metadata = dict(read_gguf(path).metadata)
    model = Model(str(path), LoadSettings(vocab_only=True))
    return Tokenizer(model.vocab, metadata), metadata


def _sentencepiece(name: str, folder: Path) -> tuple[Stored, Path]:
    file, size = SENTENCEPIECE[name]
    tokenizer = folder / f"tokenizer.model.{name}"
    shutil.copyfile(DATA / file, tokenizer)
    return read_vocabulary(folder, size), tokenizer


def _tekken(name: str, folder: Path) -> tuple[Stored, Path]:
    tokenizer = folder / "tekken.json"
    content = tekken_json(name.removesuffix("-tekken"), 130_000 if FULL else 12_000)
    tokenizer.write_bytes(content)
    return parse_tekken(content, "tekken.json"), tokenizer


def tekken_json(version: str, text_pieces: int, specials: int = 100) -> bytes:
    """A tekken.json with the real file's first text pieces; special pieces are listed from v7 on, as in real files."""
    data = _real_tekken()
    config = {"version": version, "default_num_special_tokens": specials, "default_vocab_size": text_pieces + specials}
    made = {"config": data["config"] | config, "vocab": data["vocab"][:text_pieces]}
    if version != "v3":
        names = [str(token["token_str"]) for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
        if version != "v7":
            names += [f"<SPECIAL_{rank}>" for rank in range(len(names), FIRST_NEWER)]
            names += NEWER_SPECIALS
        if version == "v15":
            names += NEWEST_SPECIALS
            effort = {"type": "enum", "accepts_none": True, "values": EFFORTS, "default": "none"}
            made["model_settings_builder"] = {"reasoning_effort": effort}
        made["special_tokens"] = [
            {"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(names)
        ]
    return json.dumps(made).encode()


@cache
def _real_tekken() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((DATA / "tekken_240718.json").read_bytes())
    return data


def write_vocabulary(path: Path, stored: Stored, **more: str) -> Path:
    """A GGUF that holds a vocabulary and no tensors; `more` are text keys, dots as double underscores."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_block_count(1)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(stored.pieces))
    writer.add_tokenizer_model(stored.model)
    writer.add_tokenizer_pre(stored.pre)
    writer.add_token_list([piece.text for piece in stored.pieces])
    writer.add_token_scores([piece.score for piece in stored.pieces])
    writer.add_token_types([int(piece.type) for piece in stored.pieces])
    if stored.merges:
        writer.add_token_merges(list(stored.merges))
    if stored.bos is not None:
        writer.add_bos_token_id(stored.bos)
    if stored.eos is not None:
        writer.add_eos_token_id(stored.eos)
    if stored.add_bos is not None:
        writer.add_add_bos_token(stored.add_bos)
    if not stored.adds_space:
        writer.add_add_space_prefix(False)
    if stored.space_prefix not in ("always", "none"):
        writer.add_string("mistral_chat.space_prefix", stored.space_prefix)
    if stored.normal_form:
        writer.add_string("mistral_chat.normal_form", stored.normal_form)
    if stored.prompt_format is not None:
        writer.add_string("mistral_chat.prompt_format", stored.prompt_format)
    if stored.model_settings:
        writer.add_string("mistral_chat.model_settings", stored.model_settings)
    for key, value in more.items():
        writer.add_string(key.replace("__", "."), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@cache
def sentencepiece_file(name: str) -> SentencePieceFile:
    """A real file."""
    return parse_sentencepiece((DATA / SENTENCEPIECE[name][0]).read_bytes(), "tokenizer.model")


def small_sentencepiece(*added: tuple[str, PieceType]) -> Stored:
    """v1's vocabulary with more pieces at its end, as fine-tunes add them."""
    pieces = (*sentencepiece_file("v1").pieces, *(Piece(name.encode(), -1000.0, kind) for name, kind in added))
    return Stored("llama", "default", pieces, bos=1, eos=2)
