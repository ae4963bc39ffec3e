"""Run a chat template in Jinja2's sandbox as transformers does, with limits, and trace what it writes itself.

A template comes with a model's file, so nothing in it is trusted. It has no way to the interpreter or to files, and its
work is limited: steps, time, sizes. Literals of the template become `TracedText` of the origin `TEMPLATE` in the
compiled code; everything else that it writes is data. Importing this module imports Jinja2, so it is imported late.
"""

from __future__ import annotations

import functools
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jinja2
import jinja2.meta
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

from chat.prompts.jinja_budget import Budget, LimitError, check_counts, check_widths, limited_range
from chat.prompts.jinja_compiler import GenerationBlock, TracingGenerator
from chat.prompts.traced_text import DATA, TEMPLATE, TracedText, concat, origins_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jinja2.runtime import Context

LONGEST_TEMPLATE = 200_000  # characters; the longest in llama.cpp's collection has 34,000
_SIZED_FILTERS = {"batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap"}
_SLOW_FILTERS = {  # of a long text they make a list, or take long
    *("batch", "groupby", "list", "map", "max", "min", "reject", "rejectattr", "select", "selectattr", "slice", "sort"),
    *("pprint", "striptags", "title", "unique", "wordcount", "wordwrap"),
}
_COSTLY_METHODS = {"encode", "to_bytes", "from_bytes"}  # bytes are not counted, and no template needs them


class TemplateFailedError(Exception):
    """A template that cannot be used, or that refuses a conversation; the text is one line.

    Attributes:
        refuses: the template itself raised it by `raise_exception`.
        is_final: it cannot be run, whatever it is given.
    """

    def __init__(self, message: str, *, refuses: bool = False, is_final: bool = False) -> None:
        super().__init__(message)
        self.refuses = refuses
        self.is_final = is_final


class _RefusalError(TemplateError):
    """What `raise_exception` raises."""


def render(text: str, variables: Mapping[str, Any]) -> TracedText:
    """What a template writes.

    Args:
        text: the template.
        variables: what it sees: texts, numbers, lists and dictionaries.

    Raises:
        TemplateFailedError: it does not compile, fails, or does more than it may.
    """
    try:
        template = _compiled(text)
        environment = _environment()
        environment.budget.start(variables)
        written = environment.concat(template.root_render_func(template.new_context(dict(variables))))
    except _RefusalError as error:
        raise TemplateFailedError(_line(error.message or ""), refuses=True) from error
    except TemplateSyntaxError as error:
        raise TemplateFailedError(f"line {error.lineno}: {_line(error.message or '')}", is_final=True) from error
    except LimitError as error:
        raise TemplateFailedError(str(error), is_final=True) from error
    except (RecursionError, SyntaxError) as error:  # Python's compiler has limits of its own
        raise TemplateFailedError("it is nested too deeply", is_final=True) from error
    except MemoryError as error:
        raise TemplateFailedError("it needs too much memory", is_final=True) from error
    except Exception as error:  # whatever the code of the template raises
        raise TemplateFailedError(f"{_place(error)}{_line(error) or type(error).__name__}") from error
    return written


@functools.lru_cache(maxsize=64)
def variables_of(text: str) -> frozenset[str]:
    """The names that a template takes from outside; none where it does not compile."""
    try:
        _compiled(text)
        found = jinja2.meta.find_undeclared_variables(_environment().parse(text))
    except Exception:  # `render` reports it
        return frozenset()
    return frozenset(found)


@functools.lru_cache(maxsize=64)
def _compiled(text: str) -> jinja2.Template:
    if len(text) > LONGEST_TEMPLATE:
        raise LimitError(f"it has {len(text):,} characters, more than the {LONGEST_TEMPLATE:,} that are allowed")
    return _environment().from_string(text)


@functools.lru_cache(maxsize=1)
def _environment() -> ChatEnvironment:
    return ChatEnvironment()


