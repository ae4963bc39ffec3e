"""Load a picture encoder in a process of its own and let it encode a small picture.

Run by `chat.worker.task`: the question has the paths `model`, a GGUF of which only the header needs to be there, and
`mmproj`. The task sends nothing, and fails where the encoder cannot be used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.core.request import EngineOptions
from chat.errors import MemoryLimitError
from chat.gguf.reader import read_gguf
from chat.inference.load_job import PictureFile
from chat.llama.hardware import host_free_bytes, worker_threads
from chat.llama.model import LoadSettings, Model
from chat.llama.picture_encoder import PictureEncoder
from chat.system.terminal_text import size_text
from chat.worker.task import serve_isolated_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.worker.task import Message

SIDE = 2  # tokens of the picture


def answer(question: Message, _send: Callable[[Message], None]) -> None:
    """Encode a picture of some colours.

    Raises:
        ModelError: the encoder does not belong to the model, or llama.cpp refuses it.
        DataError: it is damaged.
        EngineError: it computes NaN.
        MemoryLimitError: there is not enough memory for it.
    """
    import numpy as np

    pictures = PictureFile.open(question["mmproj"], read_gguf(question["model"]), EngineOptions(question["model"]))
    needed, free = sum(tensor.bytes for tensor in pictures.file.tensors.values()), host_free_bytes()
    if needed > free:
        raise MemoryLimitError(
            f"{question['mmproj']} needs {size_text(needed)} of memory, but {size_text(free)} is free"
        )
    model = Model(question["model"], LoadSettings(vocab_only=True))
    encoder = PictureEncoder(
        pictures.file,
        model,
        pictures.sizes,
        lambda: False,
        threads=worker_threads(),
        uses_gpu=False,
        flash_attention="auto",
    )
    side = SIDE * pictures.sizes.cell
    colours = np.arange(side * side * 3, dtype=np.uint32).reshape(side, side, 3)
    encoder.encode((colours * 7 % 256).astype(np.uint8))
    encoder.close()
    model.close()


if __name__ == "__main__":
    serve_isolated_task(answer)
