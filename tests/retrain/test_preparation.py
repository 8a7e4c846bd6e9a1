"""The data of a cycle: every row is accounted for, and nothing that is judged on is trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from localhost.azurite import Azurite
from sentiment.errors import DataError, InvalidModel
from sentiment.evaluation.data import read_tweets
from sentiment.feedback.messages import text_key
from sentiment.manifest import read_manifest, verify
from sentiment.records import LABELS, Label, Sample
from sentiment.retrain.near_duplicates import near_duplicates
from sentiment.retrain.preparation import (
    FINGERPRINTS,
    FeedbackRow,
    Said,
    is_held_out,
    prepare_rows,
    read_cycle,
    read_fingerprints,
)
from tests.retrain.cycles import BASE, GOLDEN, NOW, VALIDATION, Cycle, contents, write_tsv
from tests.wire import ProcessDied

TEXTS = [
    f"{who} {what} the {where} {when}"
    for who in ("nobody", "my brother", "our team")
    for what in ("likes", "forgot about", "complains of")
    for where in ("airport", "library", "old bridge")
    for when in ("today", "every single week")
]
TRAINED = next(text for text in TEXTS if not is_held_out(text))
HELD = next(text for text in TEXTS if is_held_out(text))
EMPTY: dict[str, list[str]] = {"base": [], "validation": [], "golden": []}


def _said(
    text: str, corrected: Label = "negative", predicted: Label = "positive", cycle: int = 1, at: str = ""
) -> Said:
    return Said(text=text, corrected=corrected, predicted=predicted, cycle=cycle, at=at)


def _sample(text: str, predicted: Label = "neutral", at: str = "1") -> Sample:
    return Sample(
        text=text, text_key=text_key(text), predicted=predicted, confidence=0.9, model_version="v", at=at
    )


@pytest.fixture
def cycle(azurite: Azurite, tmp_path: Path) -> Iterator[Cycle]:
    with Cycle.open(azurite, tmp_path) as cycle:
        yield cycle


def _rows(path: Path) -> list[FeedbackRow]:
    return [FeedbackRow(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _out(cycle: Cycle, name: str) -> list[str]:
    return [row.text for row in _rows(cycle.out / name)]


# --- which rows --------------------------------------------------------------


def test_a_fifth_of_the_texts_is_held_out_whatever_they_look_like() -> None:
    """The same text with another handle or case of white space is on the same side."""
    texts = [f"tweet number {number}" for number in range(2000)]
    assert 0.17 < sum(map(is_held_out, texts)) / 2000 < 0.23
    assert all(is_held_out(f"@a {text}") == is_held_out(f"@b  {text} ") for text in texts)


def test_each_text_is_one_row_that_says_what_it_is() -> None:
    rows = prepare_rows([_said(TRAINED), _said(HELD, "neutral", "neutral")], **EMPTY)
    assert rows.feedback == [
        FeedbackRow(label="negative", text=TRAINED, predicted="positive", kind="error", cycle=1)
    ]
    assert rows.held_out == [
        FeedbackRow(label="neutral", text=HELD, predicted="neutral", kind="confirmation", cycle=1)
    ]


def test_the_latest_accepted_label_of_a_text_wins() -> None:
    """What an earlier cycle learned is contradicted; the cycle is the one that learned the text first."""
    rows = prepare_rows([_said(TRAINED, "neutral", cycle=2), _said(f" {TRAINED}", cycle=1)], **EMPTY)
    (row,) = rows.feedback
    assert (row.label, row.kind, row.cycle) == ("neutral", "error", 1)
    assert rows.removed["contradicted by a later correction"] == 1


def test_an_error_stays_one_when_a_later_model_is_confirmed() -> None:
    rows = prepare_rows([_said(TRAINED, cycle=1), _said(TRAINED, "negative", "negative", cycle=2)], **EMPTY)
    (row,) = rows.feedback
    assert (row.predicted, row.kind) == ("positive", "error")


def test_a_sample_is_a_prediction_that_nobody_spoke_of() -> None:
    """Of one text the last; a disputed text is spoken of too."""
    others = [text for text in TEXTS if text != TRAINED and not is_held_out(text)][:2]
    samples = [_sample(TRAINED), _sample(others[0]), _sample(others[0], "positive", "2"), _sample(others[1])]
    rows = prepare_rows([_said(TRAINED)], **EMPTY, samples=samples, disputed={text_key(others[1])}, cycle=3)
    assert [(row.kind, row.label, row.text, row.cycle) for row in rows.feedback] == [
        ("error", "negative", TRAINED, 1),
        ("sample", "positive", others[0], 3),
    ]


def test_a_text_that_was_learned_before_is_not_what_is_held_out_now() -> None:
    """Nearly the same words: in one cycle the held-out one stays; learned before, it is the one that goes."""
    near = next(text for number in range(100) if not is_held_out(text := f"{HELD} {HELD} {number}"))
    longer = next(text for number in range(100, 999) if is_held_out(text := f"{HELD} {HELD} {number}"))
    together = prepare_rows([_said(near), _said(longer)], **EMPTY)
    assert (together.feedback, [row.text for row in together.held_out]) == ([], [longer])
    later = prepare_rows([_said(near, cycle=1), _said(longer, cycle=2)], **EMPTY)
    assert ([row.text for row in later.feedback], later.held_out) == ([near], [])


decorations = st.sampled_from(["{}", "@anna {}", "{} https://t.co/x", "RT {}", "{}!!"])
tweets = st.builds(lambda text, how: how.format(text), st.sampled_from(TEXTS[:20]), decorations)
labels = st.sampled_from(LABELS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(_said, tweets, labels, labels, st.integers(1, 3), st.sampled_from("abc")), max_size=15
    ),
    st.lists(tweets, max_size=6),
    st.lists(tweets, max_size=2),
    st.lists(tweets, max_size=2),
    st.lists(st.builds(_sample, tweets, labels), max_size=4),
)
def test_nothing_that_is_judged_on_is_trained_on(
    said: list[Said], base: list[str], validation: list[str], golden: list[str], samples: list[Sample]
) -> None:
    """Nor anything nearly the same; and every row that is not there is counted."""
    rows = prepare_rows(said, base=base, validation=validation, golden=golden, samples=samples, cycle=3)
    trained = [row.text for row in rows.feedback] + [base[place] for place in rows.base]
    held_out = [row.text for row in rows.held_out]
    assert not near_duplicates(trained, [*held_out, *validation, *golden]).any()
    assert not near_duplicates(held_out, [*validation, *golden]).any()
    assert all(is_held_out(text) for text in held_out)
    assert not any(is_held_out(row.text) for row in rows.feedback)
    assert len({text_key(row.text) for row in (*rows.feedback, *rows.held_out)}) == len(
        rows.feedback + rows.held_out
    )
    left = len(rows.feedback) + len(rows.held_out) + len(rows.base) + sum(rows.removed.values())
    assert left == len(said) + len(samples) + len(base)


# --- the folder --------------------------------------------------------------


def test_the_folder_has_everything_that_the_other_steps_need(cycle: Cycle) -> None:
    """What was learned before, what is learned now, the champion; nothing of anybody else's."""
    texts = [text for text in TEXTS if not is_held_out(text)][:5]
    for number, text in enumerate(texts):
        cycle.say(f"id-{number}", text)
    cycle.say("held", HELD)
    assert cycle.store.learn("id-0", 1)
    assert cycle.store.learn("id-1", 3)
    manifest = cycle.decide("id-2", "id-3", "held", cycle=2)
    written = cycle.prepare(manifest)
    rows = {row.text: row for row in _rows(cycle.out / "feedback.jsonl")}
    assert {text: row.cycle for text, row in rows.items()} == {texts[0]: 1, texts[2]: 2, texts[3]: 2}
    assert _out(cycle, "heldout.jsonl") == [HELD]
    verify(cycle.out / "champion", read_manifest(cycle.out / "champion")[0])
    assert read_cycle(cycle.out) == manifest
    assert read_fingerprints(cycle.out) == written
    assert len(read_tweets(cycle.out / "base.tsv")) == len(BASE)
    for name, expected in (("validation", VALIDATION), ("golden", GOLDEN)):
        tweets = read_tweets(cycle.out / f"{name}.tsv")
        assert len(tweets) == len(expected)
        assert tweets.fingerprint == written.files[f"{name}.tsv"] == written.sources[name]
    assert written.files["feedback.jsonl"].rows == {"negative": 3, "neutral": 0, "positive": 0}


