"""The door to llama.cpp's C functions. Knows how to bind them and where their log goes, not what they do.

`llama_cpp/__init__.py` imports a whole second program (jinja2, its own chat, a log callback that prints), five times as
slow as the bindings themselves: only the module with the bindings is loaded.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

WARNING = 3  # GGML_LOG_LEVEL_WARN
ERROR = 4
CONTINUED = 5  # the text goes on with the line before


class Log:
    """The last lines that llama.cpp said, and who listens to them."""

    def __init__(self) -> None:
        self.lines: collections.deque[tuple[int, str]] = collections.deque(maxlen=200)
        self.sink: Callable[[int, str], None] | None = None
        self._level = 0

    def add(self, level: int, text: str) -> None:
        """Keep one piece of text; a piece that continues a line counts as the level of that line."""
        self._level = self._level if level == CONTINUED else level
        self.lines.append((self._level, text.rstrip("\n")))
        if self.sink is not None:
            self.sink(self._level, text)

    def last_error(self) -> str:
        """The last line of an error, without the C function's name in front; empty if there is none."""
        for level, text in reversed(self.lines):
            if level >= ERROR and text.strip():
                return text.rpartition(": ")[2].strip() if text.startswith("llama_") else text.strip()
        return ""

    def mentions(self, *words: str) -> bool:
        """Whether one of the kept lines contains one of the words."""
        return any(word in text for _, text in self.lines for word in words)


LOG = Log()


@functools.cache
def llama() -> Any:
    """The module with the bindings, its log led to `LOG`, the backends ready.

    Raises:
        ImportError: llama-cpp-python is not installed, or its library does not load here.
    """
    os.environ["GGML_NO_BACKTRACE"] = "1"  # else an abort() starts a debugger
    bindings = _bindings()
    callback = bindings.llama_log_callback(_log)
    bindings.llama_log_set(callback, ctypes.c_void_p(0))
    bindings.kept_log_callback = callback  # the library keeps only the address
    bindings.llama_backend_init()
    return bindings


def build_name() -> str:
    """llama.cpp's version and what this build of it can use."""
    api = llama()
    version = getattr(api, "llama_version", None)
    named = version().decode("utf-8", "replace") if version is not None else ""
    return f"{named} {api.llama_print_system_info().decode('utf-8', 'replace')}".strip()


@functools.cache
def ggml() -> ctypes.CDLL:
    """The library below llama.cpp, whose functions llama-cpp-python does not bind."""
    llama()
    folder = importlib.util.find_spec("llama_cpp").submodule_search_locations[0]  # type: ignore[union-attr,index]
    names = {"darwin": "libggml.dylib", "win32": "ggml.dll"}
    return ctypes.CDLL(os.path.join(folder, "lib", names.get(sys.platform, "libggml.so")))  # noqa: PTH118


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
