"""The words that the behaviour suite's templates are filled with.

Things and what is said of them, by topic, so that no pizza is rude. All things are
singular and take "was". The judgements are plain ones: whether a reader agrees
with the expected label must not hang on a nuance.
"""

from __future__ import annotations

from typing import NamedTuple


class Topic(NamedTuple):
    """Things, and adjectives that fit each of them."""

    things: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]


TOPICS: dict[str, Topic] = {
    "food": Topic(
        ("the pizza", "the ramen", "my breakfast burrito", "the coffee", "the curry", "the birthday cake",
         "the sushi", "that burger", "the lasagne", "the fried chicken"),
        ("delicious", "amazing", "fantastic", "perfect", "incredible", "superb"),
        ("disgusting", "awful", "terrible", "inedible", "horrible", "revolting"),
    ),
    "film": Topic(
        ("the new season", "that film", "the finale", "the documentary", "the sequel", "last night's episode",
         "the soundtrack", "the musical", "her new album", "the audiobook"),
        ("brilliant", "amazing", "wonderful", "beautiful", "outstanding", "fantastic"),
        ("boring", "awful", "dreadful", "terrible", "painfully bad", "unwatchable"),
    ),
    "sport": Topic(
        ("our defence", "the first half", "the midfield", "the second half", "the whole team",
         "that performance", "our goalkeeper", "the final quarter"),
        ("superb", "outstanding", "amazing", "fantastic", "brilliant", "excellent"),
        ("pathetic", "embarrassing", "dreadful", "terrible", "awful", "hopeless"),
    ),
    "travel": Topic(
        ("the flight", "our hotel room", "the train ride", "the campsite", "the airport lounge", "the cruise",
         "our apartment", "the road trip", "the hostel", "the guided tour"),
        ("lovely", "amazing", "fantastic", "wonderful", "perfect", "great"),
        ("miserable", "horrendous", "awful", "depressing", "terrible", "horrible"),
    ),
    "apps": Topic(
        ("the app", "the latest update", "the new design", "the website", "the search feature",
         "the beta version", "dark mode", "the checkout page"),
        ("great", "brilliant", "fantastic", "excellent", "useful", "awesome"),
        ("useless", "terrible", "infuriating", "awful", "unusable", "horrible"),
    ),
    "service": Topic(
        ("customer service", "the support team", "the waiter", "the delivery driver", "the manager",
         "the lady at the front desk", "the gate agent", "the mechanic", "the receptionist"),
        ("helpful", "friendly", "amazing", "lovely", "fantastic", "wonderful"),
        ("rude", "useless", "awful", "incompetent", "horrible", "terrible"),
    ),
    "products": Topic(
        ("my new phone", "this laptop", "the camera", "the battery life", "this jacket",
         "the vacuum cleaner", "my new keyboard", "this mattress", "the blender"),
        ("excellent", "perfect", "amazing", "fantastic", "brilliant", "awesome"),
        ("terrible", "rubbish", "awful", "overpriced", "useless", "garbage"),
    ),
    "events": Topic(
        ("the concert", "the party", "the wedding", "the festival", "the workshop", "the keynote",
         "the exhibition", "the open day", "the school play"),
        ("magical", "unforgettable", "fantastic", "beautiful", "amazing", "wonderful"),
        ("awful", "disastrous", "dreadful", "chaotic", "terrible", "boring"),
    ),
}  # fmt: skip

#: Starts that judge nothing.
OPENERS = (
    "", "", "", "Honestly, ", "Ok so ", "Just got home and ", "Update: ", "Not gonna lie, ",
    "For anyone wondering, ", "Had to say it: ", "So ", "In case you missed it, ",
)  # fmt: skip

#: Ends that judge nothing.
CLOSERS = ("", "", ".", ".", "!", " tonight", " today", " this time", " this weekend", ". That's the tweet.")

GOOD_VERBS = (
    "I love", "I really enjoyed", "I'm so happy with", "I can't get enough of", "I'm obsessed with",
    "I'm really impressed with", "we all loved", "my kids adored", "I highly recommend",
)  # fmt: skip
BAD_VERBS = (
    "I hate", "I can't stand", "I'm so disappointed with", "I'm sick of", "I'm fed up with",
    "I'm so unhappy with", "we all hated", "I'm furious about", "I'm disgusted by",
)  # fmt: skip