def test_what_is_erased_after_the_decision_is_not_read(cycle: Cycle) -> None:
    """Not even where the folder was complete before."""
    texts = [text for text in TEXTS if not is_held_out(text)][:2]
    manifest = cycle.decide(cycle.say("one", texts[0]), cycle.say("two", texts[1]))
    cycle.prepare(manifest)
    assert sorted(_out(cycle, "feedback.jsonl")) == sorted(texts)
    cycle.store.erase_user(cycle.store.get("one").user or "", now=NOW)
    written = cycle.prepare(manifest)
    assert _out(cycle, "feedback.jsonl") == [texts[1]]
    assert written.removed["erased since the cycle was decided"] == 1
    assert texts[0].encode() not in b"".join(contents(cycle.out).values())


def test_a_crash_anywhere_is_repeated(azurite: Azurite, tmp_path: Path) -> None:
    """A process that dies after any answer leaves no folder that looks complete; repeated, it is whole."""
    crashes = 0
    for number in range(1, 100):
        with Cycle.open(azurite, tmp_path) as cycle:
            manifest = cycle.decide(cycle.say("one", TRAINED))
            cycle.out.mkdir()
            cycle.wire.forget()
            cycle.wire.die_after = number
            try:
                cycle.prepare(manifest)
            except ProcessDied:
                crashes += 1
            else:
                break
            assert not (cycle.out / FINGERPRINTS).exists()
            cycle.wire.forget()
            cycle.prepare(manifest)
            assert _out(cycle, "feedback.jsonl") == [TRAINED]
    assert crashes > 10


