"""What the simulated model says: plain words and sentences that claim nothing."""

from __future__ import annotations

_PLAIN = """
    amber basin candle delta ember fern garden harbor island jasmine kettle lantern meadow needle orchard
    pebble quartz river saddle timber umber valley willow yarrow zephyr anchor bramble cedar dune elm
"""
WORDS = tuple(_PLAIN.split())

SENTENCES = (
    "The text was read from its first word to its last.",
    "Its main point stands in the opening lines.",
    "Two details matter more than the others.",
    "The tone is calm, with one urgent request near the end.",
    "Nothing in it contradicts what was said before.",
    "A short reply would be enough here.",
    "The writer asks for a clear date and a name.",
    "One figure is given, and it should be checked again.",
    "The request is plain, and the way to meet it is known.",
    "Most of the background can be left out.",
    "It would help to know which version is meant.",
    "The second paragraph repeats the first in other words.",
    "This belongs with the everyday cases.",
    "There is no sign that anyone was harmed.",
    "The answer is yes, under the conditions that are named.",
    "What remains open is who takes the next step.",
)
