"""Rendered Markdown fits its width and loses no word."""

from __future__ import annotations

import re
import time

import pytest

from chat.rendering.markdown import CodeHighlighter, close_open_marks, markdown_lines
from chat.rendering.markdown_html import markdown_html
from chat.rendering.styled_text import Line, Span, highlight, line_width, text_of
from tests.chat.tui.samples import document


def shown(text: str, width: int) -> list[str]:
    return [text_of(line).rstrip() for line in markdown_lines(text, width)]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_lines_fit_and_no_word_is_lost(width: int) -> None:
    """Code is left out here: it may be wider, so that it can be copied."""
    for number in range(60):
        text = re.sub(r"(?s)(```|~~~).*?\1", "", document(number))
        lines = markdown_lines(text, width)
        assert max((line_width(line) for line in lines), default=0) <= width, f"document {number}"
        letters = "".join(re.findall(r"\w", "".join(text_of(line) for line in lines)))
        lost = [word for word in re.findall(r"[^\W\d_]{3,}", text) if word not in letters]
        assert lost == [], f"document {number}"


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
def test_the_narrowest_widths_raise_nothing(width: int) -> None:
    for number in range(20):
        assert markdown_lines(document(number), width), f"document {number}"


def test_html_stays_text() -> None:
    assert shown("<think>why</think>\n\n<div>\nx\n</div>", 40) == ["<think>why</think>", "", "<div>", "x", "</div>"]


def test_list_items_are_indented_and_nested() -> None:
    assert shown("1. one two three four\n   - five six seven eight\n10. ten", 16) == [
        "1. one two three",
        "   four",
        "   ◦ five six",
        "     seven eight",
        "2. ten",
    ]


def test_indented_lines_stand_as_they_were_written_without_the_marks_of_code() -> None:
    """Once they had the marks of a code block, which `-x` did not print."""
    assert shown("a\n\n    b\n\n      c\n\nd", 40) == ["a", "", "    b", "", "      c", "", "d"]


def test_an_empty_code_block_has_no_line() -> None:
    assert shown("- a\n  ```sh\n  ```", 40) == ["• a", "", "  ```sh", "  ```"]


def test_single_line_breaks_are_kept() -> None:
    assert shown("Roses are red\nViolets are blue", 40) == ["Roses are red", "Violets are blue"]


def test_links_show_their_address_without_escapes() -> None:
    assert shown("[here](https://e.org/) <https://f.org>", 60) == ["here (https://e.org/) https://f.org"]


@pytest.mark.parametrize(
    ("link", "shown_text", "is_clickable", "has_name"),
    [
        ("[a](https://e.org/)", "a (https://e.org/)", True, True),
        ("<https://e.org/>", "https://e.org/", True, False),
        ("[HTTPS://e.org/](HTTPS://e.org/)", "HTTPS://e.org/", True, False),
        ("[a](MAILTO:a@e.org)", "a (MAILTO:a@e.org)", True, True),
        ("[a@e.org](MAILTO:a@e.org)", "a@e.org", True, False),
        ("<a@e.org>", "a@e.org", True, False),
        ("[*https://e.org*](https://e.org)", "https://e.org", True, False),
        ("[`https://e.org`](https://e.org)", "https://e.org", True, False),
        ("[a](ftp://e.org)", "a (ftp://e.org)", False, True),
        ("[a](file.md)", "a (file.md)", False, True),
        ("[file.md](file.md)", "file.md", False, False),
        ("[a](https:e.org)", "a (https:e.org)", False, True),
    ],
)
def test_a_link_is_clickable_and_named_on_the_screen_as_on_a_page(
    link: str, shown_text: str, is_clickable: bool, has_name: bool
) -> None:
    """`HTTPS://` was clickable on a page alone, and a styled address was called a name there."""
    (line,) = markdown_lines(link, 80)
    assert text_of(line) == shown_text
    assert any(" link " in f" {span.style}" for span in line) is is_clickable
    page = markdown_html(link)
    assert ("<a" in page) is is_clickable
    assert ('class="named"' in page or " (" in page) is has_name


