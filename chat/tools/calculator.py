"""Calculate an arithmetic expression, with limits on its length and on the size of its numbers."""

from __future__ import annotations

import ast
import math
import operator
from typing import TYPE_CHECKING, Any

from chat.tools.tool import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CHARACTERS = 1000
MOST_BITS = 10_000  # of a whole number: about 3,000 digits
MOST_PLACES = 4000  # that a number is rounded to, before or after the point

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
_NAMES = (
    *("sqrt", "cbrt", "exp", "log", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh"),
    *("cosh", "tanh", "degrees", "radians", "floor", "ceil", "trunc", "hypot", "gcd", "lcm"),
)


def _rounded(value: Any, places: Any = None) -> Any:
    """A number rounded to some places; Python would count to ten to the power of the places."""
    if isinstance(places, int) and abs(places) > MOST_PLACES:
        raise OverflowError
    return round(value, places)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(math, name) for name in _NAMES},
    "abs": abs,
    "round": _rounded,
    "min": min,
    "max": max,
}


def calculate(expression: str) -> str:
    """The value of an expression such as `2 * (3 + 4) ** 2 / sqrt(2)`; `^` is a power, too.

    Raises:
        ToolError: it is no such expression, or its value is too large.
    """
    if len(expression) > MOST_CHARACTERS:
        raise ToolError(f"the expression has more than {MOST_CHARACTERS} characters")
    try:
        tree = ast.parse(expression.strip().replace("^", "**"), mode="eval")
        value = _value(tree.body)
    except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError) as error:
        reason = str(error) if isinstance(error, (ValueError, TypeError)) else "it is not arithmetic"
        raise ToolError(f"cannot calculate `{expression}`: {reason}") from error
    except ZeroDivisionError as error:
        raise ToolError("division by zero") from error
    except OverflowError as error:
        raise ToolError("the value is too large") from error
    return str(value)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _checked(node.value)
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left), _value(node.right)
        is_power = isinstance(node.op, ast.Pow) and isinstance(left, int) and isinstance(right, int)
        if is_power and right > 0 and left.bit_length() * right > MOST_BITS:
            raise OverflowError
        return _checked(_BINARY[type(node.op)](left, right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id == "factorial":
            return _factorial([_value(each) for each in node.args])
        if node.func.id in _FUNCTIONS:
            return _checked(_FUNCTIONS[node.func.id](*(_value(each) for each in node.args)))
        raise ValueError(f"there is no function `{node.func.id}`")
    raise ValueError("it is not arithmetic")


def _factorial(values: list[Any]) -> int:
    if len(values) != 1 or not isinstance(values[0], int) or values[0] < 0:
        raise ValueError("factorial needs a whole number from 0")
    if values[0] > 1000:
        raise OverflowError
    return _checked(math.factorial(values[0]))  # type: ignore[no-any-return]


def _checked(value: Any) -> Any:
    """A real number that is not too large.

    Raises:
        OverflowError: it is.
        ValueError: it is complex.
    """
    if isinstance(value, complex):
        raise ValueError("the value is not a real number")
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise OverflowError
    return value
