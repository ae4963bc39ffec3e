"""What MkDocs calls: it adds the generated pages and the pictures, which lie with the program that draws them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "tests" / "pictures"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is not in the folder of pages."""
    if str(ROOT) not in sys.path:  # MkDocs restores the path after it has loaded this module
        sys.path.insert(0, str(ROOT))
    from docs.generate import pages

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    for picture in sorted(PICTURES.glob("*.svg")):
        files.append(File.generated(config, f"pictures/{picture.name}", abs_src_path=str(picture)))
    return files