@pytest.mark.parametrize(
    "formula",
    [
        r"\[\frac{a}{b} \\ c\]",
        "$$\n\\begin{pmatrix} *b* & c \\end{pmatrix}\n$$",
        r"$\binom{n}{k}^*y^*$",
        r"$\unknown*x*$",
        "$HOME/bin:$",
        r"$x^$",
        r"$\frac{1}$",
        "${}$",
        "$" + "{" * 390 + "$",
    ],
)
def test_a_formula_without_a_plain_form_is_shown_as_it_is_written(formula: str) -> None:
    """Once `\\(a+b\\)` lost its backslashes, and `$x^*y^*$` its asterisks."""
    assert shown(formula, 400) == formula.split("\n")
    assert text_of(markdown_lines(f"**bold** {formula}", 400)[0]).startswith("bold " + formula.split("\n")[0])


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"$E = mc^2$", "E = mc²"),
        (r"\(a+b\)", "a+b"),
        ("$$\na *b* \\, c\n$$", "a *b* c"),
        (r"$x_i^*y_j^*$", "xᵢ*yⱼ*"),
        (r"$\{a\}$", "{a}"),
        (r"\[x = \frac{-b \pm \sqrt{b^2-4ac}}{2a}\]", "x = (-b ± √(b²-4ac))/(2a)"),
        (r"$\alpha \to \beta$", "α → β"),
        (r"$\sum_{i=1}^{n} x_{i,j}$", "∑ᵢ₌₁ⁿ x_(i,j)"),
        (r"$\sin^2 \theta + \cos(2x)$", "sin² θ + cos(2x)"),
        (r"$\lim_{x \to 0} \frac{dy}{dx}$", "lim_(x → 0) dy/dx"),
        (r"$\text{if } x \in \mathbb{R}$", "if x ∈ ℝ"),
        (r"$90^\circ$ and $f'(x)$", "90° and f'(x)"),
        (r"$\left( \vec{v} \cdot \hat{n} \right)$", "(v\u20d7 · n\u0302)"),
        (r"$\boxed{42}\,\mathrm{km}$", "42 km"),
        (r"$\frac{1}{2}mv^2$ and $2\frac{1}{2}$", "(1/2)mv² and 2 1/2"),
        (r"$\frac{a}{b}\frac{c}{d}^2 + \frac{a}{b}$", "(a/b)(c/d)² + a/b"),
        (r"$\sqrt{2}\pi$ and $x\sqrt{y}$", "(√2)π and x√y"),
    ],
)
def test_a_formula_becomes_text(formula: str, text: str) -> None:
    assert shown(formula, 80) == [text]


def test_list_items_with_boxes_show_them() -> None:
    text = "- [x] done\n- [ ] *open*\n- [y] none\n- [x]none\n\n1. [x] kept"
    assert shown(text, 40) == ["☑ done", "☐ open", "• [y] none", "• [x]none", "", "1. [x] kept"]


def test_prices_and_variables_are_not_formulas() -> None:
    assert shown("from $5 to *$10*, $HOME and `$B` for **$x**", 60) == ["from $5 to $10, $HOME and $B for $x"]
    assert shown(r"\( alone \* and \[ too", 60) == ["( alone * and [ too"]


@pytest.mark.slow
def test_the_time_for_unclosed_formulas_is_linear() -> None:
    """Eight times as many take about eight times as long; sixty-four times would be quadratic."""
    seconds = []
    for count in (5_000, 40_000):
        began = time.process_time()
        assert "".join(shown(r"\(" * count, 80)) == "(" * count
        seconds.append(time.process_time() - began)
    assert seconds[1] < 20 * seconds[0]


def test_a_table_keeps_its_columns_where_they_are_legible() -> None:
    text = "| Name | N |\n|:--|--:|\n| 日本 | 7 |\n| b | 1234 |"
    assert shown(text, 40) == ["Name     N", "────  ────", "日本     7", "b     1234"]


def test_a_table_too_wide_becomes_records() -> None:
    text = (
        "| Model | Window | Notes | Speed |\n|--|--|--|--|\n"
        + "| Mistral seven | four thousand | rather long words | 2.5 tokens |\n" * 2
    )
    record = ["Model: Mistral seven", "Window: four thousand", "Notes: rather long words", "Speed: 2.5 tokens"]
    assert shown(text, 30) == [*record, "", *record]


def test_wide_cells_wrap_inside_their_column() -> None:
    text = "| a | b |\n|--|--|\n| " + "word " * 20 + "| x |"
    lines = shown(text, 40)
    assert lines[2] == "word word word word word word word     x" and all(len(line) <= 40 for line in lines)


def test_code_is_highlighted_with_the_lines_above_it() -> None:
    code = CodeHighlighter("python")
    lines = ["def f():", '    """Doc', *["", "words"] * 30, '"""', "    return 1"]
    assert [merged(code.add(line)) for line in lines] == [
        merged(line) for line in highlight("\n".join(lines), "python")[0]
    ]
    assert CodeHighlighter("nosuchlanguage").preview("inside") == (Span("inside", ""),)
    assert text_of(CodeHighlighter("").add("\tx")) == "    x"


def merged(line: Line) -> list[tuple[str, str]]:
    """Each character with its style."""
    return [(character, span.style) for span in line for character in span.text]


@pytest.mark.parametrize(
    "text", ["> " * 500 + "kept", "[1]: https://e.org/kept", "- " * 500 + "kept", "*" * 500 + "kept"]
)
def test_text_that_markdown_would_drop_is_kept(text: str) -> None:
    assert any("kept" in line for line in shown(text, 4000))


def test_very_deep_lists_are_rendered() -> None:
    assert len(markdown_lines("".join("  " * depth + "- x\n" for depth in range(100)), 40)) >= 50


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("a **bo", "a **bo**"),
        ("a **", "a "),
        ("a **bold*", "a **bold**"),
        ("a **bold**", "a **bold**"),
        ("a `co", "a `co`"),
        ("a `", "a "),
        ("`**` and", "`**` and"),
        ("**open before\n\nnow", "**open before\n\nnow"),
        ("plain", "plain"),
    ],
)
def test_open_marks_of_an_unfinished_text_are_closed(text: str, complete: str) -> None:
    assert close_open_marks(text) == complete


def test_a_list_in_a_quote_looks_like_one_outside() -> None:
    text = "intro\n\n- one\n  - two\n\nend"
    quoted = "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
    assert shown(quoted, 40) == [f"│ {line}".rstrip() for line in shown(text, 38)]
    assert shown(quoted, 40)[2:4] == ["│ • one", "│   ◦ two"]
