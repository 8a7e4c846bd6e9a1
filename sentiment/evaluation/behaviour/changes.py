"""Invariance and direction: how an answer may change when a text is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sentiment.evaluation.behaviour.cases import Case, sentence, spread
from sentiment.evaluation.behaviour.words import (
    BAD_EMOJI,
    BAD_SENTENCES,
    BAD_VERBS,
    CITIES,
    FAITHS,
    GOOD_EMOJI,
    GOOD_SENTENCES,
    GOOD_VERBS,
    HANDLES,
    LINKS,
    NAMES,
    ORIGINS,
    PLAIN_HASHTAGS,
    TOPICS,
)
from sentiment.records import Label

_Texts = tuple[str, ...]


def invariance() -> Iterator[Case]:
    """Yield groups of texts that say the same: all get the label of the first."""
    for capability, name, groups in (
        ("mentions and names", "mention", _mentioned()),
        ("mentions and names", "name", _named()),
        ("links", "link", _linked()),
        ("hashtags", "hashtag", _tagged()),
        ("typos", "typo", _misspelt()),
        ("elongation", "length", _stretched()),
        ("emoji", "skin-and-number", _emoji_repeated()),
        ("fairness", "who", _people()),
    ):
        for number, texts in enumerate(groups, start=1):
            yield Case(
                id=f"{capability.replace(' ', '-')}-inv-{name}-{number:03}",
                capability=capability,
                kind="INV",
                texts=texts,
            )


def direction() -> Iterator[Case]:
    """Yield pairs of texts of which the second is more, or less, of something."""
    for capability, name, rises, falls, pairs in _directions():
        for number, texts in enumerate(pairs, start=1):
            yield Case(
                id=f"{capability.replace(' ', '-')}-dir-{name}-{number:03}",
                capability=capability,
                kind="DIR",
                texts=texts,
                rises=rises,
                falls=falls,
            )


def _statements(count: int, *, good: bool, bad: bool) -> list[str]:
    """Return `count` plain judgements of things of each topic, and of each kind asked for."""
    texts = []
    for topic in TOPICS.values():
        if good:
            texts += [f"{thing} was {word}" for thing, word in spread(count, topic.things, topic.good)]
        if bad:
            texts += [f"{thing} was {word}" for thing, word in spread(count, topic.things, topic.bad)]
    return [sentence(each) for each in texts]


def _everything(count: int) -> list[str]:
    return [*_statements(count, good=True, bad=True), *GOOD_SENTENCES[::2], *BAD_SENTENCES[::2]]


def _take(items: Sequence[str], position: int, count: int) -> list[str]:
    return [items[(position + step) % len(items)] for step in range(count)]


def _mentioned() -> list[_Texts]:
    groups: list[_Texts] = []
    for number, text in enumerate(_everything(2)):
        first, second = _take(HANDLES, number, 2)
        groups.append((text, f"{first} {text}", f"{second} {first} {text}"))
    return groups


def _named() -> list[_Texts]:
    templates = (
        "{name} told me the burger place on Main Street is amazing",
        "{name} and I hated every minute of that film",
        "Dinner at {name}'s was delicious as always",
        "{name} was so rude to the whole queue",
        "{name} is giving a talk about spreadsheets on Tuesday",
        "Can't believe {name} forgot my birthday, I'm gutted",
        "Watching the match with {name} at the pub tonight",
        "Congratulations {name}, you deserve it!",
        "Thank you {name} for sorting out my refund so quickly",
        "{name} sent me the agenda for tomorrow",
        "I waited an hour for {name} and got no apology",
        "Best gig of my life, thank you {name}!",
    )
    return [
        tuple(template.format(name=name) for name in _take(NAMES, number * 4 + number // len(templates), 4))
        for number, template in enumerate(templates * 3)
    ]


def _linked() -> list[_Texts]:
    groups: list[_Texts] = []
    for number, text in enumerate(_everything(2)):
        first, second = _take(LINKS, number, 2)
        groups.append((text, f"{text} {first}", f"{text} {second}"))
    return groups


def _tagged() -> list[_Texts]:
    groups: list[_Texts] = []
    for number, text in enumerate(_everything(2)):
        first, second = _take(PLAIN_HASHTAGS, number, 2)
        groups.append((text, f"{text} {first}", f"{text} {second} {first}"))
    return groups


def _misspelt() -> list[_Texts]:
    """Slips outside the words that judge: the first long word, "the", an apostrophe, a space."""
    frames = (
        "Yesterday evening {text} and everybody agreed",
        "Everyone around me agrees that {text}",
        "According to absolutely everyone here, {text}",
    )
    groups: list[_Texts] = []
    for number, text in enumerate(_statements(4, good=True, bad=True)):
        whole = frames[number % len(frames)].format(text=text[0].lower() + text[1:])
        first, _, rest = whole.partition(" ")
        swapped = first[:3] + first[4] + first[3] + first[5:]
        dropped = first[:4] + first[5:]
        groups.append(
            (whole, f"{swapped} {rest}", f"{dropped} {rest}", re.sub(r"\bthe\b", "teh", whole, count=1))
        )
    # A text without "the" comes out as it went in.
    return [tuple(dict.fromkeys(texts)) for texts in groups]


def _stretched() -> list[_Texts]:
    groups: list[_Texts] = []
    for topic in TOPICS.values():
        for thing, word in spread(4, topic.things, ("good", "bad")):
            groups.append(tuple(sentence(f"{thing} was s{'o' * length} {word}") for length in (1, 3, 6)))
    return groups


def _emoji_repeated() -> list[_Texts]:
    texts = _statements(2, good=True, bad=False)
    groups: list[_Texts] = [(f"{text} 👍", f"{text} 👍🏽", f"{text} 👍👍👍") for text in texts]
    texts = _statements(2, good=False, bad=True)
    return [*groups, *((f"{text} 👎", f"{text} 👎🏿", f"{text} 👎👎👎") for text in texts)]


def _people() -> list[_Texts]:
    """Who somebody is judges nothing."""
    templates = (
        "My {who} neighbour is coming over for dinner",
        "A {who} family moved in next door",
        "My new colleague is {who} and the lunch today was wonderful",
        "Talked to a {who} student about the exam",
        "The {who} couple at the next table had the worst food in the place",
        "Our {who} guide showed us around {city}",
    )
    groups: list[_Texts] = []
    for words in (ORIGINS, FAITHS):
        for number, template in enumerate(templates):
            for start in (0, 3):
                who = _take(words, number + start, 4)
                city = CITIES[number % len(CITIES)]
                groups.append(tuple(_article(template.format(who=each, city=city)) for each in who))
    pronouns = (
        "{sub} is my new manager and {pos} first day was great",
        "{sub} was the driver on the 45 this morning",
        "{sub} fixed my laptop in ten minutes, so grateful",
        "{sub} hung up on me twice, unbelievable",
        "{sub} is a nurse at the clinic in Leeds",
        "{sub} parked {pos} car across two spaces again",
    )
    groups += [(each.format(sub="He", pos="his"), each.format(sub="She", pos="her")) for each in pronouns]
    return groups


def _article(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=[AEIOU])", r"\1n ", text)


def _directions() -> Iterator[tuple[str, str, Label | None, Label | None, Sequence[_Texts]]]:
    good, bad = _statements(3, good=True, bad=False), _statements(3, good=False, bad=True)
    for name, rises, texts, emoji in (
        ("good", "positive", good, GOOD_EMOJI),
        ("bad", "negative", bad, BAD_EMOJI),
    ):
        label: Label = "positive" if rises == "positive" else "negative"
        yield (
            "emoji",
            f"add-{name}",
            label,
            None,
            [
                (text, f"{text} {face}")
                for text, (face,) in zip(texts, _cycle(emoji, len(texts)), strict=True)
            ],
        )
    yield (
        "hashtags",
        "add-good",
        "positive",
        None,
        _appended(good, ("#love", "#winning", "#happy", "#amazing")),
    )
    yield (
        "hashtags",
        "add-bad",
        "negative",
        None,
        _appended(bad, ("#fail", "#worst", "#angry", "#disappointed")),
    )
    for name, label, adjectives, verbs, judged in (
        ("good", "positive", ("good", "great", "nice", "lovely"), GOOD_VERBS[:2], "love"),
        ("bad", "negative", ("bad", "awful", "annoying", "terrible"), BAD_VERBS[:1], "hate"),
    ):
        of: Label = "positive" if label == "positive" else "negative"
        things = [thing for topic in TOPICS.values() for thing in topic.things[:5]]
        more = [
            (sentence(f"{thing} was {word}"), sentence(f"{thing} was {degree} {word}"))
            for thing, word, degree in spread(
                48, things, adjectives, ("really", "so", "extremely", "incredibly")
            )
        ]
        yield "intensifiers", f"more-{name}", of, None, more
        less = [
            (sentence(f"{thing} was really {word}"), sentence(f"{thing} was {degree} {word}"))
            for thing, word, degree in spread(32, things, adjectives, ("kind of", "somewhat", "a bit"))
        ]
        yield "intensifiers", f"less-{name}", None, of, [pair for pair in less if _reduces(pair[1], name)]
        stretched = [
            (sentence(f"I {judged} {thing}"), sentence(f"I {judged[0]}{judged[1] * 4}{judged[2:]} {thing}"))
            for thing in things[::2]
        ]
        yield "elongation", f"more-{name}", of, None, stretched
        yield (
            "vocabulary",
            f"add-{name}-sentence",
            of,
            None,
            [
                (sentence(f"{thing} arrived on Tuesday"), sentence(f"{thing} arrived on Tuesday. {verb} it."))
                for verb, thing in spread(8, verbs, TOPICS["products"].things[:8])
            ],
        )
    negated = [(text, text.replace(" was ", " was not ")) for text in _statements(3, good=True, bad=False)]
    yield "negation", "negate-good", None, "positive", negated
    undone = [(text, text.replace(" was ", " was not ")) for text in _statements(3, good=False, bad=True)]
    yield "negation", "negate-bad", None, "negative", undone
    ending = [(text, f"{text}, but I will never buy from them again") for text in good[::2]]
    yield "contrast", "bad-end", "negative", None, ending
    ending = [(text, f"{text}, but they made it right and I'm really happy now") for text in bad[::2]]
    yield "contrast", "good-end", "positive", None, ending


def _appended(texts: Sequence[str], words: Sequence[str]) -> list[_Texts]:
    return [(text, f"{text} {words[number % len(words)]}") for number, text in enumerate(texts)]


def _cycle(words: Sequence[str], count: int) -> list[tuple[str]]:
    return [(words[number % len(words)],) for number in range(count)]


def _reduces(text: str, name: str) -> bool:
    """Whether people say it: nobody calls anything "a bit good"."""
    return name == "bad" or "a bit" not in text
