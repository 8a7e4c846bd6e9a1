"""The page as people use it: in a browser, against the running app."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.data.tables import TableClient

from localhost.azurite import Azurite
from sentiment import openapi
from tests.localhost.apps import until
from tests.web.conftest import Served, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.browser

Open = Callable[..., "Page"]

# The document has every route of the app and no other (tests/test_openapi.py).
_ROUTES = json.loads(openapi.document())["paths"]


def _classify(page: Page, text: str) -> None:
    page.get_by_label("Tweets").fill(text)
    page.get_by_role("button", name="Classify").click()
    page.locator(".card").first.wait_for()


def _wait_for(page: Page, selector: str, words: str) -> None:
    page.locator(selector, has_text=words).first.wait_for()


def test_a_tweet_is_classified_and_the_words_that_moved_it_are_marked(app: Served, open_page: Open) -> None:
    """Label, three bars with figures, and why, without another click."""
    page = open_page(app.url)
    _wait_for(page, "#model", "Model tiny-1. It recognises 50%")
    _classify(page, "I love the bus, the blue one")
    _wait_for(page, "#said", "classified: neutral")
    assert page.locator(".label").inner_text() == "■neutral"
    amounts = [float(text.rstrip("%")) for text in page.locator(".amount").all_inner_texts()]
    assert sum(amounts) == pytest.approx(100, abs=2)
    widths = page.locator(".fill").evaluate_all("fills => fills.map(fill => parseFloat(fill.style.width))")
    assert widths == pytest.approx(amounts, abs=0.51)
    _wait_for(page, ".reasons", "Speaks for neutral: “bus” +")
    assert "Speaks against: “love” −" in page.locator(".reasons").inner_text()
    assert page.locator("mark.for").all_inner_texts() == ["bus,"]
    assert page.locator("mark.against").all_inner_texts() == ["love"]


def test_markup_in_a_tweet_stays_text(app: Served, open_page: Open) -> None:
    """Before and after its words are marked."""
    text = "love <script>document.title='taken'</script> <img src=x onerror=alert(1)> &lt;b&gt;"
    page = open_page(app.url)
    _classify(page, text)
    assert page.locator("blockquote").inner_text() == text
    _wait_for(page, ".reasons", "Speaks for positive")
    assert page.locator("blockquote").inner_text() == text
    assert page.locator("blockquote img, blockquote script, blockquote b").count() == 0
    assert page.title() == "Tweet sentiment"


def test_emoji_before_a_word_do_not_shift_its_mark(app: Served, open_page: Open) -> None:
    """The API counts code points, the browser UTF-16."""
    page = open_page(app.url)
    _classify(page, "😀👍🏽 👩‍👩‍👧 love")
    page.locator("mark").first.wait_for()
    assert page.locator("mark").all_inner_texts() == ["love"]


def test_many_lines_are_a_batch(app: Served, open_page: Open) -> None:
    """More than one request takes, with empty lines and one that cannot be classified."""
    lines = [f"love {number}" for number in range(130)]
    lines[100] = "x" * 5001
    page = open_page(app.url)
    _classify(page, "\n\n".join(lines) + "\r\n \n")
    _wait_for(page, "#said", "129 tweets classified. One could not be.")
    cards = page.locator(".card")
    assert cards.count() == 130
    assert cards.nth(129).locator("blockquote").inner_text() == "love 129"
    assert "5,001 characters" in cards.nth(100).inner_text()
    assert cards.nth(0).locator("mark").count() == 0
    cards.nth(0).get_by_role("button", name="Why? Tweet 1").click()
    cards.nth(0).locator("mark").wait_for()
    assert cards.nth(0).locator("mark").inner_text() == "love"


def test_nothing_and_too_much_are_said_in_words(app: Served, open_page: Open) -> None:
    """Without asking the API."""
    page = open_page(app.url)
    page.get_by_role("button", name="Classify").click()
    _wait_for(page, "#said", "Write or paste a tweet first.")
    page.get_by_label("Tweets").fill("love\n" * 501)
    page.get_by_role("button", name="Classify").click()
    _wait_for(page, "#said", "At most 500 lines at a time; here are 501.")


def test_what_the_api_refuses_is_shown_in_its_words(app: Served, open_page: Open) -> None:
    """The problem's detail, in English."""
    page = open_page(app.url)
    page.get_by_label("Tweets").fill("x" * 5001)
    page.get_by_role("button", name="Classify").click()
    _wait_for(page, "#said.error", "The text has 5,001 characters, at most 5,000 are accepted.")
    assert page.locator("#said [lang=en]").count() == 1