def test_a_folder_that_a_kill_left_half_written_is_completed(cycle: Cycle) -> None:
    """Whatever file is missing or cut short; and a complete one is left alone."""
    manifest = cycle.decide(cycle.say("one", TRAINED))
    cycle.prepare(manifest)
    whole = contents(cycle.out)
    before = (cycle.out / FINGERPRINTS).stat().st_mtime_ns
    cycle.prepare(manifest)
    assert (cycle.out / FINGERPRINTS).stat().st_mtime_ns == before
    for name in whole:
        (cycle.out / name).write_bytes(whole[name][:-1])
        cycle.prepare(manifest)
        assert contents(cycle.out) == whole, name
        (cycle.out / name).unlink()
        cycle.prepare(manifest)
        assert contents(cycle.out) == whole, name


@pytest.mark.parametrize("name", ["base", "validation", "golden"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "cannot be read"),
        ([], "has no rows"),
        ([("negative", "so bad"), ("neutral", "a bus")], "has no positive tweets"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    cycle: Cycle, name: str, rows: list[tuple[str, str]] | None, message: str
) -> None:
    path = cycle.folder / f"{name}.tsv"
    path.unlink()
    if rows is not None:
        write_tsv(path, rows)
    with pytest.raises(DataError, match=message) as caught:
        cycle.prepare(cycle.decide())
    assert caught.value.path == path
    assert not cycle.out.exists()


def test_a_folder_of_somebody_elses_is_not_touched(cycle: Cycle) -> None:
    cycle.out.mkdir()
    (cycle.out / "thesis.doc").write_bytes(b"years of work")
    with pytest.raises(DataError, match="holds something else"):
        cycle.prepare(cycle.decide())
    assert contents(cycle.out) == {"thesis.doc": b"years of work"}


def test_an_altered_champion_is_refused(cycle: Cycle) -> None:
    """What is trained on is the champion that the cycle names, to the byte."""
    wrong = replace(cycle.decide(), champion_sha256="0" * 64)
    with pytest.raises(InvalidModel):
        cycle.prepare(wrong)
    assert not (cycle.out / FINGERPRINTS).exists()
