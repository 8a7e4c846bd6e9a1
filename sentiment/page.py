"""The page's files as HTTP answers: read once, when they are first asked for."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

_FOLDER = Path(__file__).with_name("web")

PAGE = "index.html"

#: What may be asked for, and what it is: a path from outside never reaches the disk.
_TYPES = {
    PAGE: "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, but asked about every time: a deployment is seen at once and costs a 304.
    "Cache-Control": "public, no-cache",
}


class PageFile(NamedTuple):
    """One answer of the page."""

    status: int
    headers: dict[str, str]
    body: bytes


def answer(name: str, url: str, known: str | None) -> PageFile:
    """Return the file `name`; `url` is where it was asked for, `known` the request's If-None-Match.

    A file that is not of the page is a 404, one that the browser has already a 304.
    """
    if name == PAGE and urlsplit(url).path.endswith("/"):
        # The page names its files relative to itself, whatever prefix it is served under.
        return PageFile(308, {"Location": "../app"}, b"")
    if name not in _TYPES:
        return PageFile(404, {"X-Content-Type-Options": "nosniff", "Content-Type": "text/plain"}, b"")
    content, tag = _read(name)
    headers = {**_HEADERS, "Content-Type": _TYPES[name], "ETag": tag}
    # A proxy that compresses on the way marks the tag as weak (W/).
    tags = {one.strip().removeprefix("W/") for one in (known or "").split(",")}
    if tag in tags or "*" in tags:
        return PageFile(304, headers, b"")
    return PageFile(200, headers, content)


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = (_FOLDER / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