def test_a_wrong_key_is_explained_and_the_right_one_stays_in_the_tab(
    locked_app: Served, open_page: Open
) -> None:
    """It survives a reload, is seen by no other tab, and can be forgotten."""
    page = open_page(locked_app.url)
    _wait_for(page, "#key-said", "This service asks for a key")
    field = page.get_by_label("Function key")
    assert field.evaluate("field => field === document.activeElement")
    for wrong, words in (
        ("nonsense", "does not accept this key"),
        ("clé à moi", "This cannot be a key"),
        (" ", "Paste a key first."),
    ):
        field.fill(wrong)
        field.press("Enter")
        _wait_for(page, "#key-said.error", words)
    field.fill(f" {locked_app.key}\n")
    field.press("Enter")
    _wait_for(page, "#key-said", "The key is accepted.")
    _classify(page, "love")
    page.reload()
    _wait_for(page, "#model", "Model tiny-1")
    assert page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
    other = open_page(locked_app.url)
    _wait_for(other, "#key-said", "This service asks for a key")
    page.locator("summary").click()
    page.get_by_role("button", name="Forget").click()
    page.get_by_label("Tweets").fill("love")
    page.get_by_role("button", name="Classify").click()
    _wait_for(page, "#key-said", "This service asks for a key")


def test_a_server_that_is_gone_is_said_in_words(azurite: Azurite, tmp_path: Path, open_page: Open) -> None:
    """What was written stays, and so do the answers."""
    with serve(tmp_path, azurite) as served:
        page = open_page(served.url)
        _classify(page, "love")
        served.stop()
    page.get_by_label("Tweets").fill("hate")
    page.get_by_role("button", name="Classify").click()
    _wait_for(page, "#said.error", "The service does not answer.")
    assert page.get_by_label("Tweets").input_value() == "hate"
    assert page.locator(".card").count() == 1
    page.get_by_role("button", name="Right", exact=True).click()
    _wait_for(page, ".state.error", "The service does not answer.")


def test_everything_can_be_done_with_the_keyboard(app: Served, open_page: Open) -> None:
    """Tab order is the order of the page, focus is visible, and nothing traps it."""
    page = open_page(app.url)
    _wait_for(page, "#model", "Model")
    press = page.keyboard.press
    press("Tab")  # the access key, closed
    press("Tab")
    page.keyboard.type("love the bus")
    assert page.get_by_label("Tweets").input_value() == "love the bus"
    assert _focus(page)["outline"] != "none"
    press("Control+Enter")
    page.locator("mark").first.wait_for()
    seen = []
    for _ in range(4):
        press("Tab")
        focus = _focus(page)
        assert focus["outline"] != "none"
        seen.append(focus["name"])
    assert seen[0] == "Classify"
    assert seen[1] == "Right"
    assert all(name.startswith("Wrong? It is: ") for name in seen[2:])


def _focus(page: Page) -> Any:
    return page.evaluate(
        "() => { const at = document.activeElement; return {"
        "name: at.getAttribute('aria-label') ?? at.textContent.trim(),"
        "outline: getComputedStyle(at).outlineStyle } }"
    )


def test_a_french_browser_is_answered_in_french(app: Served, open_page: Open) -> None:
    """And told so to screen readers."""
    page = open_page(app.url, locale="fr-FR")
    _wait_for(page, "#model", "Modèle tiny-1. Il reconnaît 50")
    assert page.locator("html").get_attribute("lang") == "fr"
    assert page.title() == "Sentiment des tweets"
    page.get_by_label("Tweets, un par ligne").fill("love")
    page.get_by_role("button", name="Classer").click()
    _wait_for(page, "#said", "Le tweet est classé : positif")
    _wait_for(page, ".reasons", "En faveur de positif : « love » +")
    assert page.get_by_role("button", name="C’est juste").is_visible()


