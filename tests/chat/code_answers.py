"""Answers with code blocks as models write them and as they could, and what a reader of CommonMark finds in them."""

from __future__ import annotations

import random

ANSWERS: dict[str, tuple[str, tuple[str, ...]]] = {  # name -> the answer and the contents of its code blocks
    "none": ("no block, only `code` and ``more``", ()),
    "one": ("a\n```py\nx = 1\n```\nb", ("x = 1\n",)),
    "two kinds": ("```\na\n```\ntext\n~~~\nb\n~~~\n", ("a\n", "b\n")),
    "in a list item": ("1. Run this:\n\n   ```sh\n   ls\n\n     -l\n   ```\n\n2. Done.", ("ls\n\n  -l\n",)),
    "in two items": ("- a\n  ```\n  x\n  ```\n- b\n  ```\n  y\n  ```\n", ("x\n", "y\n")),
    "in a nested list": ("- a\n  - b\n    1. c\n\n       ```\n       x\n       ```\n", ("x\n",)),
    "in an item, by four spaces": ("1. a\n\n    ```\n    x\n     y\n    ```\n2. b", ("x\n y\n",)),
    "two columns in, behind a wide marker": ("1. a\n  ```\n  x\n\ny\n  ```\nend", ("x\n\ny\n",)),
    "empty lines in an item": ("- a\n  ```\n  x\n\n\n\n  y\n  ```\n", ("x\n\n\n\ny\n",)),
    "open in an item": ("- ```\n  x\n\n\nend", ("x\n\n\n",)),
    "an item ends it": ("- ```\n  x\n- ```\n  y\n  ```", ("x\n", "y\n")),
    "in a quote": ("> ```\n> x\n>\n>  y\n> ```\n", ("x\n\n y\n",)),
    "the quote ends it": ("> ```\n> x\ny\n", ("x\n",)),
    "indented by two": ("  ```\n  two\n    four\n one\n  ```", ("two\n  four\none\n",)),
    "indented by four": ("    ```\n    no fence\n    ```", ()),
    "indented without a fence": ("So:\n\n    for x in y:\n\n        pass\n\nend", ()),
    "indented in an item": ("- a\n\n      no fence\n\n- b", ()),
    "empty": ("```\n```\n", ("",)),
    "an empty line": ("```\n\n```\n", ("\n",)),
    "CRLF": ("a\r\n\r\n```\r\nx\r\n\r\ny\r\n```\r\nb\r\n", ("x\n\ny\n",)),
    "CRLF in an item": ("- a\r\n  ```\r\n  x\r\n  ```\r\n", ("x\n",)),
    "CR": ("a\r```\rx\r```\rb", ("x\n",)),
    "tildes with backticks behind": ("~~~ py `a`\nx\n~~~\n", ("x\n",)),
    "backticks with one behind": ("```py `a`\nx\n", ()),
    "never closed": ("```sh\nls", ("ls\n",)),
    "never closed, with empty lines": ("```sh\nls\n\n", ("ls\n\n",)),
    "never begun": ("```", ("",)),
    "a longer end": ("```\nx\n`````\nend", ("x\n",)),
    "a shorter line is code": ("````\n```\ninner\n```\n````", ("```\ninner\n```\n",)),
    "the other mark is code": ("```\n~~~\n```", ("~~~\n",)),
    "an end with words is code": ("```\nx\n``` py\n```", ("x\n``` py\n",)),
    "an end with spaces": ("```\nx\n   ``` \t\nend", ("x\n",)),
    "an end by four spaces is code": ("```\nx\n    ```\n```", ("x\n    ```\n",)),
    "an end by a tab is code": ("```\nx\n\t```\n```", ("x\n\t```\n",)),
    "tabs": ("```make\nall:\n\tcc\n```", ("all:\n\tcc\n",)),
    "a tab under an indented fence": (" ```\n\tx\n ```", ("   x\n",)),
    "tabs in an item": ("- a\n\n\t```\n\tx\n\t\ty\n\t```", ("x\n\ty\n",)),
    "spaces at the end": ("```\nx  \n   \n```", ("x  \n   \n",)),
    "a form feed is no space": ("```\nx\n\f```\n```", ("x\n\f```\n",)),
    "a heading ends a list": ("- a\n# b\n```\nx\n```", ("x\n",)),
    "behind a table": ("| a |\n|---|\n| b |\n```\nx\n```", ("x\n",)),
    "below an empty item": ("-\n\n  ```\n  x\n\ny\n  ```", ("x\n\ny\n",)),
}
HTML = (
    "<details>\n<summary>Code</summary>\n```py\nx = 1\n```\n</details>",
    ("x = 1\n",),
)  # CommonMark: all of it is HTML

INDENTATIONS = ("", "", "", "", " ", "  ", "   ", "    ", "      ", "\t", " \t")
MARKERS = ("", "", "", "", "- ", "* ", "1. ", "2) ", "10. ", "> ", ">", "- - ", "> - ", "-\t", "-", "-     ")
WORDS = (
    *("```", "```", "```py", "~~~", "~~~~", "````", "~~~ a`b", "``` a`b", "x", "y = 1", "", "", "", "# h", "---"),
    *("===", "| a |", "|--|", "<div>", "\tz"),
)


def hostile_answer(number: int) -> str:
    """Lines that begin and end blocks in every order: the text with this number, always the same one."""
    seed = random.Random(number)
    lines = (seed.choice(INDENTATIONS) + seed.choice(MARKERS) + seed.choice(WORDS) for _ in range(seed.randint(1, 14)))
    return "\n".join(lines) + seed.choice(["", "\n"])
