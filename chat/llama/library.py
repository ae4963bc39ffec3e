"""Load llama.cpp's C functions and collect its log.

Only the module with the bindings is imported: `llama_cpp/__init__.py` imports a chat program of its own (jinja2, a log
callback that prints), which takes five times as long.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat import platform

if TYPE_CHECKING:
    from collections.abc import Callable

EVERYTHING = 0  # GGML_LOG_LEVEL_NONE, below all others
DEBUG = 1  # thousands of lines for one context
WARNING = 3  # GGML_LOG_LEVEL_WARN
ERROR = 4
CONTINUED = 5  # GGML_LOG_LEVEL_CONT: the text continues the line before
# of ggml's libraries for GPUs, and what they are called
GPU_BACKENDS = {
    "cuda": "CUDA",
    "hip": "ROCm",
    "metal": "Metal",
    "musa": "MUSA",
    "opencl": "OpenCL",
    "sycl": "SYCL",
    "vulkan": "Vulkan",
}


class Log:
    """The log of llama.cpp.

    Attributes:
        lines: level and text of the last lines, without those of level DEBUG.
    """

    def __init__(self) -> None:
        self.lines: collections.deque[tuple[int, str]] = collections.deque(maxlen=200)
        self._level = 0
        self._write: Callable[[str], None] | None = None
        self._lowest_level = 0

    def copy_to(self, write: Callable[[str], None], lowest_level: int) -> None:
        """Pass on what is logged from now on, in place of an earlier `write`.

        Args:
            write: gets each piece of text.
            lowest_level: pieces of a lower level are not passed on.
        """
        self._write, self._lowest_level = write, lowest_level

    def add(self, level: int, text: str) -> None:
        """Add a piece of text; one that continues a line has the level of that line."""
        self._level = self._level if level == CONTINUED else level
        if self._level != DEBUG:
            self.lines.append((self._level, text.rstrip("\n")))
        if self._write is not None and self._level >= self._lowest_level:
            self._write(text)

    def last_error(self) -> str:
        """The last error line, without the name of the C function; empty if there is none."""
        for level, text in reversed(self.lines):
            if level >= ERROR and text.strip():
                return text.rpartition(": ")[2].strip() if text.startswith("llama_") else text.strip()
        return ""

    def first_with(self, *words: str) -> str:
        """The first kept line with one of the words, without the name of the C function; empty if there is none."""
        found = (text for _, text in self.lines if any(word in text for word in words))
        return next(found, "").rpartition(": ")[2].strip()


LOG = Log()


@functools.cache
def llama() -> Any:
    """The module with the bindings; its log goes to `LOG`, and the backends are initialised.

    Raises:
        ImportError: llama-cpp-python is not installed, or its library does not load here.
    """
    os.environ["GGML_NO_BACKTRACE"] = "1"  # else ggml starts a debugger at an abort()
    bindings = _bindings()
    callback = bindings.llama_log_callback(_log)
    bindings.llama_log_set(callback, ctypes.c_void_p(0))
    bindings.kept_log_callback = callback  # llama.cpp keeps only the address
    bindings.llama_backend_init()
    return bindings


def build_name() -> str:
    """llama.cpp's version and the instruction sets and backends of this build."""
    api = llama()
    version = getattr(api, "llama_version", None)
    named = version().decode("utf-8", "replace") if version is not None else ""
    return f"{named} {api.llama_print_system_info().decode('utf-8', 'replace')}".strip()


def gpu_backends() -> tuple[str, ...]:
    """The GPU back ends that this build was compiled with, whether or not they find a GPU here."""
    return tuple(words for name, words in GPU_BACKENDS.items() if _library(f"ggml-{name}").exists())


class _Libraries:
    """The functions of several libraries; a DLL does not give those of the libraries that it needs itself."""

    def __init__(self, *paths: str) -> None:
        """Load them.

        Raises:
            OSError: one of them cannot be loaded.
        """
        self._libraries = [ctypes.CDLL(path) for path in paths]

    def __getattr__(self, name: str) -> Any:
        """The function of the first library that has it, each time the same object."""
        for library in self._libraries:
            if hasattr(library, name):
                return getattr(library, name)
        raise AttributeError(name)


@functools.cache
def ggml() -> Any:
    """ggml, the libraries below llama.cpp; llama-cpp-python does not bind their functions."""
    llama()
    return _Libraries(*(str(_library(name)) for name in ("ggml", "ggml-base")))


def _library(name: str) -> Path:
    folder = importlib.util.find_spec("llama_cpp").submodule_search_locations[0]  # type: ignore[union-attr,index]
    return Path(folder, "lib", platform.library_file(name))


def _bindings() -> Any:
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None:
            raise ImportError("llama-cpp-python is not installed")
        package = importlib.util.module_from_spec(spec)
        sys.modules["llama_cpp"] = package
        bindings = importlib.import_module("llama_cpp.llama_cpp")
        package.__getattr__ = functools.partial(getattr, bindings)  # type: ignore[method-assign]
    return importlib.import_module("llama_cpp.llama_cpp")


def _log(level: int, text: bytes, _: Any) -> None:
    LOG.add(level, text.decode("utf-8", errors="replace"))
