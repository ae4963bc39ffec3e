"""Prompts with pictures have mistral-common's ids: [IMG], [IMG_BREAK] and [IMG_END] in the places of each picture."""

from __future__ import annotations

import base64
import copy
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
from mistral_common.protocol.instruct import messages as theirs
from mistral_common.protocol.instruct.chunk import ImageURLChunk, TextChunk
from mistral_common.tokens.tokenizers import image as their_image
from mistral_common.tokens.tokenizers.image import ImageConfig, ImageEncoder, SpecialImageIDs
from PIL import Image

from chat.core.conversation import Message, Picture
from chat.core.request import Prompt, Request
from chat.errors import DataError, UsageError
from chat.gguf.validate_pictures import PictureSizes
from chat.inference.pictures import Pictures
from chat.prompts.builder import build_prompt
from tests.chat.prompts import mistral_common_reference
from tests.chat.seeing import file_of, noise, picture, question
from tests.chat.vocabulary_files import TEKKEN, Case, case
from tests.grids import FULL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.llama.tokenizer.tokenizer import Tokenizer

CONVERSATIONS = 300 if FULL else 8
IMAGE_PIECES = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
SIZES = PictureSizes(cell=28, largest=224, text_width=8)


@pytest.fixture(scope="module")
def photos() -> tuple[Picture, ...]:
    sides = ((28, 28), (29, 28), (100, 57), (1, 1), (300, 2), (1, 999), (231, 230))
    return tuple(noise(width, height, seed) for seed, (width, height) in enumerate(sides))


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our vocabulary and mistral-common's tokenizer of a format, both with eyes."""
    monkeypatch.setattr(their_image, "transform_image", lambda image, size: np.zeros((3, size[1], size[0])))

    def with_eyes(name: str) -> Case:
        here = case(name)
        ids = [here.vocabulary.control_id(piece) for piece in IMAGE_PIECES]
        assert None not in ids
        reference = copy.copy(here.reference)
        reference.instruct_tokenizer = copy.copy(here.reference.instruct_tokenizer)
        reference.instruct_tokenizer.image_encoder = ImageEncoder(ImageConfig(14, 224, 2), SpecialImageIDs(*ids))
        monkeypatch.setattr(here.vocabulary, "pictures", Pictures(SIZES, (ids[0], ids[1]), _never))  # type: ignore[arg-type]
        return replace(here, reference=reference)

    monkeypatch.setattr(mistral_common_reference, "_theirs", _with_chunks(mistral_common_reference._theirs))
    return with_eyes


def _never(_: object) -> NoReturn:
    raise AssertionError("no picture is read")


def _with_chunks(plain: Any) -> Any:
    def convert(message: Message, is_prefix: bool, marked_systems: bool) -> Any:
        if not message.pictures:
            return plain(message, is_prefix, marked_systems)
        chunks = [
            TextChunk(text=part)
            if isinstance(part, str)
            else ImageURLChunk(image_url=f"data:image/png;base64,{base64.b64encode(part.data).decode()}")
            for part in message.parts()
        ]
        return theirs.UserMessage(content=chunks)

    return convert


def our_ids(vocabulary: Tokenizer, name: str, messages: Sequence[Message]) -> list[int] | None:
    try:
        return list(build_prompt(Request(Prompt(tuple(messages))), vocabulary, name, None, drop=False).shown)
    except (DataError, UsageError):
        return None


@pytest.mark.parametrize("name", [*TEKKEN, "v7"])
def test_conversations_with_pictures_have_the_reference_ids(
    name: str, seeing: Any, photos: tuple[Picture, ...]
) -> None:
    here = seeing(name)
    seen = 0
    for seed in range(CONVERSATIONS):
        dice = random.Random(seed)
        messages = [
            replace(each, pictures=_some(dice, photos, len(each.content))) if each.role == "user" else each
            for each in mistral_common_reference.conversation(dice, tools=False)
        ]
        expected = mistral_common_reference.reference_ids(here.reference, messages)
        ours = our_ids(here.vocabulary, name, messages)
        assert ours == expected, f"seed {seed}"
        seen += ours is not None and here.vocabulary.control_id("[IMG_END]") in ours
    assert seen > CONVERSATIONS * 0.4, "most conversations have pictures, else nothing was compared"


def _some(dice: random.Random, photos: tuple[Picture, ...], length: int) -> tuple[Picture, ...]:
    places = sorted(dice.choice((0, 0, dice.randrange(length + 1), length)) for _ in range(dice.choice((0, 1, 1, 2))))
    return tuple(replace(dice.choice(photos), place=place) for place in places)


def test_every_size_has_mistral_commons_grid() -> None:
    dice = random.Random(1)
    for patch, largest, merge in ((14, 1540, 2), (16, 1024, 1), (14, 280, 2)):
        reference = ImageEncoder(ImageConfig(patch, largest, merge), SpecialImageIDs(1, 2, 3))
        sizes = PictureSizes(patch * merge, largest, 8)
        sides = [1, 2, 27, 28, 29, largest - 1, largest, largest + 1, 65_500]
        for _ in range(2000):
            width, height = (dice.choice((dice.choice(sides), dice.randrange(1, 9000))) for _ in range(2))
            image = Image.Image()
            image._size = (width, height)  # type: ignore[attr-defined]
            assert sizes.grid(width, height) == reference._image_to_num_tokens(image), (width, height)


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_formats_before_pictures_refuse_them(name: str) -> None:
    with pytest.raises(UsageError, match=f"^the prompt format {name} has no place for pictures$"):
        build_prompt(Request(Prompt((question(noise(1, 1, 1)),))), case(name).vocabulary, name, None, drop=False)


def test_a_model_without_eyes_refuses_a_picture_by_its_name() -> None:
    photo = picture(file_of(Image.new("RGB", (3, 3))), "cat.png")
    with pytest.raises(UsageError, match=r"^cat\.png: the model reads only text, not pictures$") as caught:
        build_prompt(Request(Prompt((question(photo),))), case("v11").vocabulary, "v11", None, drop=False)
    assert caught.value.hint is not None
    assert "--mmproj" in caught.value.hint
