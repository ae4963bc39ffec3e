"""Show TeX formulas as Unicode text where that reads well: `$E = mc^2$` as E = mc².

pylatexenc parses the formula and knows the symbols. What has no plain form in one line, such as a matrix, stays as it
is written.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))
# TeX as models write it; by pandoc's rule `$5 to $10` is no formula
FORMULA = re.compile(
    "|".join(rf"{re.escape(begin)}.{{1,999}}?{re.escape(end)}" for begin, end in DELIMITERS[:-1])
    + r"|\$(?=\S)[^$`\n]*?(?<=[^\s\\])\$(?!\d)",
    re.DOTALL,
)
LONGEST = 400  # characters of a formula that is parsed
_PLAIN_DIGITS = "0123456789+-=()"
_SUPERSCRIPTS = str.maketrans(
    _PLAIN_DIGITS + "abcdefghijklmnoprstuvwxyzT*'", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾" + "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵀ*′"
)
_SUBSCRIPTS = str.maketrans(_PLAIN_DIGITS + "aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎" + "ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ")
_NAMED = frozenset(
    (
        "arccos",
        "arcsin",
        "arctan",
        "arg",
        "cos",
        "cosh",
        "cot",
        "csc",
        "deg",
        "det",
        "dim",
        "exp",
        "gcd",
        "inf",
        "ker",
        "lim",
        "ln",
        "log",
        "max",
        "min",
        "mod",
        "sec",
        "sin",
        "sinh",
        "sup",
        "tan",
        "tanh",
    )
)
_TEXTS = frozenset(
    ("text", "textrm", "textbf", "textit", "mathrm", "mathbf", "mathit", "mathsf", "mathcal", "operatorname", "boxed")
)
_SPACES = {",": " ", ";": " ", ":": " ", "!": "", " ": " ", "quad": "  ", "qquad": "   ", "left": "", "right": "",
           "limits": "", "displaystyle": "", "big": "", "Big": ""}  # fmt: skip
_ROOTS = {"": "√", "2": "√", "3": "∛", "4": "∜"}
_ACCENTS = {"hat": "\u0302", "bar": "\u0304", "vec": "\u20d7", "dot": "\u0307", "ddot": "\u0308", "tilde": "\u0303"}
_LARGE = frozenset("∑∏∫∬∮")  # operators with limits
# Marks within texts: a space of the source after a letter, where what follows stands apart, the end of a fraction or
# root
_SPACE, _AFTER, _PRODUCT = "\ue000", "\ue001", "\ue002"
_PRIVATE = re.compile("[\ue000-\ue002]")
_TOUCHES = re.compile(r"[\w(√∛∜]")  # what would become a part of the fraction before it
_NUMBER_END = re.compile(r"[\w)]$")
_UNSPACED = frozenset("√∂∇∞¬∀∃∅ℓ")  # symbols of mathematics that stand close to what follows
_SINGLE = re.compile(
    r"\d[\d.]*|[d∂]?[^\W\d_][\u0300-\u036f\u20d7⁰¹²³⁴-₟ᵃ-ᶻ]*|√?\w|\([^()]*\)"
)  # below a fraction's stroke
_WORD = re.compile(r"[A-Za-z]{3,}")


class _NoPlainForm(Exception):  # noqa: N818 - a signal to the caller, not a fault
    """The formula stays as it is written."""


@lru_cache
def formula_text(formula: str) -> str:
    """A formula as Unicode text; unchanged where it has no plain form or may be no formula.

    Args:
        formula: TeX with its delimiters, `$...$`, `$$...$$`, `\\(...\\)` or `\\[...\\]`.
    """
    begin, end = next(pair for pair in DELIMITERS if formula.startswith(pair[0]))
    inner = formula.removeprefix(begin).removesuffix(end).strip()
    if not inner or len(inner) > LONGEST or _PRIVATE.search(inner):
        return formula
    try:
        return _tidy(_text(_parsed(inner), has_words=begin != "$")) or formula
    except (_NoPlainForm, RecursionError):
        return formula


def _parsed(inner: str) -> Sequence[Any]:
    from pylatexenc.latexwalker import LatexWalker, LatexWalkerError

    try:
        return tuple(LatexWalker(inner, tolerant_parsing=False).get_latex_nodes()[0])
    except LatexWalkerError as error:
        raise _NoPlainForm from error


def _text(nodes: Sequence[Any], *, has_words: bool) -> str:
    """The text of nodes.

    Args:
        nodes: pylatexenc's.
        has_words: bare words are variables; else what has one is a path or a price between two dollar signs.
    """
    text, space = "", ""  # the space after a function or a large operator, and its limits
    fraction = ""  # or root, at the end of the text, that what follows must not become a part of
    items = list(_items(nodes, has_words=has_words))
    while items:
        item = items.pop(0)
        is_script = isinstance(item, str) and item in "^_"
        if is_script:
            if not items or not text:
                raise _NoPlainForm
            part = _script(items.pop(0), item, has_words=has_words)
        else:
            part = item if isinstance(item, str) else _node_text(item, has_words=has_words)
            part = ("" if part == "(" else space) + part
            space = " " if part.endswith(_AFTER) else ""
            part = part.removesuffix(_AFTER)
        if fraction and (is_script or _TOUCHES.match(part)):
            text = f"{text.removesuffix(fraction)}({fraction})"
        fraction = part.removesuffix(_PRODUCT) if part.endswith(_PRODUCT) else ""
        if fraction and fraction[0] not in "√∛∜" and _NUMBER_END.search(text):  # a mixed number, or a product
            part = f" {fraction}" if fraction[0].isdigit() else f"({fraction})"
            fraction = ""
        text += part.removesuffix(_PRODUCT)
    return text


def _items(nodes: Sequence[Any], *, has_words: bool) -> Sequence[Any]:
    """The nodes, with a character each for plain text."""
    items: list[Any] = []
    for node in nodes:
        if type(node).__name__ != "LatexCharsNode":
            items.append(node)
            continue
        if not has_words and _WORD.search(node.chars):
            raise _NoPlainForm
        items += node.chars
    return items


def _node_text(node: Any, *, has_words: bool) -> str:
    kind = type(node).__name__
    if kind == "LatexGroupNode":
        return _text(node.nodelist, has_words=has_words)
    if kind == "LatexSpecialsNode" and node.specials_chars == "'":
        return "′"
    if kind != "LatexMacroNode":
        raise _NoPlainForm
    name, arguments = node.macroname, [each for each in (node.nodeargd.argnlist if node.nodeargd else ()) if each]
    if name in _SPACES:
        return _SPACES[name]
    if name in "{}%$#&_":
        return str(name)
    if name in _NAMED:
        return f" {name}{_AFTER}"
    inner = [_text([each], has_words=True) if name in _TEXTS else _node_argument(each, has_words) for each in arguments]
    if name in _TEXTS:
        return inner[-1] if inner else ""  # else its argument follows as a group
    if name in ("frac", "dfrac", "tfrac") and len(inner) == 2:
        below = inner[1] if _SINGLE.fullmatch(inner[1]) else f"({inner[1]})"
        return f"{_factor(inner[0])}/{below}{_PRODUCT}"
    if name == "sqrt" and inner:
        root = _ROOTS.get(inner[0] if len(inner) == 2 else "")
        if root is None:
            raise _NoPlainForm
        return root + _factor(inner[-1]) + _PRODUCT
    if name in _ACCENTS and inner and len(inner[-1]) == 1:
        return unicodedata.normalize("NFC", inner[-1] + _ACCENTS[name])
    if name == "mathbb" and inner and len(inner[-1]) == 1:
        return _double_struck(inner[-1])
    if arguments:
        raise _NoPlainForm
    symbol = _symbol(name)
    return symbol + (_SPACE if node.macro_post_space and symbol.isalpha() else "")


def _node_argument(node: Any, has_words: bool) -> str:
    return _tidy(_text([node], has_words=has_words))


def _script(item: Any, mark: str, *, has_words: bool) -> str:
    """A superscript or subscript: in Unicode's own characters if it has all of them, else after its mark."""
    text = item if isinstance(item, str) else _tidy(_node_text(item, has_words=has_words))
    close = re.sub(r"\s+", "", text).replace("−", "-")
    if mark == "^" and close in ("′", "°", "∘"):
        return "°" if close != "′" else close
    table = _SUPERSCRIPTS if mark == "^" else _SUBSCRIPTS
    if close and all(ord(char) in table for char in close):
        return close.translate(table)
    return mark + (text if len(text) == 1 else f"({text})")


