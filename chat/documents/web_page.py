"""One page or file of the web: asked for once, without cookies, and nothing in it is run."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from chat import __version__
from chat.errors import DataError, FileError, reason_text
from chat.system.network import require_network
from chat.system.terminal_text import escape_line

MOST_BYTES = 20 << 20
SILENCE_SECONDS = 30


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows up to five, and never from https to http."""

    max_redirections = 5

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise FileError(f"{req.full_url}: leads to an address without encryption", hint=f"`-f {newurl}` reads it")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(address: str) -> tuple[bytes, str]:
    """The content of an address.

    Returns:
        The bytes, and their media type without parameters, in lower case; empty if the server does not say.

    Raises:
        FileError: the server cannot be reached, or refuses.
        DataError: it sends more than 20 MiB.
    """
    shown = escape_line(address)
    require_network(f"asking for {shown}")
    opener = urllib.request.build_opener(_Redirects)
    headers = {"User-Agent": f"mistral-chat/{__version__}", "Accept": "text/html, text/*, application/pdf, */*;q=0.5"}
    try:
        request = urllib.request.Request(address, headers=headers)
        with opener.open(request, timeout=SILENCE_SECONDS) as response:
            data = response.read(MOST_BYTES + 1)
            media = response.headers.get_content_type() if response.headers.get("Content-Type") else ""
            is_short = (response.length or 0) > 0 and len(data) <= MOST_BYTES
    except urllib.error.HTTPError as error:
        raise FileError(f"{shown}: the server answers {error.code} ({error.reason})") from error
    except urllib.error.URLError as error:
        raise FileError(f"{shown}: cannot be reached: {reason_text(error.reason)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FileError(f"{shown}: cannot be read: {reason_text(error)}") from error
    if len(data) > MOST_BYTES:
        raise DataError(f"{shown}: is larger than the limit of {MOST_BYTES >> 20} MiB")
    if is_short:
        raise FileError(f"{shown}: the connection ended before all of it had arrived")
    return data, media.lower()
