"""Turn pixels into rows that a model reads in the place of tokens, by llama.cpp's libmtmd."""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import TYPE_CHECKING, Any

from chat.errors import EngineError, FileError, ModelError
from chat.gguf.keys import PictureKey
from chat.gguf.validate_pictures import BREAK_TENSOR
from chat.llama.context_settings import FLASH_ATTENTION
from chat.llama.library import LOG, llama

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.request import Switch
    from chat.gguf.reader import GgufFile
    from chat.gguf.validate_pictures import PictureSizes
    from chat.llama.model import Model

IMAGE_CHUNK = 1  # MTMD_INPUT_CHUNK_TYPE_IMAGE
NODES_OF_A_LAYER, OTHER_NODES = 29, 31  # of the graph, about; for how much of it is done


class PictureEncoder:
    """The picture encoder of a model."""

    def __init__(
        self,
        file: GgufFile,
        model: Model,
        sizes: PictureSizes,
        is_cancelled: Callable[[], bool],
        *,
        threads: int,
        uses_gpu: bool,
        flash_attention: Switch,
    ) -> None:
        """Load the file.

        Args:
            file: that `check_picture_encoder` accepts.
            model: that reads the rows.
            sizes: of the file.
            is_cancelled: asked after each step of a layer.
            threads: of the processor.
            uses_gpu: whether it is computed on a GPU, if there is one.
            flash_attention: whether attention uses half of the precision and far less memory.

        Raises:
            ModelError: libmtmd refuses it, with its reason.
        """
        api = self._api = mtmd()
        self._break_row = _numbers(file, BREAK_TENSOR)
        self._sizes = sizes
        self._width = sizes.text_width
        self._is_cancelled = is_cancelled
        self._node = 0
        self._node_count: int = file.metadata[PictureKey.LAYERS] * NODES_OF_A_LAYER + OTHER_NODES
        self._callback: Any = llama().ggml_backend_sched_eval_callback(self._on_node)
        params = api.mtmd_context_params_default()
        params.use_gpu = uses_gpu
        params.print_timings = params.warmup = False
        params.n_threads = threads
        params.flash_attn_type = FLASH_ATTENTION["off" if flash_attention == "off" else "on"]
        # Pictures come in their final size: no limit may scale them again (mtmd_image_preprocessor_dyn_size)
        params.image_min_tokens, params.image_max_tokens = 1, (sizes.largest // sizes.cell + 2) ** 2
        params.cb_eval = ctypes.cast(self._callback, type(params.cb_eval))
        LOG.lines.clear()
        self.pointer: Any = api.mtmd_init_from_file(str(file.path).encode(), model.pointer, params)
        if not self.pointer:  # with it, the next call would be a segmentation fault
            raise ModelError(f"{file.path}: llama.cpp refuses it: {LOG.last_error() or 'it gives no reason'}")

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The rows of a picture, line after line, with the row of [IMG_BREAK] between two lines.

        Args:
            pixels: (height, width, 3) red, green and blue; both sides are multiples of the size of a token.

        Returns:
            (places, width) float32, a new array; None where it was cancelled.

        Raises:
            EngineError: libmtmd failed.
        """
        import numpy as np

        api = self._api
        height, width = pixels.shape[:2]
        data = np.ascontiguousarray(pixels)
        bitmap = api.mtmd_bitmap_init(width, height, data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        chunks = api.mtmd_input_chunks_init()
        try:
            marker = api.mtmd_default_marker()
            text = api.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=False)
            bitmaps = (ctypes.c_void_p * 1)(bitmap)
            if api.mtmd_tokenize(self.pointer, chunks, ctypes.byref(text), bitmaps, 1) != 0:
                raise _failed()
            found = [api.mtmd_input_chunks_get(chunks, index) for index in range(api.mtmd_input_chunks_size(chunks))]
            (chunk,) = [each for each in found if api.mtmd_input_chunk_get_type(each) == IMAGE_CHUNK]
            places = api.mtmd_input_chunk_get_n_tokens(chunk)
            if places != (columns := width // self._sizes.cell + 1) * (height // self._sizes.cell) - 1:
                raise EngineError(f"libmtmd makes {places} rows of a picture with {columns - 1} columns")
            self._node = 0
            if api.mtmd_encode_chunk(self.pointer, chunk) != 0:
                raise _failed()
            if self._is_cancelled():
                return None
            pointer = api.mtmd_get_output_embd(self.pointer)
            rows = np.ctypeslib.as_array(pointer, (places, self._width)).copy()
            # llama.cpp clears these by a product with 0, which leaves NaN where the memory held it (models/pixtral.cpp)
            rows[columns - 1 :: columns] = self._break_row
        finally:
            api.mtmd_input_chunks_free(chunks)
            api.mtmd_bitmap_free(bitmap)
        if not np.isfinite(rows).all():
            raise EngineError("the picture encoder computed NaN or infinity instead of numbers")
        return rows

    @property
    def fraction(self) -> float:
        """How much of the picture is computed, from 0 to 1; may be asked from another thread."""
        return min(self._node / self._node_count, 1.0)

    def _on_node(self, _address: int, is_question: bool, _user_data: Any) -> bool:
        """Let libmtmd stop after each node of the graph, where it asks whether it shall go on."""
        if is_question:
            self._node += 1
            return True
        return not self._is_cancelled()

    def close(self) -> None:
        """Free it."""
        if self.pointer:
            self._api.mtmd_free(self.pointer)
            self.pointer = None


@functools.cache
def mtmd() -> Any:
    """The module with libmtmd's bindings; its log goes to `LOG`.

    Raises:
        ImportError: this build of llama-cpp-python has no libmtmd.
    """
    api = llama()
    bindings = importlib.import_module("llama_cpp.mtmd_cpp")
    bindings.mtmd_log_set(api.kept_log_callback, ctypes.c_void_p(0))
    return bindings


def _numbers(file: GgufFile, name: str) -> NDArray[np.float32]:
    """A tensor of float32 numbers.

    Raises:
        FileError: the file cannot be read.
    """
    import numpy as np

    tensor = file.tensors[name]
    try:
        return np.fromfile(file.path, "<f4", tensor.shape[0], offset=tensor.offset)
    except OSError as error:
        raise FileError(f"{file.path}: cannot be read: {error.strerror}") from error


def _failed() -> EngineError:
    return EngineError(f"llama.cpp cannot encode the picture: {LOG.last_error() or 'it gives no reason'}")
