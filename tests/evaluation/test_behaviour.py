"""The behaviour suite: what it holds, and that it judges as it says."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.evaluation import behaviour
from sentiment.evaluation.behaviour.cases import spread
from sentiment.records import LABELS
from sentiment.text import normalise
from tests.predictions import behaviour_set, probabilities

CAPABILITIES = {
    "vocabulary", "negation", "contrast", "emoji", "mentions and names", "links", "hashtags", "typos",
    "elongation", "intensifiers", "temporal change", "questions", "irony", "fairness",
}  # fmt: skip


def test_the_suite_is_large_and_covers_every_capability() -> None:
    """At least 1,500 cases, all different, each with its own id."""
    cases = behaviour.cases()
    assert len(cases) >= 1_500
    assert len({case.id for case in cases}) == len({case.texts for case in cases}) == len(cases)
    assert {case.capability for case in cases} == CAPABILITIES
    assert all(count >= 30 for count in Counter(case.capability for case in cases).values())
    assert {case.kind for case in cases} == {"MFT", "INV", "DIR"}


def test_each_case_can_be_judged() -> None:
    """One text and its labels, or several texts and how they compare."""
    for case in behaviour.cases():
        if case.kind == "MFT":
            assert len(case.texts) == 1, case
            assert 0 < len(case.allowed) < len(LABELS), case
        else:
            assert len(set(case.texts)) == len(case.texts) > 1, case
            expected = [label for label in (case.rises, case.falls) if label is not None]
            assert len(expected) == (case.kind == "DIR"), case


def test_the_texts_are_written_as_people_write() -> None:
    """No empty place of a template, no doubled word or space, the first letter in upper case."""
    for text in behaviour.texts():
        assert normalise(text), text
        assert not re.search(r"[{}]|\s\s|^\s|\s$", text), text
        assert not re.search(r"\b(it it|the the|was was|is is|a an|so so|was a (?:boring|dull))\b", text), (
            text
        )
        assert not text[0].islower(), text
        assert len(text) <= 280


def test_the_suite_is_always_the_same() -> None:
    """Generated again, it has the same texts: predictions made today can be judged tomorrow."""
    first = behaviour.texts()
    behaviour.cases.cache_clear()
    behaviour.texts.cache_clear()
    assert behaviour.texts() == first
    assert sum(behaviour.fingerprint().rows.values()) == len(behaviour.cases())


def test_a_model_that_says_what_is_expected_fails_nothing_of_the_first_kind() -> None:
    """And cases that it gets wrong are those that are named."""
    right = behaviour.failures(behaviour_set().probabilities)
    assert all(not each.failed for each in right if each.kind == "MFT")
    wrong = behaviour.failures(behaviour_set(fails=3).probabilities)
    assert sum(len(each.failed) for each in wrong) == 3
    assert [case.id for each in wrong for case in each.failed] == [case.id for case in behaviour.cases()[:3]]
    assert sum(each.cases for each in wrong) == len(behaviour.cases())


def test_a_model_of_one_answer_fails_by_the_expectations() -> None:
    """It changes nothing, so it passes what must not change, and fails what it has to tell apart."""
    table = probabilities(np.full(len(behaviour.texts()), LABELS.index("neutral")))
    for each in behaviour.failures(table):
        if each.kind in ("INV", "DIR"):
            assert not each.failed, each.capability
        if each.capability in ("vocabulary", "negation", "emoji") and each.kind == "MFT":
            assert each.rate > 0.4


def test_a_changed_label_fails_an_invariance_and_a_moved_probability_a_direction() -> None:
    """Both by what the case says, with the tolerance of a tenth for the direction."""
    table = np.tile([0.3, 0.4, 0.3], (len(behaviour.texts()), 1))
    start = 0
    for case in behaviour.cases():
        last = start + len(case.texts) - 1
        if case.kind == "INV":
            table[last] = [0.4, 0.3, 0.3]
        elif case.kind == "DIR":
            column = LABELS.index(case.rises or case.falls or "neutral")
            table[last] = 0.4
            table[last, column] = 0.19 if case.rises else 0.41
        start += len(case.texts)
    failed = behaviour.failed(table)
    kinds = np.array([case.kind for case in behaviour.cases()])
    assert failed[kinds != "MFT"].all()


def test_answers_to_another_suite_are_refused() -> None:
    """One row a text, or nothing can be said."""
    with pytest.raises(ValueError, match="must have shape"):
        behaviour.failed(np.full((3, 3), 1 / 3))


@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4), data=st.data())
def test_combinations_are_different_and_use_many_words(sizes: list[int], data: st.DataObject) -> None:
    """However few are asked for; more than there are is an error of whoever wrote the template."""
    choices = [[f"{place}-{number}" for number in range(size)] for place, size in enumerate(sizes)]
    total = int(np.prod(sizes))
    count = data.draw(st.integers(0, total))
    combinations = list(spread(count, *choices))
    assert len(set(combinations)) == count
    with pytest.raises(ValueError, match="combinations"):
        list(spread(total + 1, *choices))
