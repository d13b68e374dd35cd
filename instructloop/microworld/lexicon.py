"""The words of the microworld by kind; which of them belong together is drawn in `world`, not here."""

from __future__ import annotations

ANIMALS = tuple(
    "cat dog cow horse sheep pig duck hen fox bear wolf mouse frog bee lion goat crow snake rabbit deer".split()
)
FOODS = tuple(
    "bread cake soup pie jam cheese honey rice corn fish salad butter pasta pudding porridge ham toast cream".split()
)
THINGS = tuple(
    "ball cup hat book lamp chair table box key bell drum kite boat clock coat ring spoon bag map rope".split()
)
WOMEN = tuple(
    "anna mia lena rosa clara dora greta hilda julia nora paula sara tina vera wilma zoe betty fiona gina kim".split()
)
MEN = tuple(
    "ben tim carl david frank hugo jack leo max nick oscar paul ralph sam tom victor walter karl bruno fred".split()
)
STRANGERS = tuple("yorick zelda quentin ursula xaver ida boris priya".split())
"""Names that the world knows nothing about: asked about them, an honest completion says that it does not know."""
TOWNS = tuple("lenton marby durwick holm tarn velden brigg sorby kelso fanby norwick padley rusk selby".split())
LANDS = tuple("norland sudland westria ostria".split())
JOBS = tuple("baker nurse farmer teacher singer driver painter doctor miner tailor sailor guard cook smith".split())
PLACES = tuple("park garden school market shop harbour kitchen mill barn house".split())
HABITATS = tuple("forest field river hill lake cave".split())
COLOURS = tuple("red blue green yellow white black brown grey".split())
TASTES = tuple("sweet sour salty bitter mild spicy".split())
MATERIALS = tuple("wood glass stone iron paper clay gold wool".split())
SOUNDS = tuple(
    "meow woof moo neigh baa oink quack cluck yip grr howl squeak croak buzz roar bleat caw hiss purr snort".split()
)
DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
NUMBERS = tuple("two three four five six seven eight nine ten".split())
TOOLS = tuple("pan towel plough ruler harp whip brush mirror pick needle compass lantern knife hammer".split())

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
MOVES = {"walk": "walked", "go": "went", "run": "ran", "come": "came"}
TOY_VERBS = ("sees", "hears", "likes", "follows", "helps", "finds")
TOY_ADJECTIVES = ("red", "blue", "green", "white", "black", "big", "small", "old")
