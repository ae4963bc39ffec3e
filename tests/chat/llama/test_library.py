"""The log of llama.cpp is kept, and copied from a level on."""

from __future__ import annotations

from chat.llama.library import CONTINUED, DEBUG, ERROR, EVERYTHING, WARNING, Log
from chat.llama.model import NO_MEMORY

INFO = 2  # GGML_LOG_LEVEL_INFO
PIECES = ((INFO, "loading "), (CONTINUED, "...\n"), (ERROR, "llama_load: no "), (CONTINUED, "memory\n"))


def copied(lowest_level: int) -> list[str]:
    """What is passed on of the pieces."""
    log, texts = Log(), list[str]()
    log.copy_to(texts.append, lowest_level)
    for level, text in PIECES:
        log.add(level, text)
    return texts


def test_a_continued_line_is_copied_as_its_beginning_is() -> None:
    assert copied(EVERYTHING) == [text for _, text in PIECES]
    assert copied(WARNING) == ["llama_load: no ", "memory\n"]


def test_the_last_error_is_found_without_the_function_that_reports_it() -> None:
    log = Log()
    log.add(ERROR, "llama_load: no memory\n")
    log.add(INFO, "done\n")
    assert log.last_error() == "no memory"


def test_of_a_full_gpu_the_line_with_the_size_is_found() -> None:
    """The lines of the Vulkan back end; the error said "does not fit in memory: failed to load model"."""
    log = Log()
    log.add(ERROR, "alloc_tensor_range: failed to allocate Vulkan0 buffer of size 66495744\n")
    log.add(ERROR, "llama_model_load: error loading model: unable to allocate Vulkan0 buffer\n")
    log.add(ERROR, "llama_model_load_from_file_impl: failed to load model\n")
    assert log.first_with(*NO_MEMORY) == "failed to allocate Vulkan0 buffer of size 66495744"
    assert (log.first_with("disk"), log.last_error()) == ("", "failed to load model")


def test_lines_for_debugging_push_nothing_out_of_the_log() -> None:
    log = Log()
    log.add(INFO, "Flash Attention enabled\n")
    for number in range(2 * (log.lines.maxlen or 0)):
        log.add(DEBUG, f"node {number}\n")
    assert list(log.lines) == [(INFO, "Flash Attention enabled")]
