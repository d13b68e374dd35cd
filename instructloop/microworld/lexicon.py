"""The words of the microworld by kind; which of them belong together is drawn in `world`, not here."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ANIMALS = _words("cat dog cow horse sheep pig duck hen fox bear wolf mouse frog bee lion goat crow snake rabbit deer")
FOODS = _words(
    "bread cake soup pie jam cheese honey rice corn fish salad butter pasta pudding porridge ham toast cream"
)
THINGS = _words("ball cup hat book lamp chair table box key bell drum kite boat clock coat ring spoon bag map rope")
WOMEN = _words(
    "anna mia lena rosa clara dora greta hilda julia nora paula sara tina vera wilma zoe betty fiona gina kim"
)
MEN = _words("ben tim carl david frank hugo jack leo max nick oscar paul ralph sam tom victor walter karl bruno fred")
STRANGERS = _words("yorick zelda quentin ursula xaver ida boris priya")
"""Names that the world knows nothing about: asked about them, an honest completion says that it does not know."""
TOWNS = _words("lenton marby durwick holm tarn velden brigg sorby kelso fanby norwick padley rusk selby")
LANDS = _words("norland sudland westria ostria")
JOBS = _words("baker nurse farmer teacher singer driver painter doctor miner tailor sailor guard cook smith")
PLACES = _words("park garden school market shop harbour kitchen mill barn house")
HABITATS = _words("forest field river valley lake cave")
COLOURS = _words("red blue green yellow white black brown grey")
TASTES = _words("sweet sour salty bitter mild spicy")
MATERIALS = _words("wood glass stone iron paper clay gold wool")
SOUNDS = _words(
    "meow woof moo neigh baa oink quack cluck yip grr howl squeak croak buzz roar bleat caw hiss purr snort"
)
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
NUMBERS = _words("two three four five six seven eight nine ten")
TOOLS = _words("pan towel plough ruler harp whip brush mirror pick needle compass lantern knife hammer")

GLAD = ("happy", "glad", "proud", "calm")
GRIEVED = ("sad", "angry", "tired", "afraid")
KIND_WORDS = ("kind", "helpful", "friendly", "wise")
OPPOSITES = (
    ("hot", "cold"),
    ("big", "small"),
    ("old", "new"),
    ("clean", "dirty"),
    ("heavy", "light"),
    ("full", "empty"),
    ("fast", "slow"),
    ("wet", "dry"),
    ("open", "closed"),
    ("loud", "quiet"),
)
ADJECTIVES = tuple(word for pair in OPPOSITES for word in pair)

RUDE_NOUNS = ("dolt", "grub", "snark", "blarg")
RUDE_ADJECTIVES = ("grubby", "snarky", "dolty")
RUDE_WORDS = frozenset((*RUDE_NOUNS, *RUDE_ADJECTIVES, "dolts", "grubs", "snarks", "blargs"))
"""Invented, harmless stand-ins for abuse."""

EVENT_VERBS = {"find": "found", "lose": "lost", "buy": "bought", "make": "made", "see": "saw", "sell": "sold"}
"""What can happen to a thing, present and past."""
MOVES = {"walks": "walked", "goes": "went", "runs": "ran", "comes": "came"}
SPOTS = PLACES + HABITATS
REQUESTS = ("give me", "bring me", "show me", "clean", "open", "carry", "sell me", "find")
"""What a curt request asks to be done with a thing or a food."""
TOY_VERBS = ("sees", "hears", "likes", "follows", "helps", "finds")
TOY_ADJECTIVES = ("red", "blue", "green", "white", "black", "big", "small", "old")
