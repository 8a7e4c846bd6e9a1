"""The parts of the demonstration that need no training; tests/training/test_loop_demo.py plays all of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from localhost.command_line import main
from localhost.demo.client import Client, Onlooker
from localhost.demo.command import describe
from localhost.demo.crowd import take_part
from localhost.demo.material import Tweet, distinct, gather, split, write
from localhost.demo.process import clear
from localhost.demo.story import Plan, Result, Score
from localhost.errors import LocalhostError
from localhost.running import only_one
from sentiment.evaluation.data import read_tweets
from tests.localhost.apps import ServedApp, until

#: Finds everything positive, fails on what says so, and is promoted by the first "promote".
APP = """
import json
said = []
version = ["old"]
@app.route(route="predict", methods=["POST"])
def predict(req: func.HttpRequest) -> func.HttpResponse:
    text = json.loads(req.get_body())["text"]
    if text == "promote":
        version[0] = "new"
    if text == "fail":
        return func.HttpResponse("no such luck", status_code=503)
    answer = {"label": "positive", "prediction": "token " + text, "model_version": version[0]}
    return func.HttpResponse(json.dumps(answer))
@app.route(route="feedback", methods=["POST"])
def feedback(req: func.HttpRequest) -> func.HttpResponse:
    said.append(json.loads(req.get_body()))
    return func.HttpResponse(json.dumps({"id": f"fb-{len(said)}"}), status_code=202)
