"""Minimum functionality: short texts whose label every reader agrees on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sentiment.evaluation.behaviour.cases import (
    NEGATIVE,
    NEUTRAL,
    NOT_NEGATIVE,
    NOT_POSITIVE,
    POSITIVE,
    Case,
    sentence,
    spread,
)
from sentiment.evaluation.behaviour.words import (
    BAD_EMOJI,
    BAD_SENTENCES,
    BAD_VERBS,
    CITIES,
    CLOSERS,
    DAYS,
    GOOD_EMOJI,
    GOOD_SENTENCES,
    GOOD_VERBS,
    HAPPENINGS,
    NAMES,
    OPENERS,
    PLACES,
    PLAIN_SENTENCES,
    TIMES,
    TOPICS,
)
from sentiment.records import Label

Allowed = tuple[Label, ...]

# For sentences that say themselves when something was.
_PLAIN_CLOSERS = ("", ".", "!")
_IT = re.compile(r"\bit\b")


def minimum_functionality() -> Iterator[Case]:
    """Yield the cases, always the same and in the same order."""
    for capability, name, allowed, texts in _groups():
        for number, text in enumerate(texts, start=1):
            yield Case(
                id=f"{capability}-mft-{name}-{number:03}",
                capability=capability,
                kind="MFT",
                texts=(text,),
                allowed=allowed,
            )


def _groups() -> Iterator[tuple[str, str, Allowed, list[str]]]:
    yield from _vocabulary()
    yield from _negation()
    yield from _contrast()
    yield from _temporal()
    yield from _questions()
    yield from _emoji()
    yield from _elongation()
    yield from _irony()


def _filled(templates: Sequence[str], count: int, *, good: bool = True, bad: bool = True) -> list[str]:
    """Return `count` texts of each of `TOPICS`: {thing}, {good}, {bad}, {good_verb}, {bad_verb}."""
    texts = []
    for name, topic in TOPICS.items():
        # Those who serve us are people: what speaks of them as "it" is left out.
        fitting = [each for each in templates if name != "service" or not _IT.search(each)]
        if not fitting:
            continue
        for template, thing, good_word, bad_word, good_verb, bad_verb in spread(
            count,
            fitting,
            topic.things,
            topic.good if good else ("",),
            topic.bad if bad else ("",),
            GOOD_VERBS,
            BAD_VERBS,
        ):
            texts.append(
                sentence(
                    template.format(
                        thing=thing,
                        good=good_word,
                        bad=bad_word,
                        good_verb=good_verb,
                        bad_verb=bad_verb,
                    )
                )
            )
    # Templates that leave a word out may meet again.
    return list(dict.fromkeys(texts))


def _framed(templates: Sequence[str], count: int, closers: Sequence[str] = CLOSERS) -> list[str]:
    """Return texts as `_filled` does, between an opening and an end that judge nothing."""
    filled = _filled(templates, count)
    frames = spread(len(filled), OPENERS, closers, ("",) * 3)
    framed = []
    for text, (opener, closer, _) in zip(filled, frames, strict=True):
        start = text if not opener or text.startswith(("I ", "I'")) else text[0].lower() + text[1:]
        framed.append(opener + start + closer)
    return framed


def _vocabulary() -> Iterator[tuple[str, str, Allowed, list[str]]]:
    yield (
        "vocabulary",
        "good-adjective",
        POSITIVE,
        _framed(["{thing} was {good}", "{thing} was just {good}"], 7),
    )
    yield "vocabulary", "bad-adjective", NEGATIVE, _framed(["{thing} was {bad}", "{thing} was just {bad}"], 7)
    yield "vocabulary", "good-verb", POSITIVE, _framed(["{good_verb} {thing}"], 5)
    yield "vocabulary", "bad-verb", NEGATIVE, _framed(["{bad_verb} {thing}"], 5)
    yield "vocabulary", "good-sentence", POSITIVE, list(GOOD_SENTENCES)
    yield "vocabulary", "bad-sentence", NEGATIVE, list(BAD_SENTENCES)
    facts = (
        "{happening} starts at {time} on {day}",
        "{happening} has been moved to {day} at {time}",
        "{place} opens at {time} on {day}",
        "{name} will be at {place} on {day} for {happening}",
        "Reminder: {happening}, {day} {time}, {place}",
        "{place} is two blocks from the bus stop in {city}",
        "{name} takes the {time} train to {city} every {day}",
        "Agenda for {day}: {happening}, then a walk to {place}",
    )
    yield "vocabulary", "fact", NEUTRAL, _facts(facts, 72)


def _facts(templates: Sequence[str], count: int) -> list[str]:
    return [
        sentence(template.format(happening=happening, time=time, day=day, place=place, name=name, city=city))
        for template, happening, time, day, place, name, city in spread(
            count, templates, HAPPENINGS, TIMES, DAYS, PLACES, NAMES, CITIES
        )
    ]


def _negation() -> Iterator[tuple[str, str, Allowed, list[str]]]:
    not_good = (
        "{thing} was not good",
        "{thing} wasn't good at all",
        "I didn't like {thing}",
        "I did not enjoy {thing} one bit",
        "{thing} wasn't worth it",
        "I would not recommend {thing} to anyone",
        "nobody liked {thing}",
        "there is nothing good about {thing}",
        "{thing} didn't live up to the hype",
        "I'm not happy with {thing}",
        "never again, {thing} was no fun",
    )
    yield "negation", "not-good", NEGATIVE, _framed(not_good, 8)
    yield (
        "negation",
        "not-very-good",
        NOT_POSITIVE,
        _framed(["{thing} was not {good}", "{thing} wasn't {good}, sorry"], 4),
    )
    not_bad = (
        "{thing} was not bad at all",
        "{thing} wasn't {bad}",
        "I can't complain about {thing}",
        "I don't hate {thing}",
        "no complaints about {thing}",
        "there was nothing wrong with {thing}",
    )
    yield "negation", "not-bad", NOT_NEGATIVE, _framed(not_bad, 7)
    better = (
        "I couldn't be happier with {thing}",
        "{thing} never disappoints",
        "{thing} could not have been better",
        "I've never been disappointed by {thing}",
        "I have never been happier with {thing}",
        "you can't go wrong with {thing}",
    )
    yield "negation", "could-not-be-better", POSITIVE, _framed(better, 5)
    facts = (
        "{place} is not open on {day}",
        "{happening} is not on {day}, it's at {time} the day after",
        "{name} isn't in {city} until {day}",
        "You don't need a ticket for {happening}",
        "No change to {happening}: {day} at {time}",
    )
    yield "negation", "fact", NOT_POSITIVE, _facts(facts, 30)


def _contrast() -> Iterator[tuple[str, str, Allowed, list[str]]]:
    good_end = (
        "{thing} took forever, but it was totally worth it",
        "I expected {thing} to be {bad}, but it was {good}",
        "although everyone said {thing} was {bad}, I thought it was {good}",
        "{thing} looked {bad} at first, but in the end it was {good}",
        "people warned me about {thing}, but {good_verb} it",
        "I wasn't sure about {thing} at the start, but now I'm in love with it",
        "{thing} seemed {bad} at first, but turned out to be {good}",
        "the reviews say {thing} is {bad}, but I can only say {good}",
    )
    yield (
        "contrast",
        "good-end",
        POSITIVE,
        [each.replace("it it", "it") for each in _framed(good_end, 8, _PLAIN_CLOSERS)],
    )
    bad_end = (
        "I wanted to love {thing}, but it was {bad}",
        "everyone says {thing} is {good}, but I thought it was {bad}",
        "I expected {thing} to be {good}, but it was {bad}",
        "{thing} looked {good} in the pictures, but in reality it was {bad}",
        "although the reviews said {thing} was {good}, it was {bad}",
        "{thing} used to be {good}, but this time it was {bad}",
        "{thing} seemed {good} at first, but turned out to be {bad}",
        "the reviews say {thing} is {good}, but I can only say {bad}",
    )
    yield "contrast", "bad-end", NEGATIVE, _framed(bad_end, 8, _PLAIN_CLOSERS)


def _temporal() -> Iterator[tuple[str, str, Allowed, list[str]]]:
    better = (
        "I used to hate {thing}, but now I love it",
        "a year ago {thing} was {bad}, today {thing} is {good}",
        "in the past I thought {thing} was {bad}, these days I think it's {good}",
        "{thing} was {bad} before and is {good} now",
        "I used to complain about {thing}, these days I can't get enough of it",
    )
    worse = (
        "I used to love {thing}, but now I hate it",
        "a year ago {thing} was {good}, today {thing} is {bad}",
        "in the past I thought {thing} was {good}, these days I think it's {bad}",
        "{thing} was {good} before and is {bad} now",
        "I used to rave about {thing}, these days I can't stand it",
    )
    yield "temporal change", "better", POSITIVE, _framed(better, 6, _PLAIN_CLOSERS)
    yield "temporal change", "worse", NEGATIVE, _framed(worse, 6, _PLAIN_CLOSERS)


def _questions() -> Iterator[tuple[str, str, Allowed, list[str]]]:
    asked = (
        "What time does {happening} start on {day}?",
        "Does anyone know if {place} is open on {day}?",
        "Which bus goes from {place} in {city}?",
        "Is {name} coming to {happening} on {day}?",
        "Where do I park for {happening} at {place}?",
        "How long is the train from {city} to the airport?",
        "Anyone else going to {happening} on {day}?",
        "Has anyone got the dial-in for {happening} at {time}?",
        "Do I have to register for {happening}?",
        "Who's speaking at {happening} in {city}?",
    )
    yield "questions", "information", NEUTRAL, _facts(asked, 70)
    opinions = ("what did you all think of {thing}?", "has anyone tried {thing}?", "how was {thing}?")
    yield "questions", "opinion", NEUTRAL, _filled(opinions, 3, good=False, bad=False)
    yield (
        "questions",
        "why-bad",
        NEGATIVE,
        _filled(["why was {thing} so {bad}?", "how can {thing} be this {bad}?"], 4),
    )
    yield (
        "questions",
        "why-good",
        POSITIVE,
        _filled(["how is {thing} this {good}?!", "can we talk about how {good} {thing} was?"], 4),
    )


def _emoji() -> Iterator[tuple[str, str, Allowed, list[str]]]:
    for name, allowed, emoji in (("good", POSITIVE, GOOD_EMOJI), ("bad", NEGATIVE, BAD_EMOJI)):
        texts = [
            f"{plain.format(city=city, day=day, time=time)} {face}{face}"
            for plain, face, city, day, time in spread(36, PLAIN_SENTENCES, emoji, CITIES, DAYS, TIMES)
        ]
        yield "emoji", name, allowed, texts


def _elongation() -> Iterator[tuple[str, str, Allowed, list[str]]]:
    good = (
        "I looooove {thing}",
        "{thing} was sooooo goooood",
        "{thing} was amaaaazing",
        "yesssss, {thing} was {good}",
    )
    bad = (
        "I haaaaate {thing}",
        "{thing} was sooooo baaaad",
        "{thing} was awwwwful",
        "nooooo, {thing} was {bad}",
    )
    yield "elongation", "good", POSITIVE, _filled(good, 4)
    yield "elongation", "bad", NEGATIVE, _filled(bad, 4)


def _irony() -> Iterator[tuple[str, str, Allowed, list[str]]]:
    # Words of praise for what nobody wants: readers need no hashtag.
    praise = (
        "Oh great, {trouble}. Again.",
        "Fantastic, {trouble}. Just what I needed today",
        "{trouble}. Thanks for nothing",
        "Love it when {trouble} #not",
        "Wow, {trouble}, brilliant job guys #sarcasm",
        "So {trouble}. Awesome. Just awesome.",
    )
    troubles = (
        "my flight got cancelled", "they lost my luggage", "the app crashed in the middle of paying",
        "the train is an hour late", "my phone died on day two", "they put me on hold for 90 minutes",
        "the power went out during dinner", "my parcel was left in the rain",
    )  # fmt: skip
    texts = [sentence(each.format(trouble=trouble)) for each, trouble in spread(48, praise, troubles)]
    yield "irony", "praise-for-trouble", NEGATIVE, texts
