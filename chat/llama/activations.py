"""Sum the squares of what goes into each matrix of the layers, as llama-imatrix does, while llama.cpp reads a text.

Source: `collect_imatrix` in llama.cpp's tools/imatrix/imatrix.cpp, and `struct ggml_tensor` in ggml.h.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from chat.errors import ChatError, EngineError, ModelError, fault_text
from chat.llama.library import ggml, llama

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_ROWS = 16  # of a matrix multiplication that is counted
FLOAT32, INT32 = 0, 26  # enum ggml_type
COMMON_OPERATIONS = 64  # the first of `enum ggml_op`, which has more


class _Node(ctypes.Structure):
    """struct ggml_tensor."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("shape", ctypes.c_int64 * 4),  # ggml's order: the row's length first
        ("strides", ctypes.c_size_t * 4),  # bytes
        ("operation", ctypes.c_int),
        ("operation_parameters", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("sources", ctypes.c_void_p * 10),
        ("view_source", ctypes.c_void_p),
        ("view_offset", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


@dataclass
class ColumnSums:
    """What was summed of one tensor.

    Attributes:
        squares: (matrices, columns) float64, the sums of the squares of the inputs.
        counts: (matrices,) or (1,) int64, how many inputs each matrix had; one number where all had the same.
    """

    squares: NDArray[np.float64]
    counts: NDArray[np.int64]


class ActivationSums:
    """Sums activations while a context reads.

    Attributes:
        callback: for the context's `eval_callback`; valid as long as this object.
        tensors: what was summed, by the tensors' names.
    """

    def __init__(self) -> None:
        self.callback: Any = llama().ggml_backend_sched_eval_callback(self._on_node)
        self.tensors: dict[str, ColumnSums] = {}
        self._fault: ChatError | None = None
        self._is_layout_known = False

    def raise_fault(self) -> None:
        """Raise what went wrong in the last batch: an exception cannot pass through llama.cpp.

        Raises:
            ModelError: the model computes NaN or infinite numbers.
            EngineError: llama.cpp's nodes are not as expected.
        """
        if self._fault is not None:
            raise self._fault

    def _on_node(self, address: int, is_question: bool, _user_data: Any) -> bool:
        """Answer whether a node's inputs are wanted; when it has been computed, add them.

        Returns:
            For a node that has been computed, whether llama.cpp shall go on.
        """
        if self._fault is not None:
            return False
        try:
            node = _Node.from_address(address)
            if is_question:
                self._check_layout(address, node)
                return _is_wanted(node)
            self._add(node)
        except ChatError as error:
            self._fault = error
        except Exception as error:  # llama.cpp's C functions cannot pass it on
            self._fault = EngineError(f"the activations could not be read: {fault_text(error)}")
        return self._fault is None

    def _check_layout(self, address: int, node: _Node) -> None:
        """Check once that the fields lie where this build of ggml has them."""
        if self._is_layout_known:
            return
        base = _functions()
        shape, strides = list(node.shape), list(node.strides)
        nbytes = strides[0] + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if (
            base.ggml_get_name(address) != node.name
            or base.ggml_nelements(address) != int(np.prod(shape))
            or (node.type == FLOAT32 and base.ggml_nbytes(address) != nbytes)
        ):
            raise EngineError("this build of llama.cpp has another `ggml_tensor` than this program expects")
        self._is_layout_known = True

    def _add(self, node: _Node) -> None:
        matrix, inputs = (_Node.from_address(node.sources[place]) for place in (0, 1))
        name, columns = tensor_name(matrix.name.decode()), inputs.shape[0]
        if node.operation == _operations()["MUL_MAT_ID"]:
            experts = matrix.shape[2]
            sums = self._sums_of(name, experts, columns, counts=experts)
            chosen = _numbers(_Node.from_address(node.sources[2]))[0, 0]
            add_experts(sums, _numbers(inputs)[0], chosen)
        else:
            sums = self._sums_of(name, matrix.shape[2] * matrix.shape[3], columns, counts=1)
            add_rows(sums, _numbers(inputs), (matrix.shape[3], matrix.shape[2]))
        if not np.isfinite(sums.squares).all():
            raise ModelError(
                f"the model computes NaN or infinite numbers before `{name}`",
                hint="`mistral-chat doctor` looks for the reason",
            )

    def _sums_of(self, name: str, matrices: int, columns: int, counts: int) -> ColumnSums:
        found = self.tensors.get(name)
        if found is None:
            found = self.tensors[name] = ColumnSums(np.zeros((matrices, columns)), np.zeros(counts, np.int64))
        if (found.squares.shape, found.counts.size) != ((matrices, columns), counts):
            raise EngineError(f"llama.cpp multiplies `{name}` in two ways")
        return found


def add_rows(sums: ColumnSums, inputs: NDArray[np.float32], matrices: tuple[int, int]) -> None:
    """Add the inputs of a multiplication by one matrix or by several of the same tensor.

    Args:
        sums: what is added to.
        inputs: (outer, inner, rows, columns) float32.
        matrices: the tensor's matrices, (outer, inner); they are repeated where the inputs have more.
    """
    outer, inner, rows, _ = inputs.shape
    for place in range(outer * inner):
        high, low = divmod(place, inner)
        part = inputs[high, low]
        number = high % matrices[0] * matrices[1] + low % matrices[1]
        sums.squares[number] += np.einsum("rc,rc->c", part, part)
    sums.counts += outer * inner * rows // (matrices[0] * matrices[1])


def add_experts(sums: ColumnSums, inputs: NDArray[np.float32], chosen: NDArray[np.int32]) -> None:
    """Add the inputs of the experts that were chosen for each token.

    Args:
        sums: what is added to, a matrix for each expert.
        inputs: (tokens, experts used or 1, columns) float32.
        chosen: (tokens, experts used) int32.
    """
    slots = np.arange(chosen.shape[1]) % inputs.shape[1]
    for expert in np.unique(chosen):
        tokens, places = np.nonzero(chosen == expert)
        part = inputs[tokens, slots[places]]  # (rows, columns)
        sums.squares[expert] += np.einsum("rc,rc->c", part, part)
        sums.counts[expert] += len(tokens)


def tensor_name(name: str) -> str:
    """A tensor's name without what the scheduler puts around it: `CUDA0#blk.0.attn_k.weight#0`."""
    return name.split("#")[1] if "#" in name else name


def _is_wanted(node: _Node) -> bool:
    operations = _operations()
    if node.operation == operations["MUL_MAT_ID"]:
        return True
    if node.operation != operations["MUL_MAT"]:
        return False
    matrix, inputs = (_Node.from_address(node.sources[place]) for place in (0, 1))
    name = tensor_name(matrix.name.decode(errors="replace"))
    return inputs.type == FLOAT32 and inputs.shape[1] >= LEAST_ROWS and name.startswith("blk.")


def _numbers(node: _Node) -> NDArray[Any]:
    """A node's numbers, row-major, with four axes; valid until llama.cpp computes on."""
    base, kind = _functions(), {FLOAT32: np.float32, INT32: np.int32}[node.type]
    nbytes = base.ggml_nbytes(ctypes.byref(node))
    memory: Any
    if base.ggml_backend_buffer_is_host(node.buffer):
        memory = (ctypes.c_char * nbytes).from_address(node.data)
    else:
        memory = ctypes.create_string_buffer(nbytes)
        base.ggml_backend_tensor_get(ctypes.byref(node), memory, 0, nbytes)
    return np.ndarray(tuple(node.shape)[::-1], kind, memory, strides=tuple(node.strides)[::-1])


@cache
def _operations() -> dict[str, int]:
    """The numbers of the two multiplications in `enum ggml_op` of this build."""
    names = [_functions().ggml_op_name(number) for number in range(COMMON_OPERATIONS)]
    return {name: names.index(name.encode()) for name in ("MUL_MAT", "MUL_MAT_ID")}


@cache
def _functions() -> Any:
    library, pointer, size = ggml(), ctypes.c_void_p, ctypes.c_size_t
    for name, result, arguments in (
        ("ggml_get_name", ctypes.c_char_p, (pointer,)),
        ("ggml_nelements", ctypes.c_int64, (pointer,)),
        ("ggml_nbytes", size, (pointer,)),
        ("ggml_op_name", ctypes.c_char_p, (ctypes.c_int,)),
        ("ggml_backend_buffer_is_host", ctypes.c_bool, (pointer,)),
        ("ggml_backend_tensor_get", None, (pointer, pointer, size, size)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
