"""The gate's report says on one page what was decided and why."""

from __future__ import annotations

import re

import msgspec

from sentiment.evaluation.gate import decide, refuse
from sentiment.evaluation.gate_records import Check, GatePolicy
from sentiment.evaluation.gate_report import render_gate
from tests.predictions import make_pair, replace_set

QUICK = GatePolicy(resamples=200)


def test_the_page_has_everything() -> None:
    """Verdict, checks, both sets, kinds of tweets, capabilities, budget and examples, for a promotion."""
    report = decide(*make_pair(1, traffic=(0.72, 0.80)), QUICK)
    page = render_gate(report)
    assert page.startswith("# Gate: promote\n\nCandidate `candidate` against champion `champion`.")
    for heading in (
        "Checks", "Golden set", "Held-out corrections", "Kinds of tweets", "Behaviour suite",
        "Calibration and latency", "Golden set: fixed", "Golden set: broken", "Held-out corrections: fixed",
    ):  # fmt: skip
        assert f"\n## {heading}\n" in page
    assert "| recall of neutral |" in page
    assert "| negation |" in page
    assert re.search(r"\| macro-recall \| 1,500 \| 0\.\d{4} \(0\.\d{4} to 0\.\d{4}\)", page)
    assert "Intervals cover 90%" in page
    assert report.golden_examples is not None
    assert 0 < len(report.golden_examples.broken) <= 10


def test_a_refusal_gives_its_reasons_first() -> None:
    """Each with its numbers, as a list."""
    page = render_gate(decide(*make_pair(2, golden=(0.72, 0.66), traffic=None), QUICK))
    assert page.startswith("# Gate: refuse")
    assert page.index("Refused because:") < page.index("## Checks")
    assert re.search(r"\n- golden\\_accuracy: accuracy -0\.0\d+ on the golden set", page)
    assert "**no**" in page


def test_what_could_not_be_compared_is_still_a_page() -> None:
    """Without models, without numbers."""
    trouble = Check(name="readable", passed=False, detail="champion: is no predictions.json")
    page = render_gate(refuse(trouble, None, None, QUICK))
    assert "Candidate unknown against champion unknown." in page
    assert "readable: champion: is no predictions.json" in page


def test_a_tweet_cannot_break_the_page() -> None:
    """Pipes, line breaks, markup, links and mentions of others are shown as they are."""
    champion, candidate = make_pair(1, traffic=(0.72, 0.80))
    hostile = "a | b\n# c <script>alert(1)</script> [x](http://evil) @team `code` *bold*" + "z" * 500
    texts = (hostile,) * len(champion.golden.texts)
    pair = [replace_set(each, "golden", texts=texts) for each in (champion, candidate)]
    page = render_gate(decide(pair[0], pair[1], QUICK))
    assert "<script>" not in page
    assert "@team" not in page
    row = next(line for line in page.splitlines() if line.startswith("| a "))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert len(row) < 400
    assert "\n# c" not in page


def test_sets_that_are_missing_are_left_out() -> None:
    """No held-out corrections and no suite: no empty tables."""
    pair = [msgspec.structs.replace(each, behaviour=None) for each in make_pair(1, traffic=None)]
    page = render_gate(decide(pair[0], pair[1], msgspec.structs.replace(QUICK, behaviour_required=False)))
    assert "Held-out" not in page.replace("held-out", "")
    assert "Behaviour suite" not in page
