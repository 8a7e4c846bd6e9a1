"""Which corrections a model may learn from."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sentiment.acceptance import judge
from sentiment.records import LABELS, Label, Voice

_numbers = count()


def _voice(
    corrected: Label = "negative",
    *,
    text: str = "a",
    user: str | None = None,
    id: str | None = None,
    predicted: Label = "positive",
    confidence: float | None = 0.6,
    learned: bool = False,
) -> Voice:
    number = next(_numbers)
    return Voice(
        id=id or f"id-{number}",
        text_key=text,
        predicted=predicted,
        corrected=corrected,
        user=user,
        created_at=f"2025-01-01T00:00:{number:06}",
        confidence=confidence,
        learned=learned,
    )


def _states(*voices: Voice, user_cap: float = 1.0) -> list[str]:
    judgements = judge(voices, user_cap=user_cap)
    return [
        f"{judgements[voice.id].state} {judgements[voice.id].why.split(':')[0]}".strip() for voice in voices
    ]


def _counted(*voices: Voice, user_cap: float = 1.0) -> int:
    return sum(judgement.counts for judgement in judge(voices, user_cap=user_cap).values())


def test_the_same_text_counts_once() -> None:
    """However many say it."""
    first, second = _voice(user="anna"), _voice(user="bob")
    assert _states(first, second) == ["accepted", f"accepted duplicate of {first.id}"]
    assert _counted(first, second, _voice(text="b")) == 2


def test_a_confirmation_is_no_error() -> None:
    """It is accepted, and counts for nothing."""
    assert _states(_voice("positive")) == ["accepted"]
    assert _counted(_voice("positive")) == 0


@pytest.mark.parametrize(
    ("said", "settled"),
    [
        (["negative", "neutral"], False),
        (["negative", "negative"], True),
        (["negative", "negative", "neutral"], True),
        (["negative", "negative", "neutral", "neutral"], False),
        (["negative", "negative", "negative", "neutral", "neutral"], False),
        (["negative", "negative", "positive"], True),
    ],
)
def test_a_disagreement_needs_two_thirds_of_three_users(said: list[Label], settled: bool) -> None:
    """Until then nothing of it is used; a confirmation is a vote like any other."""
    voices = [_voice(label, user=f"user {number}") for number, label in enumerate(said)]
    states = _states(*voices)
    if settled:
        assert states[0] == "accepted"
        assert all(
            state == "held outvoted" for state, label in zip(states, said, strict=True) if label != said[0]
        )
        assert _counted(*voices) == 1
    else:
        assert set(states) == {"held conflict"}


def test_many_without_a_name_are_one_voice() -> None:
    """Nobody can tell whether they are several."""
    nameless = [_voice("negative") for _ in range(5)]
    assert set(_states(*nameless, _voice("neutral", user="anna"))) == {"held conflict"}
    assert (
        _states(nameless[0], _voice("negative", user="bob"), _voice("neutral", user="anna"))[0] == "accepted"
    )


def test_who_changes_their_mind_is_heard_once() -> None:
    """The same user, or the same prediction where there is no user."""
    assert _states(_voice("neutral", user="anna"), _voice("negative", user="anna")) == [
        "held superseded",
        "accepted",
    ]
    once, again = _voice("neutral", id="fb-1-neutral-2"), _voice("negative", id="fb-1-negative-3")
    assert _states(once, again) == ["held superseded", "accepted"]


def test_a_near_certain_prediction_is_not_contradicted_by_one() -> None:
    """A second user has to agree."""
    first = _voice(user="anna", confidence=0.99)
    assert _states(first) == ["held near-certain"]
    assert _states(first, _voice(user="anna", confidence=0.99)) == ["held near-certain"] * 2
    assert _states(first, _voice(user="bob", confidence=0.99))[0] == "accepted"
    assert _states(_voice(confidence=0.98)) == ["accepted"]
    assert _states(_voice("positive", confidence=0.99)) == ["accepted"]


def test_one_user_gives_no_more_than_the_cap() -> None:
    """The oldest first, and at least one."""
    eager = [_voice(text=f"e{number}", user="eager") for number in range(30)]
    others = [_voice(text=f"o{number}", user=f"other {number}") for number in range(8)]
    states = _states(*eager, *others, user_cap=0.2)
    assert states[:30] == ["accepted"] * 2 + ["held user-cap"] * 28
    assert states[30:] == ["accepted"] * 8
    assert _states(*eager[:3], user_cap=0.2) == ["accepted", "held user-cap", "held user-cap"]
    assert _counted(*eager, user_cap=1.0) == 30
    assert _counted(*(_voice(text=str(number)) for number in range(30)), user_cap=0.2) == 30


def _learn(*voices: Voice) -> list[Voice]:
    """Return the voices after a cycle that has learned all that is accepted."""
    judgements = judge(voices, user_cap=1.0)
    accepted = {id for id, judgement in judgements.items() if judgement.state == "accepted"}
    return [replace(voice, learned=voice.learned or voice.id in accepted) for voice in voices]


def _waiting(*voices: Voice) -> list[str]:
    judgements = judge(voices, user_cap=1.0)
    return [
        f"{judgement.state} {judgement.why.split(':')[0]}".strip()
        for judgement in (judgements[voice.id] for voice in voices if not voice.learned)
    ]


@pytest.mark.parametrize(
    ("voices", "why"),
    [
        (
            [_voice(user="anna"), _voice(user="bob"), _voice("neutral", user="carl", predicted="negative")],
            "held outvoted",
        ),
        ([_voice("neutral", user="anna"), _voice(user="anna")], "held superseded"),
        ([_voice(user="anna", confidence=0.99), _voice(user="anna")], "held near-certain"),
        ([_voice(user="anna"), _voice(user="bob"), _voice("neutral")], "held outvoted"),
    ],
)
def test_who_did_not_win_does_not_win_once_the_others_are_learned(voices: list[Voice], why: str) -> None:
    """What was learned is heard as before: nobody inherits the text."""
    learned = _learn(*voices)
    assert sum(voice.learned for voice in learned) == len(voices) - 1
    assert _waiting(*learned) == [why]
    assert _counted(*learned) == 0


def test_new_voices_can_win_against_what_was_learned() -> None:
    """With two thirds of all that were ever heard; one alone is a conflict."""
    learned = [replace(_voice(user="anna"), learned=True)]
    against = [_voice("neutral", user=f"user {number}", predicted="negative") for number in range(2)]
    assert _waiting(*learned, against[0]) == ["held conflict"]
    assert _waiting(*learned, *against) == ["accepted", "accepted duplicate of " + against[0].id]
    assert _counted(*learned, *against) == 1


def test_who_was_learned_may_change_their_mind() -> None:
    """Their later voice stands for them."""
    learned = replace(_voice(user="anna"), learned=True)
    assert _waiting(learned, _voice("neutral", user="anna", predicted="negative")) == ["accepted"]


def test_a_learned_voice_seconds_against_a_near_certain_prediction() -> None:
    """It is another user who agrees."""
    learned = replace(_voice(user="anna"), learned=True)
    assert _waiting(learned, _voice(user="bob", confidence=0.99)) == ["accepted"]


_voices = st.lists(
    st.builds(
        _voice,
        st.sampled_from(LABELS),
        text=st.sampled_from("abcdefgh"),
        user=st.none() | st.sampled_from(["anna", "bob", "carl", "dora"]),
        predicted=st.sampled_from(LABELS),
        confidence=st.none() | st.sampled_from([0.5, 0.99]),
        learned=st.booleans(),
    ),
    max_size=30,
)


@given(_voices, st.sampled_from([0.1, 0.2, 0.5, 1.0]), st.randoms())
def test_what_holds_of_every_judgement(voices: list[Voice], user_cap: float, chance: object) -> None:
    """All that waits is judged; one error a text; no user above the cap; the order makes no difference."""
    judgements = judge(voices, user_cap=user_cap)
    assert judgements.keys() == {voice.id for voice in voices if not voice.learned}
    counted = [voice for voice in voices if voice.id in judgements and judgements[voice.id].counts]
    assert len({voice.text_key for voice in counted}) == len(counted)
    assert all(voice.predicted != voice.corrected for voice in counted)
    for number in Counter(voice.user for voice in counted if voice.user).values():
        assert number <= max(1, user_cap * len(counted) + 1e-9)
    shuffled = list(voices)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judge(shuffled, user_cap=user_cap) == judgements
    assert all(judgement.why for judgement in judgements.values() if judgement.state == "held")


@given(_voices)
def test_learning_changes_no_judgement_on_what_it_leaves(voices: list[Voice]) -> None:
    """What was held before a cycle has learned all that is accepted is held after it, for the same reason."""
    learned = _learn(*voices)
    left = {voice.id for voice in learned if not voice.learned}
    before = judge(voices, user_cap=1.0)
    after = judge(learned, user_cap=1.0)
    assert after == {id: before[id] for id in left}
    assert all(judgement.state == "held" for judgement in after.values())


@given(_voices, st.sampled_from(LABELS))
def test_enough_new_users_win_against_whatever_was_learned(voices: list[Voice], label: Label) -> None:
    """Twice as many as were ever heard of the text: nothing that was learned is for ever."""
    learned = [replace(voice, text_key="a", learned=True) for voice in voices]
    other = LABELS[LABELS.index(label) - 1]
    new = [_voice(label, user=f"new {number}", predicted=other) for number in range(max(3, 2 * len(learned)))]
    judgements = judge([*learned, *new], user_cap=1.0)
    assert sum(judgement.counts for judgement in judgements.values()) == 1
    assert all(judgement.state == "accepted" for judgement in judgements.values())