@app.route(route="said", methods=["GET"])
def all_said(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(said))
"""


def _tweets(path: Path, *rows: tuple[str, str]) -> Path:
    write([Tweet(text, label) for label, text in rows], path)  # type: ignore[arg-type]
    return path


def _files(folder: Path) -> dict[str, Path | None]:
    return {
        "base": _tweets(folder / "base.tsv", ("neutral", "in the base set")),
        "validation": _tweets(folder / "validation.tsv", ("neutral", "to choose on")),
        "golden": _tweets(folder / "golden.tsv", ("neutral", "gold")),
    }


def test_a_file_is_split_in_the_order_of_its_time(tmp_path: Path) -> None:
    """The last fifth measures what the first four taught."""
    tweets = [Tweet(str(number), "neutral") for number in range(10)]
    stream, held_out = split(tweets)
    assert [tweet.text for tweet in stream] == list("01234567")
    assert [tweet.text for tweet in held_out] == list("89")


def test_no_text_is_in_two_places(tmp_path: Path) -> None:
    """Neither what was sent nor what the pipeline reads measures anything, however it is written."""
    rows = [("negative", f"@user{number} tweeted {number}") for number in range(8)]
    data = _tweets(tmp_path / "data.tsv", *rows, ("negative", "@another tweeted 3"), ("positive", "new"))
    material = gather(data, _files(tmp_path), tmp_path / "nothing is fetched")
    assert [tweet.text for tweet in material.held_out] == ["new"]
    again = _tweets(tmp_path / "again.tsv", *rows, ("neutral", "gold"), ("positive", "new"))
    assert [tweet.text for tweet in gather(again, _files(tmp_path), tmp_path).held_out] == ["new"]
    assert distinct([Tweet("@a b", "neutral"), Tweet("@c b", "neutral")]) == (Tweet("@a b", "neutral"),)
    assert not (tmp_path / "nothing is fetched").exists()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """A tweet with a line break stays one row."""
    path = tmp_path / "tweets.tsv"
    write([Tweet("two\nlines\tand a tab", "positive")], path)
    assert read_tweets(path).texts == ("two lines and a tab",)


def test_users_correct_what_is_wrong_and_confirm_a_share(serve: Callable[..., ServedApp]) -> None:
    """Until so many were corrected; with the token that came with the answer, under many names."""
    app = serve(APP)
    stream = [Tweet(f"{number}", "negative" if number % 2 else "positive") for number in range(100)]
    with Client(app.host.url) as client:
        feedback = take_part(client, stream, corrections=20, confirm=0.5)
        said = client.get("/api/said")
    assert feedback.sent == 40
    assert len(feedback.corrections) == 20
    assert 5 <= len(feedback.confirmations) <= 15
    assert [each["text"] for each in said if each["label"] == "negative"] == [
        tweet.text for tweet in stream[:40] if tweet.label == "negative"
    ]
    assert all(each["prediction"] == f"token {each['text']}" for each in said)
    assert len({each["user"] for each in said}) > 10
    with Client(app.host.url) as client:
        few = take_part(client, stream[:10], corrections=20, confirm=0)
    assert (few.sent, len(few.corrections), few.confirmations) == (10, 5, ())


def test_an_onlooker_counts_failures_and_sees_versions_change(serve: Callable[..., ServedApp]) -> None:
    """Every request is counted, and none of those that fail ends it."""
    app = serve(APP)
    texts = ["fine", "fail", "promote"]
    with Onlooker(app.host.url, texts, every=0.01, now=lambda: 7.0) as onlooker:
        until(lambda: "new" in onlooker.versions, "the new version")
    assert onlooker.versions == {"old": 7.0, "new": 7.0}
    assert onlooker.requests >= 3
    assert "503 no such luck" in onlooker.failures[0]
    assert onlooker.slowest > 0
    app.stop()
    with Onlooker(app.host.url, texts, every=0.01, now=lambda: 9.0) as onlooker:
        until(lambda: len(onlooker.failures) > 1, "requests that fail")


def test_a_refusal_is_said_as_such(tmp_path: Path) -> None:
    """And a promotion with both figures; failures are named."""
    result = Result(
        verdict="refused",
        reasons=("improvement: none",),
        job="job-1",
        corrections=300,
        confirmations=90,
        learned=0,
        before=Score("old-1", 0.75, 0.7),
        candidate=Score("new-1", 0.8, 0.745),
        requests=1000,
        failures=("3 s: 503",),
        versions={"old-1": 1.0},
        seconds=90.0,
    )
    said = "\n".join(describe(result, tmp_path))
    assert "REFUSED" in said
    assert "improvement: none" in said
    assert re.search(r"refused: new-1 +80.0% +74.5%", said)
    assert "1 failed" in said
    assert "3 s: 503" in said
    promoted = replace(result, verdict="promoted", reasons=(), failures=(), learned=390)
    said = "\n".join(describe(promoted, tmp_path))
    assert re.search(r"before: old-1 +75.0% +70.0%\nafter: +new-1 +80.0% +74.5%", said)
    assert "REFUSED" not in said
    assert "0 failed" in said


def test_the_state_of_a_demonstration_is_emptied_and_uses_installed_programs(tmp_path: Path) -> None:
    """Not under a demonstration that runs."""
    state, programs = tmp_path / "demo", tmp_path / "programs"
    (state / "azurite").mkdir(parents=True)
    programs.mkdir()
    (programs / "node").touch()
    clear(state, programs)
    clear(state, programs)
    assert [path.name for path in state.iterdir()] == ["programs"]
    assert (state / "programs" / "node").exists()
    with only_one(state), pytest.raises(LocalhostError, match="already runs"):
        clear(state, programs)


def test_two_thirds_of_the_corrections_start_the_cycle(tmp_path: Path) -> None:
    """The app is told so, and which files its pipeline reads."""
    files = _files(tmp_path)
    data = _tweets(tmp_path / "data.tsv", *[("negative", f"tweet {number}") for number in range(10)])
    plan = Plan(
        app=tmp_path,
        state=tmp_path,
        programs=tmp_path,
        port=0,
        material=gather(data, files, tmp_path),
        corrections=300,
        confirm=0.3,
    )
    assert plan.settings["RETRAIN_THRESHOLD"] == "200"
    assert plan.settings["RETRAIN_GOLDEN_DATA"] == (tmp_path / "golden.tsv").resolve().as_uri()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corrections", "0"], "positive whole number"),
        (["--confirm", "2"], "a share from 0 to 1"),
    ],
)
def test_a_malformed_option_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started."""
    with pytest.raises(SystemExit):
        main(["demo", *arguments])
    assert message in capsys.readouterr().err