def _line(message: object) -> str:
    text = str(message).replace(TracedText.__name__, "str")
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split()).rstrip(".")
    return words if len(words) <= 200 else words[:197] + "..."


def _place(error: BaseException) -> str:
    """`line N: ` for an error in a template's own code."""
    found, trace = "", error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, jinja2.Template):
            found = f"line {template.get_corresponding_lineno(trace.tb_lineno)}: "
        trace = trace.tb_next
    return found


class _Namespace(Namespace):
    """Jinja2's namespace without names that begin with an underscore, as in transformers."""

    def __init__(*args: Any, **values: Any) -> None:
        self, *mappings = args
        attributes = dict(*mappings, **values)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


class _Dictionary:
    """`dict` without its attributes."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Formatter(SandboxedFormatter):
    """`str.format` within the sandbox, with traced texts."""

    def format_field(self, value: Any, format_spec: str) -> str:
        check_widths(format_spec)
        return value if isinstance(value, str) and not format_spec else format(value, format_spec)

    def convert_field(self, value: Any, conversion: Any) -> Any:
        environment = self._env
        assert isinstance(environment, ChatEnvironment)
        return super().convert_field(environment.checked(value), conversion or None)

    def traced(self, text: str, args: Sequence[Any], values: Mapping[str, Any]) -> str:
        """The text with its fields replaced; the rest of a template's literal stays the template's."""
        if re.search(r"\{[^{}]*\{", text):  # a field within a field
            return self.vformat(text, args, values)
        origin = TEMPLATE if set(origins_of(text)) == {TEMPLATE} else DATA
        parts: list[str] = []
        number = 0
        for literal, name, spec, conversion in self.parse(text):
            parts.append(TracedText(literal, origin * len(literal)))
            if name is None:
                continue
            if not name:
                name, number = str(number), number + 1
            value = self.convert_field(self.get_field(name, args, values)[0], conversion)
            parts.append(self.format_field(value, spec or ""))
        return concat(parts)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The environment in which transformers runs chat templates, with limits and traced texts.

    It serves one rendering at a time. Compiled code calls `literal`, `concat`, `text`, `checked`, `counted`, `step`.
    """

    code_generator_class = TracingGenerator
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def __init__(self) -> None:
        self.budget = Budget()
        self.step = self.budget.step
        self.checked = self.budget.checked
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # the optimizer would run filters and operators without limits
            extensions=[GenerationBlock, loopcontrols],
            finalize=self.checked,
        )
        self._literals: dict[str, TracedText] = {}
        for name in ("urlize", "random"):  # slow without bound; another prompt each time
            del self.filters[name]
        self.filters |= {"tojson": self._tojson, "join": self._join, "replace": self._replace, "indent": self._indent}
        self.filters |= {"sum": self._sum, "format": self._format}
        self.filters = {name: self._limited(name, function) for name, function in self.filters.items()}
        self.tests = {name: self._limited(name, function) for name, function in self.tests.items()}
        del self.globals["lipsum"]
        self.globals |= {"dict": _Dictionary(), "namespace": _Namespace, "range": limited_range}
        self.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}

    # --- what a template calls

    def _limited(self, name: str, function: Any) -> Callable[..., Any]:
        """A filter or test that counts as a step and whose arguments and result are checked."""
        passed = hasattr(function, "jinja_pass_arg")

        @functools.wraps(function)
        def limited(*args: Any, **options: Any) -> Any:
            self.step()
            values = args[passed:]
            for value in (*values, *options.values()):
                self.checked(value)
            if name in _SIZED_FILTERS:
                check_counts((*values[1:], *options.values()))
            if name in _SLOW_FILTERS and values and isinstance(values[0], str):
                self.budget.charge(50 * len(values[0]))
            return self.budget.charge_result(function(*args, **options))

        return limited

    def call(__self, __context: Context, __obj: Any, *args: Any, **options: Any) -> Any:  # noqa: N805
        """Call a function, macro or method."""
        __self.step()
        for value in (*args, *options.values()):
            __self.checked(value)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            args = __self.budget.before_method(owner, __obj.__name__, args)
        else:
            __self.checked(owner)
        return __self.budget.charge_result(super().call(__context, __obj, *args, **options))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute an operator that can make large values of small ones."""
        self.budget.before_operator(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        return result if operator in ("+", "*") and not isinstance(result, int) else self.budget.charge_result(result)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read an attribute."""
        return attr not in _COSTLY_METHODS and super().is_safe_attribute(obj, attr, value)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item or attribute."""
        return super().getitem(obj, self.checked(argument))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` of a text, made safe."""
        owner = getattr(value, "__self__", None)
        if not isinstance(owner, str) or getattr(value, "__name__", "") not in ("format", "format_map"):
            return None
        text, takes_mapping = owner, value.__name__ == "format_map"

        def formatted(*args: Any, **values: Any) -> str:
            return _Formatter(self).traced(text, *(((), *args) if takes_mapping else (args, values)))

        return formatted

    # --- texts

    def literal(self, text: str) -> TracedText:
        """A text of the template itself."""
        found = self._literals.get(text)
        if found is None:
            if len(self._literals) > 10_000:
                self._literals.clear()
            found = self._literals[text] = TracedText(text, TEMPLATE * len(text))
        return found

    def text(self, value: Any) -> str:
        """A value as Jinja2 writes it."""
        return str(self.checked(value))

    def concat(self, parts: Iterable[str]) -> TracedText:
        """The texts one after the other."""
        texts: list[str] = []
        for text in parts:
            self.budget.charge(len(text))
            texts.append(text)
        return concat(texts)

    def listed(self, values: Iterable[Any]) -> list[Any]:
        """Values that become the arguments of a call."""
        return self.budget.listed(values)

    def counted(self, value: Any) -> Any:
        """The same value; the call of this method counts as a step."""
        return value

    # --- filters that keep origins

    def _join(self, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
        parts = self.budget.listed(value)
        if attribute is not None:
            parts = [self._attribute(part, attribute) for part in parts]
        texts = [self.text(part) for part in parts]
        separator = TracedText(self.text(d))
        self.budget.before_join(separator, texts)
        return separator.join(texts)

    def _attribute(self, value: Any, path: str | int) -> Any:
        for name in [path] if isinstance(path, int) else path.split("."):
            value = self.getitem(value, int(name) if isinstance(name, str) and name.isdigit() else name)
        return value

    def _replace(self, s: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, before, after = TracedText(self.text(s)), self.text(old), self.text(new)
        self.budget.before_replace(text, before, after)
        return text.replace(before, after, -1 if count is None else count)

    def _sum(self, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
        for value in self.budget.listed(iterable):
            operand = value if attribute is None else self._attribute(value, attribute)
            start = self.call_binop(None, "+", start, operand)  # type: ignore[arg-type]
        return start

    def _format(self, value: Any, *args: Any, **values: Any) -> str:
        if args and values:
            raise TypeError("can't handle positional and keyword arguments at the same time")
        return str(self.call_binop(None, "%", self.text(value), values or args))  # type: ignore[arg-type]

    def _tojson(
        self,
        x: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        if indent is None:
            return encoder.encode(x)
        return self.concat(encoder.iterencode(x))

    def _indent(self, s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        indention = width if isinstance(width, str) else " " * width
        newline = TracedText("\n")
        self.budget.before_method(s, "splitlines", ())
        lines = (s + newline).splitlines()
        self.budget.charge((len(indention) + 1) * len(lines) + len(s))
        if blank:
            written = (newline + indention).join(lines)
        else:
            rest = [indention + line if line else line for line in lines[1:]]
            written = newline.join([lines[0], *rest])
        return indention + written if first else written


def _raise(message: object) -> None:
    raise _RefusalError(_line(message))


def _strftime_now(format: str) -> str:
    check_widths(format)
    check_counts((format,))
    return datetime.now().strftime(format)