#: Sentences that end in a judgement, with no adjective of a topic.
GOOD_SENTENCES = (
    "Best money I've spent all year", "10/10, would do it again", "You absolutely made my day, thank you",
    "I haven't smiled this much in months", "So proud of my sister for graduating today",
    "Thank you all for the lovely birthday wishes", "We won!!! What a night",
    "Got the job! I'm over the moon", "Best weekend ever with my favourite people",
    "Feeling so blessed and grateful this morning", "This song always puts me in a good mood",
    "Yay, tickets booked! So excited for June", "Shoutout to the crew for going above and beyond",
    "My daughter took her first steps today and I'm crying happy tears",
    "Finally a company that cares about its customers",
    "Huge congratulations to the whole team, you earned it", "Had the loveliest evening with old friends",
    "That goal was a thing of beauty", "Such a relief, the test came back clear",
    "They refunded me within an hour, really impressed",
)  # fmt: skip
BAD_SENTENCES = (
    "Worst money I've ever spent", "0/10, never again", "You completely ruined our holiday",
    "I've been on hold for two hours and nobody cares", "Lost my bag and nobody will help me",
    "I want my money back, this is a scam", "We lost again, I'm done with this club",
    "Got fired today and I feel sick", "Worst weekend ever, everything went wrong",
    "Feeling so lonely and miserable tonight", "This traffic makes me want to scream",
    "My screen cracked after one day, what a joke", "Shame on you for treating people like this",
    "I've cried myself to sleep three nights in a row", "They clearly don't care about their customers",
    "Three hours late and not even an apology", "Sick to my stomach after reading that story",
    "That was the most embarrassing defeat in years", "Ugh, I failed my driving test again",
    "They charged me twice and refuse to refund me",
)  # fmt: skip

PLACES = ("the library", "the town hall", "the stadium", "the museum", "the post office",
          "the visitor centre",
          "the station", "the gym", "Terminal 2", "the arena")  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TIMES = ("9am", "10:30", "noon", "2 pm", "6:45 pm", "8 pm")
CITIES = ("Lisbon", "Denver", "Nairobi", "Leeds", "Osaka", "Toronto", "Porto", "Chicago", "Mumbai", "Cork")
HAPPENINGS = ("the council meeting", "the second semester", "the book club", "the screening", "registration",
              "the away game", "the conference", "the maintenance window", "the book signing",
              "the press briefing")  # fmt: skip

#: First names of many origins and both genders, for texts in which the name must not matter.
NAMES = (
    "Emily", "Jamal", "Lakisha", "Greg", "Mohammed", "Aisha", "Wei", "Priya", "Carlos", "Guadalupe", "Olga",
    "Kwame", "Fatima", "Hiroshi", "Siobhan", "Darnell", "Claire", "Nguyen", "Abdul", "Rosa", "Dmitri",
    "Tanisha",
    "Ahmed", "Ingrid",
)  # fmt: skip
ORIGINS = ("German", "Nigerian", "Mexican", "Polish", "Pakistani", "American", "Chinese", "Turkish",
           "Brazilian",
           "Somali", "Irish", "Indian")  # fmt: skip
FAITHS = ("Christian", "Muslim", "Jewish", "Hindu", "Buddhist", "Sikh")
HANDLES = ("@marta_k", "@DaveFromLeeds", "@thebookworm", "@jn88", "@Support_Team", "@rosie")
LINKS = (
    "https://t.co/a8Zk3Lq0Pz",
    "http://bit.ly/2xYz9Qw",
    "https://example.com/p/1182",
    "www.example.org/news",
)
PLAIN_HASHTAGS = ("#Monday", "#London", "#photo", "#throwback", "#mytweet", "#2017", "#weekend", "#newpost")

GOOD_EMOJI = ("😍", "😊", "🎉", "😁", "🥰", "❤️", "👍", "🙌", "🤩", "😀")
# Not the crying face: it may be laughter, or joy.
BAD_EMOJI = ("😡", "😒", "🤬", "😠", "👎", "🤮", "😞", "💔", "😤", "🙄")

#: Facts that an emoji turns into a feeling.
PLAIN_SENTENCES = (
    "Just landed in {city}", "Back at work on {day}", "My order arrived", "Exam results came in this morning",
    "My brother moved to {city}", "They changed the menu again", "New haircut", "{day} at the office",
    "Watching the game in {city}", "Our flight leaves at {time}", "He texted me back",
    "First day of school on {day}",
)  # fmt: skip
