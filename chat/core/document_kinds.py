"""What `-f` reads besides text and pictures, by the names that users know: for help, errors and documentation."""

from __future__ import annotations

DOCUMENT_KINDS = (
    "PDF", "DOCX", "XLSX", "XLS", "PPTX", "ODT", "ODS", "ODP", "RTF", "EPUB", "HTML", "e-mail", "notebook",
)  # fmt: skip
DOCUMENTS = ", ".join(DOCUMENT_KINDS)
EXTRA_READS = f"`-f` reads {', '.join(DOCUMENT_KINDS[:-2])} and {DOCUMENT_KINDS[-2]}"  # with the extra `documents`