def _factor(text: str) -> str:
    """A text as part of a product: in parentheses, unless it is one name, number or function."""
    return text if re.fullmatch(r"[^\s+\-−±·×/=,<>]+|\([^()]*\)", text) else f"({text})"


def _double_struck(letter: str) -> str:
    for name in ("DOUBLE-STRUCK CAPITAL ", "MATHEMATICAL DOUBLE-STRUCK CAPITAL "):
        try:
            return unicodedata.lookup(name + letter)
        except KeyError:
            continue
    raise _NoPlainForm


@cache
def _known_macros() -> Any:
    from pylatexenc.latex2text import get_default_latex_context_db

    return get_default_latex_context_db()


@cache
def _symbol(name: str) -> str:
    """The character of a macro without arguments, with spaces around a relation or an operator."""
    symbol = getattr(_known_macros().get_macro_spec(name), "simplify_repl", None)
    if not isinstance(symbol, str) or not symbol or "%" in symbol or symbol.isascii():
        raise _NoPlainForm
    if symbol in _LARGE:
        return symbol + _AFTER
    is_relation = unicodedata.category(symbol[0]) == "Sm" or "ARROW" in unicodedata.name(symbol[0], "")
    return f" {symbol} " if (is_relation or symbol == "·") and symbol not in _UNSPACED else symbol


def _tidy(text: str) -> str:
    """The text without the double spaces that its parts leave, and without spaces inside parentheses."""
    text = re.sub(f"{_SPACE}(?=[-+=<>/|])", " ", text).replace(_SPACE, "")
    text = re.sub(r"[ \t\n]+", " ", text).strip()
    return re.sub(r"(?<=[(\[]) | (?=[)\],])", "", text)
