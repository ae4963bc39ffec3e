"""Tiny models made once for all tests of the engine, and how to load them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.model import LoadSettings, Model
from tests.chat.tiny_models import Array, Shape, weights, write_gguf

Make = Callable[[str, Callable[[Path], object]], Path]

WINDOWED = Shape(window=64)
PLAIN = Shape(window=None, seed=2)


@pytest.fixture(scope="session")
def windowed_weights() -> dict[str, Array]:
    return weights(WINDOWED)


@pytest.fixture(scope="session")
def plain_weights() -> dict[str, Array]:
    return weights(PLAIN)


@pytest.fixture(scope="session")
def windowed_file(make_once: Make, windowed_weights: dict[str, Array]) -> Path:
    return make_once("windowed.gguf", lambda path: write_gguf(path, WINDOWED, windowed_weights))


@pytest.fixture(scope="session")
def plain_file(make_once: Make, plain_weights: dict[str, Array]) -> Path:
    return make_once("plain.gguf", lambda path: write_gguf(path, PLAIN, plain_weights))


@pytest.fixture(scope="session")
def interleaved_file(make_once: Make, windowed_weights: dict[str, Array]) -> Path:
    """A model of which every other layer has the window."""
    shape = replace(WINDOWED, windowed=(True, False))
    return make_once("interleaved.gguf", lambda path: write_gguf(path, shape, windowed_weights))


@pytest.fixture(scope="session")
def slow_file(make_once: Make) -> Path:
    """A model that takes seconds to read a prompt of thousands of ids."""
    shape = Shape(layers=4, hidden=768, heads=16, kv_heads=4, ffn=3072, window=512)
    return make_once("slow.gguf", lambda path: write_gguf(path, shape, weights(shape)))


@pytest.fixture
def open_decoder() -> Iterator[Callable[..., LlamaContext]]:
    """Open a decoder with float32 cells and exact attention unless told otherwise; closed after the test."""
    opened: list[LlamaContext] = []

    def make(path: Path, **settings: object) -> LlamaContext:
        exact = {"kv_type": "f32", "flash_attention": "off", "threads": 1, "batch": 64, "outputs": 64, "cells": 512}
        decoder = LlamaContext(Model(str(path), LoadSettings()), ContextSettings(**(exact | settings)))  # type: ignore[arg-type]
        opened.append(decoder)
        return decoder

    yield make
    for decoder in opened:
        decoder.close()
        decoder.model.close()
