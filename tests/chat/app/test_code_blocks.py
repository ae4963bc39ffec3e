"""Fenced blocks as CommonMark reads them."""

from __future__ import annotations

import pytest

from chat.app.code_blocks import code_blocks


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("no block", ()),
        ("a\n```py\nx = 1\n```\nb", ("x = 1\n",)),
        ("```\na\n```\ntext\n~~~\nb\n~~~\n", ("a\n", "b\n")),
        ("````\n```\ninner\n```\n````", ("```\ninner\n```\n",)),
        ("```sh\nnever closed", ("never closed\n",)),
        ("  ```\n  two\n    four\n  ```", ("two\n  four\n",)),
        ("    ```\n    an indented block, no fence\n    ```", ()),
        ("```not `a` fence\n", ()),
        ("```\n```", ("",)),
        ("```\n~~~\n```", ("~~~\n",)),
        ("```\r\na\r\n```\r\n", ("a\n",)),
        ("```\nx\n``` py\n```", ("x\n``` py\n",)),
    ],
)
def test_blocks_are_what_commonmark_says(text: str, blocks: tuple[str, ...]) -> None:
    assert code_blocks(text) == blocks
