"""The page's files over HTTP: what they are, what they forbid, how they are cached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sentiment import page

WEB = Path(page.__file__).with_name("web")
URL = "http://localhost:7071/api/app"


def _ask(name: str, known: str | None = None) -> page.PageFile:
    return page.answer(name, f"{URL}/{name}", known)


@pytest.mark.parametrize("path", sorted(WEB.iterdir()), ids=lambda path: path.name)
def test_every_file_is_served_as_what_it_is(path: Path) -> None:
    """A file that is added to the folder and not to the list would be missing in the browser."""
    file = _ask(path.name)
    assert (file.status, file.body) == (200, path.read_bytes())
    kind = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert file.headers["Content-Type"].startswith(kind[path.suffix])


def test_nothing_but_the_page_itself_may_run_or_be_reached() -> None:
    """No inline script or style, no other host, no frame, no form that leaves."""
    headers = _ask(page.PAGE).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    for name in ("script-src", "style-src", "img-src", "connect-src"):
        assert policy[name] == "'self'"
    for name in ("base-uri", "form-action", "frame-ancestors"):
        assert policy[name] == "'none'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_files_keep_to_the_policy() -> None:
    """No other host, no inline script or style, and no way to turn text into markup."""
    html = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    for path in WEB.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^//.*$|\s// .*$", "", text, flags=re.MULTILINE).replace("\\/", ""), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), path
        assert len(text.splitlines()) < 500, path


@pytest.mark.parametrize("wrap", ["{}", "W/{}", '"other", {}', "*"])
def test_what_the_browser_has_is_not_sent_again(wrap: str) -> None:
    """Also when a proxy has weakened the tag."""
    first = _ask("app.js")
    again = _ask("app.js", wrap.format(first.headers["ETag"]))
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Control"] == "public, no-cache"


def test_another_version_is_sent() -> None:
    assert _ask("app.js", '"older"').status == 200
    assert _ask("app.js").headers["ETag"] != _ask("style.css").headers["ETag"]


@pytest.mark.parametrize("name", ["../page.py", "..%2fpage.py", "", "/etc/passwd", "app.js\x00", "APP.JS"])
def test_nothing_else_can_be_read(name: str) -> None:
    file = _ask(name)
    assert (file.status, file.body) == (404, b"")


def test_a_slash_at_the_end_leads_to_the_page() -> None:
    """Its files are named relative to it."""
    file = page.answer(page.PAGE, f"{URL}/?a=b", None)
    assert (file.status, file.headers["Location"]) == (308, "../app")


def test_both_languages_say_the_same_things() -> None:
    """A sentence that is missing in one language would stop the page there."""
    words = (WEB / "words.js").read_text(encoding="utf-8")
    english, french = words.split("  fr: {")
    keys = [re.findall(r'^    "?([\w.-]+)"?: ', part, re.MULTILINE) for part in (english, french)]
    assert keys[0] == keys[1]
    assert len(keys[0]) > 50
    places = [re.findall(r"\{\w+\}", line) for line in words.splitlines()]
    half = len(keys[0])
    told = [
        sorted(found) for line, found in zip(words.splitlines(), places, strict=True) if line[:4] == "    "
    ]
    assert told[:half] == told[half:]


def test_every_sentence_the_page_asks_for_is_there() -> None:
    """In the markup and in the code."""
    words = (WEB / "words.js").read_text(encoding="utf-8")
    keys = set(re.findall(r'^    "?([\w.-]+)"?: ', words, re.MULTILINE))
    asked = set(re.findall(r'data-say="(\w+)"', (WEB / "index.html").read_text(encoding="utf-8")))
    asked |= set(re.findall(r'say\("([\w.]+)"', (WEB / "app.js").read_text(encoding="utf-8")))
    assert asked <= keys, asked - keys


def test_the_page_is_deployed() -> None:
    """`.funcignore` leaves it in."""
    ignored = (WEB.parent.parent / ".funcignore").read_text(encoding="utf-8").split()
    assert not {"sentiment", "sentiment/web", "web", "*.js", "*.html", "*.css"} & set(ignored)