@pytest.mark.parametrize("locale", ["en-GB", "fr-FR"])
def test_a_narrow_phone_scrolls_in_one_direction(app: Served, open_page: Open, locale: str) -> None:
    """360 pixels, with long words and a whole answer."""
    page = open_page(app.url, locale=locale, viewport={"width": 360, "height": 640})
    page.locator("summary").click()
    page.locator("#texts").fill("love " + "W" * 300 + "\nhate\n" + "x" * 5001)
    page.locator("#send").click()
    page.locator(".card").nth(2).wait_for()
    page.locator(".ask-why").first.click()
    page.locator("mark").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    outside = page.locator("body *").evaluate_all(
        "all => all.filter(one => one.getBoundingClientRect().right > 360)"
        ".map(one => one.outerHTML.slice(0, 99))"
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(app: Served, open_page: Open, axe: str, scheme: str) -> None:
    """Empty, answered, refused, with the key's form open: contrast, names, roles, order."""
    page = open_page(app.url, color_scheme=scheme, bypass_csp=True)
    _wait_for(page, "#model", "Model")
    assert _violations(page, axe) == []
    page.locator("summary").click()
    _classify(page, "love the bus\nhate\n" + "x" * 5001)
    page.get_by_role("button", name="Why? Tweet 1").click()
    page.locator("mark").first.wait_for()
    assert _violations(page, axe) == []
    page.get_by_label("Tweets").fill(" ")
    page.get_by_role("button", name="Classify").click()
    _wait_for(page, "#said.error", "Write")
    assert _violations(page, axe) == []


def _violations(page: Page, axe: str) -> list[str]:
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 10
    return [
        f"{one['id']}: {one['nodes'][0]['html']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_the_browser_holds_the_page_to_its_policy(app: Served, browser: Browser) -> None:
    """Should markup ever get into the page, it would be refused: as a string, as a style, as a script."""
    page = browser.new_page()
    page.goto(app.url)
    refused = "made => new Promise(done => { addEventListener('securitypolicyviolation', event =>"
    refused += " done(event.effectiveDirective)); const one = document.createElement(made);"
    refused += " one.append('x = 1'); document.head.append(one); })"
    assert page.evaluate(refused, "style") == "style-src-elem"
    assert page.evaluate(refused, "script") in ("script-src-elem", "require-trusted-types-for")
    assert (
        page.evaluate(
            "() => { try { document.body.innerHTML = '<b>x</b>' } catch (error) { return error.name } }"
        )
        == "TypeError"
    )
    page.close()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"state": "pending", "created_at": "2025-01-01T00:00:00Z"}, "Stored. It waits for its turn"),
        ({"state": "held", "why": "Others say otherwise."}, "held for now. Others say otherwise."),
        ({"state": "accepted"}, "the next training learns from it"),
        ({"state": "learned", "cycle": 3}, "The model has learned from it."),
        ({"state": "held", "why": "near-certain: over 98% sure"}, "a second person has to agree."),
        ({"state": "accepted", "kind": "confirmation"}, "Stored as a confirmation."),
        ({"state": "erased", "kind": "confirmation"}, "It was erased."),
        ({"state": "<i>new</i>"}, "Its state: <i>new</i>."),
    ],
)
def test_what_became_of_a_correction_is_said_in_words(
    app: Served, open_page: Open, found: dict[str, str], words: str
) -> None:
    """Whatever it is, also on the way there; these states take weeks or several people to bring about."""
    page = open_page(app.url)
    looks: list[str] = []

    def look(route: Route) -> None:
        looks.append(route.request.url)
        on_its_way = len(looks) < 3
        route.fulfill(
            status=404 if len(looks) == 1 else 200,
            json={"id": "a/b", **({"state": "queued"} if on_its_way else found)},
        )

    page.route("**/api/feedback", lambda route: route.fulfill(status=202, json={"id": "a/b"}))
    page.route("**/api/corrections/*", look)
    _classify(page, "love")
    page.get_by_role("button", name="Right", exact=True).click()
    _wait_for(page, ".state", "Thank you. Your answer is on its way")
    _wait_for(page, ".state", words)
    assert all(url.endswith("/api/corrections/a%2Fb") for url in looks)


@pytest.mark.skipif("/feedback" not in _ROUTES, reason="this app has no POST /api/feedback yet")
@pytest.mark.parametrize("verdict", ["Right", "Wrong? It is: negative"])
def test_one_click_says_whether_it_is_right_and_the_answer_is_stored(
    app: Served, open_page: Open, verdict: str
) -> None:
    """The page shows what became of it, and the table has it."""
    page = open_page(app.url)
    _classify(page, f"love {verdict}")
    with page.expect_response(lambda response: response.url.endswith("/api/feedback")) as sent:
        page.get_by_role("button", name=verdict, exact=True).click()
    assert sent.value.status == 202
    identifier = sent.value.json()["id"]
    _wait_for(page, ".state", "Thank you.")
    _wait_for(page, ".state", "Stored")
    assert not page.get_by_role("button", name=verdict, exact=True).is_visible()
    assert "Stored as a confirmation" in page.locator(".state").inner_text() or verdict != "Right"
    assert any(identifier in row["RowKey"] for row in _stored(app))


def _stored(app: Served) -> list[Any]:
    with TableClient.from_connection_string(app.storage, "corrections") as table:
        return list(table.list_entities())


@pytest.mark.skipif("/feedback" not in _ROUTES, reason="this app has no POST /api/feedback yet")
def test_the_keyboard_is_not_lost_when_the_buttons_go(app: Served, open_page: Open) -> None:
    """Focus moves to what is said instead of them."""
    page = open_page(app.url)
    _classify(page, "love the keyboard")
    page.get_by_role("button", name="Right", exact=True).press("Enter")
    _wait_for(page, ".state", "Thank you.")
    until(lambda: "Thank you." in _focus(page)["name"], "focus is on the state")
