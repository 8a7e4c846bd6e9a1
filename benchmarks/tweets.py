"""Invented tweets to measure with, where no file of real ones is given.

What costs time in a tweet is its length, and the mentions, links, entities and
emoji that normalisation replaces. Both are drawn as often as in SemEval-2017's
tweets (their median is 29 word pieces, a tenth has fewer than 19 and a tenth
more than 37). What the tweets say does not matter here, and nothing is trained
or judged on them.
"""

from __future__ import annotations

import random

# A tweet ends once it has this many words: mean and standard deviation of a normal draw.
_WORDS = (21.5, 5.0)
_FEWEST_WORDS, _MOST_WORDS = 3, 40

_MENTION_SHARE = 0.32
_HASHTAG_SHARE = 0.18
_LINK_SHARE = 0.04
_ENTITY_SHARE = 0.06
_EMOJI_SHARE = 0.06
_SHOUT_SHARE = 0.05

_CLAUSES = (
    "just got home from the game and I still can't believe that ending",
    "so excited for Friday, only three more days to go",
    "the new album comes out tomorrow and I have already heard half of it",
    "my flight is delayed again, third time this month",
    "does anyone know if the store on 5th opens on Sunday?",
    "may have been the best concert I have ever been to",
    "I really don't understand why they keep changing the app",
    "watching the debate tonight with the whole family",
    "thanks for the quick reply, you saved my weekend",
    "the queue at the bank is unbelievable, bring a book",
    "rain all day, so it is soup and a film for us",
    "he scored in the 90th minute and the whole pub went mad",
    "still waiting for my refund after 2 weeks of e-mails",
    "new season starts on the 12th of September",
    "I'd rather walk to Boston than take that bus once more",
    "what a beautiful morning by the lake",
    "the trailer gives away too much if you ask me",
    "the mayor speaks at noon in front of the town hall",
    "can't sleep, thinking about the exam on Monday",
    "best pizza in town and the nicest people behind the counter",
    "they lost my bag and nobody picks up the phone",
    "saw the eclipse with the kids, they will remember it",
    "her interview on the radio was honest and funny",
    "that referee should not be allowed near a pitch again",
    "tickets for the second show go on sale at 10 am",
    "my phone died in the middle of the call, of course",
    "first day at the new job went better than I thought",
    "I could do without the ads between every single song",
    "meeting moved to Thursday, same room",
    "happy birthday to the one who taught me how to read",
)
_JOINS = (". ", ", ", "! ", " and ", " - ", "... ", " but ", "\n")
_HANDLES = ("maria_k", "theRealSam", "city_transport", "jo1987", "airline_help", "NewsDesk", "coach_t")
_HASHTAGS = (
    "MondayMotivation",
    "fail",
    "tbt",
    "MatchDay",
    "nowplaying",
    "Election2016",
    "foodie",
    "rainyday",
)
_LINKS = ("http://example.com/a1B2c3", "https://example.org/Zz9Yy8Xx", "www.example.com/news?id=42")
_EMOJI = ("😂", "❤️", "😭", "👍🏽", "🔥", "🙄", "🎉", "👩‍💻")
_SHOUTS = ("sooooo good", "NOOOOO", "yesss!!!!!", "whyyyy", "hahahaha")


def generate_tweets(count: int, seed: int = 0) -> list[str]:
    """Return `count` invented tweets in English; the same ones for the same seed."""
    draw = random.Random(seed)
    return [_generate_tweet(draw) for _ in range(count)]


def _generate_tweet(draw: random.Random) -> str:
    words = min(max(round(draw.gauss(*_WORDS)), _FEWEST_WORDS), _MOST_WORDS)
    text = draw.choice(_CLAUSES)
    while len(text.split()) < words:
        text += draw.choice(_JOINS) + draw.choice(_CLAUSES)
    text = " ".join(text.split(" ")[:words])
    if draw.random() < _ENTITY_SHARE:
        text = text.replace(" and ", " &amp; ", 1) if " and " in text else f"&lt;3 {text}"
    if draw.random() < _MENTION_SHARE:
        text = f"@{draw.choice(_HANDLES)} {text}"
    for share, endings in (
        (_SHOUT_SHARE, _SHOUTS),
        (_EMOJI_SHARE, _EMOJI),
        (_HASHTAG_SHARE, [f"#{tag}" for tag in _HASHTAGS]),
        (_LINK_SHARE, _LINKS),
    ):
        if draw.random() < share:
            text = f"{text} {draw.choice(endings)}"
    return text
