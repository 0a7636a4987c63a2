"""Makes the demo's tasks: text with questions that need different skills, and the tokenizer of the demo's
models.

    python3 make_tasks.py     # writes data/<task>/{train,dev,test}.jsonl and tokenizer.json beside this file
    python3 make_tasks.py --fresh 1 --out DIR    # new test splits of the shifted tasks, for a second look

Standard library only; the same seed gives the same bytes. Every instance belongs to one split, chosen by a
hash of its rendered prompt, so the splits train, dev and test, and the text that models are trained on
("pool"), share no prompt.

The shifted tasks ask for a skill that models were trained on, in a form or of a difficulty that they never
saw. An instance's split is that of the trained task's prompt that it is made from.
"""

import argparse
import hashlib
import json
import random
from pathlib import Path

SEED = 20240700945
# What the splits ask beyond training, so that errors are left to make: longer strings, words beside the cue
# of a sense.
HARDER = {"sort": {"least": 10, "most": 14}, "reverse": {"least": 8, "most": 13}, "sense": {"distract": 0.6}}
SIZES = {"train": 256, "dev": 256, "test": 600}
SHIFTED_SIZES = {"train": 2048, "dev": 512, "test": 2000}
HERE = Path(__file__).parent

NAMES = "Ann Bob Cat Dan Eve Fay Gus Hal Ida Jon Kim Leo Mia Ned Ola Pam".split()
COLORS = "red blue green pink gray black white brown".split()
CATEGORIES = {
    "fruit": "apple pear plum fig kiwi lime grape peach date mango",
    "animal": "dog cow pig hen fox owl bee ant goat bear",
    "tool": "saw axe drill rake spade file vise hoe pick wedge",
    "body": "hand foot nose ear knee chin leg arm neck toe",
    "food": "bread rice soup cake pie egg ham jam stew pasta",
    "place": "park shop farm town beach lake mill barn cave port",
    "cloth": "hat coat shirt shoe sock scarf belt cap vest robe",
    "ship": "boat raft canoe ferry yacht barge tug liner sloop kayak",
}
CATEGORIES = {name: words.split() for name, words in CATEGORIES.items()}
NOUNS = [word for words in CATEGORIES.values() for word in words]
THINGS = CATEGORIES["cloth"] + CATEGORIES["tool"] + CATEGORIES["fruit"]
OPPOSITES = [pair.split("/") for pair in (
    "old/young tall/short rich/poor calm/angry warm/cold brave/shy loud/quiet quick/slow kind/cruel "
    "clean/dirty "
    "happy/sad wise/silly").split()]
TRAITS = [word for pair in OPPOSITES for word in pair]
# A word with two senses, and the words that tell which one is meant.
SENSES = {
    "bank": ("river mud reed ford", "money loan debt fund"),
    "bat": ("wing cave night fly", "ball club swing game"),
    "bark": ("tree oak twig leaf", "puppy growl hound yelp"),
    "seal": ("ocean fish flipper ice", "wax stamp envelope mail"),
    "ring": ("gold finger gem bride", "phone bell call tone"),
    "rock": ("stone cliff hill sand", "band guitar drum song"),
}
SENSES = {word: tuple(cues.split() for cues in senses) for word, senses in SENSES.items()}
# What happened, and what follows from it.
EFFECTS = {
    "rained": "wet", "burned": "ash", "froze": "ice", "baked": "crust", "slept": "rested", "ran": "tired",
    "fell": "hurt", "ate": "full", "won": "proud", "lost": "upset", "paid": "broke", "swam": "damp",
    "broke": "parts", "grew": "big", "melted": "liquid", "rusted": "weak", "sang": "music", "dug": "hole",
    "painted": "bright", "washed": "fresh", "locked": "shut", "opened": "ajar", "cooked": "meal",
    "spilled": "stain", "planted": "garden", "typed": "text", "counted": "total", "sewed": "dress",
    "knocked": "noise", "waited": "bored", "studied": "smart", "joked": "laugh",
}
LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z".split()


def facts(rng, count):
    """Who has what, names and things all different."""
    names, things = rng.sample(NAMES, count), rng.sample(THINGS, count)
    return [(name, rng.choice(COLORS), thing) for name, thing in zip(names, things)]


def tell(known):
    return ", ".join(f"{name} {color} {thing}" for name, color, thing in known) + "."


def claim(known, rng, absent=0.5):
    """Who is said to have what: true; else (with probability absent) a thing that nobody has, or what
    somebody else has."""
    name, color, thing = rng.choice(known)
    label = rng.randint(0, 1)
    if not label and rng.random() < absent:
        thing = rng.choice([t for t in THINGS if all(t != fact[2] for fact in known)])
    elif not label:
        _, color, thing = rng.choice([fact for fact in known if fact[0] != name])
    return f"{name} {color} {thing}", label


def yesno(rng, absent=0.5):
    known = facts(rng, rng.randint(2, 4))
    question, label = claim(known, rng, absent)
    return {"passage": tell(known), "question": question, "label": label}


def recall(rng):
    known = facts(rng, rng.randint(2, 5))
    name, color, thing = rng.choice(known)
    return {"context": tell(known), "question": name, "answer": f"{color} {thing}"}


def sense(rng, repeat=0.0, distract=0.0):
    word = rng.choice(sorted(SENSES))
    first = rng.randint(0, 1)
    same = rng.randint(0, 1)
    second = first if same else 1 - first
    one = rng.choice(SENSES[word][first])
    two = rng.choice([cue for cue in SENSES[word][second] if cue != one])
    if same and repeat and rng.random() < repeat:
        two = one
    a, b = rng.sample(NAMES, 2)
    if distract:
        one, two = among_others(one, rng, distract), among_others(two, rng, distract)
    return {"word": word, "sentence1": f"{a} {one} {word}", "sentence2": f"{b} {two} {word}", "label": same}


def among_others(cue, rng, distract):
    """The cue, with a word before or behind it (with probability distract) that says nothing of the sense."""
    if rng.random() >= distract:
        return cue
    cues = {cue for senses in SENSES.values() for sense in senses for cue in sense}
    pair = [cue, rng.choice([noun for noun in NOUNS if noun not in cues])]
    rng.shuffle(pair)
    return " ".join(pair)


def is_(name, traits):
    return f"{name} is " + (", ".join(traits[:-1]) + " and " if len(traits) > 1 else "") + f"{traits[-1]}."


def conclude(people, about, rng):
    """A statement on one of the people: 0 follows, 1 is false, 2 neither, which may be true of another."""
    traits = people[about]
    opposite = {a: b for pair in OPPOSITES for a, b in (pair, pair[::-1])}
    label = rng.randint(0, 2)
    if label < 2:
        trait = rng.choice(traits)
        return (trait if label == 0 else opposite[trait]), label
    foreign = [t for name, own in people.items() if name != about for t in own]
    if foreign and rng.random() < 0.7:
        return rng.choice(foreign), label
    return rng.choice([t for t in TRAITS if t not in traits and opposite[t] not in traits]), label


def entail_long(rng):
    """Three people, six to eight traits."""
    traits = [rng.choice(pair) for pair in rng.sample(OPPOSITES, rng.randint(6, 8))]
    one, two = sorted(rng.sample(range(1, len(traits)), 2))
    people = dict(zip(rng.sample(NAMES, 3), (traits[:one], traits[one:two], traits[two:])))
    about = rng.choice(list(people))
    claimed, label = conclude(people, about, rng)
    premise = " ".join(is_(name, own) for name, own in people.items())
    return {"premise": premise, "hypothesis": f"{about} is {claimed}", "label": label}


def entail_two_labels(rng):
    """What follows or is false: nothing that is left open."""
    while True:
        item = entail(rng)
        if item["label"] < 2:
            return item


def letter_told(rng):
    """With facts that have nothing to do with the question."""
    return letter(rng) | {"told": tell(facts(rng, 2))}


def entail(rng):
    one, two = rng.sample(NAMES, 2)
    traits = [rng.choice(pair) for pair in rng.sample(OPPOSITES, rng.randint(3, 5))]
    cut = rng.randint(1, len(traits) - 1) if rng.random() < 0.6 else len(traits)
    people = {one: traits[:cut]} | ({two: traits[cut:]} if cut < len(traits) else {})
    about = rng.choice(list(people))
    claimed, label = conclude(people, about, rng)
    premise = " ".join(is_(name, own) for name, own in people.items())
    return {"premise": premise, "hypothesis": f"{about} is {claimed}", "label": label}


def cause(rng):
    event, other = rng.sample(sorted(EFFECTS), 2)
    choices = [EFFECTS[event], EFFECTS[other]]
    label = rng.randint(0, 1)
    if label:
        choices.reverse()
    name, second = rng.sample(NAMES, 2)
    place = rng.choice(CATEGORIES["place"])
    if rng.random() < 0.5:
        told = [f"{name} {event}", f"{second} {other}"]
        rng.shuffle(told)
        premise = f"At the {place} {told[0]}, {told[1]}."
    else:
        premise = f"At the {place} {name} {event}."
    return {"premise": premise, "name": name, "choices": [f" {c}" for c in choices], "label": label}


def letter(rng):
    category = rng.choice(sorted(CATEGORIES))
    right = rng.choice(CATEGORIES[category])
    words = [right] + [rng.choice(CATEGORIES[c]) for c in
                       rng.sample(sorted(c for c in CATEGORIES if c != category), 3)]
    rng.shuffle(words)
    return {"category": category, "a": words[0], "b": words[1], "c": words[2], "d": words[3],
            "label": words.index(right)}


def digits_of(number):
    return " ".join(reversed(str(number)))


def sum_(rng):
    a, b = rng.randint(1, 99), rng.randint(1, 99)
    one, two = rng.sample(NAMES, 2)
    thing = rng.choice(CATEGORIES["fruit"])
    passage = f"{one} has {a} {thing}s. {two} has {b} {thing}s."
    if rng.random() < 0.15:
        low, high = sorted((a, b))
        more, less = (one, two) if a >= b else (two, one)
        question = f"How many more {thing}s has {more}?"
        answer = high - low
    else:
        question, answer = f"How many {thing}s in all?", a + b
    return {"passage": passage, "question": question, "answer": digits_of(answer)}


def sort(rng, least=6, most=10):
    count = rng.randint(least, most)
    items = rng.sample(LETTERS, count)
    return {"letters": " ".join(items), "answer": " ".join(sorted(items))}


def reverse(rng, least=6, most=12):
    count = rng.randint(least, most)
    items = [rng.choice(LETTERS) for _ in range(count)]
    return {"letters": " ".join(items), "answer": " ".join(reversed(items))}


TASKS = {
    "yesno": (yesno, "Owners: {passage}\nTrue: {question}?"),
    "sense": (sense, "1: {sentence1}\n2: {sentence2}\nSame {word}?"),
    "entail": (entail, "{premise}\nSo {hypothesis}?"),
    "cause": (cause, "{premise}\nSo for {name} it was"),
    "letter": (letter, "Options: {a} A, {b} B, {c} C, {d} D.\nWhich is a {category}?"),
    "recall": (recall, "Owners: {context}\nComplete: {question}"),
    "sum": (sum_, "{passage}\nQuestion: {question}\nUnits first:"),
    "sort": (sort, "Sort: {letters}\nSorted:"),
    "reverse": (reverse, "Reverse: {letters}\nReversed:"),
}
# Shifted tasks by the name of their data: the trained task whose prompt decides the split, and how an item is
# made. Two task files may ask the same items in different forms.
SHIFTED = {
    "sense": ("sense", lambda rng: sense(rng, **HARDER["sense"])),
    "reverse": ("reverse", lambda rng: reverse(rng, **HARDER["reverse"])),
    "sense_two": ("sense", lambda rng: sense(rng, distract=1.0)),
    "sense_phrase": ("sense", lambda rng: sense(rng, distract=0.3)),
    "sort_long": ("sort", lambda rng: sort(rng, least=15, most=17)),
    "entail_yesno": ("entail", entail_two_labels),
    "entail_long": ("entail", entail_long),
    "yesno_form": ("yesno", yesno),  # yesno_phrase, yesno_truefalse
    "letter_form": ("letter", letter_told),  # letter_pre, letter_before
}
CHOICES = {
    "yesno": [" no", " yes"], "sense": [" no", " yes"], "entail": [" true", " false", " neither"],
    "letter": [" A", " B", " C", " D"],
}


def render(task, item):
    return TASKS[task][1].format(**item)


def answer_of(task, item):
    """The right continuation, as a model should write it."""
    if task == "cause":
        return item["choices"][item["label"]]
    if task in CHOICES:
        return CHOICES[task][item["label"]]
    return " " + item["answer"]


def split_of(task, item):
    """One of pool (model training), train, dev, test: a function of the rendered prompt."""
    digest = hashlib.sha256(f"{task}\n{render(task, item)}".encode()).digest()
    bucket = int.from_bytes(digest[:4], "little") % 100
    return "train" if bucket < 6 else "dev" if bucket < 12 else "test" if bucket < 25 else "pool"


def pool_item(task, rng, **easier):
    """An instance that models may be trained on."""
    while True:
        item = TASKS[task][0](rng, **easier)
        if split_of(task, item) == "pool":
            return item


def draw_splits(task, make, rng, sizes, seen):
    """Items of every split in `sizes`, none of which asks a prompt of `seen` or another's."""
    rows = {split: [] for split in sizes}
    while any(len(rows[split]) < size for split, size in sizes.items()):
        item = make(rng)
        prompt, split = render(task, item), split_of(task, item)
        if split not in rows or prompt in seen or len(rows[split]) == sizes[split]:
            continue
        seen.add(prompt)
        rows[split].append(item)
    return rows


def write_splits(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    for split, items in rows.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


def write_data():
    for task, (make, _) in TASKS.items():
        if task in SHIFTED:
            continue
        harder = lambda rng, make=make, task=task: make(rng, **HARDER.get(task, {}))
        write_splits(HERE / "data" / task,
                     draw_splits(task, harder, random.Random(f"{SEED} {task}"), SIZES, set()))
    for name, (task, make) in SHIFTED.items():
        rng = random.Random(f"{SEED} {name}")
        write_splits(HERE / "data" / name, draw_splits(task, make, rng, SHIFTED_SIZES, set()))


def write_fresh(number, out):
    """Test splits of new items, none in any split of data/ or in an earlier fresh one."""
    for name, (task, make) in SHIFTED.items():
        seen = set()
        for split in SHIFTED_SIZES:
            lines = (HERE / "data" / name / f"{split}.jsonl").read_text().splitlines()
            seen.update(render(task, json.loads(line)) for line in lines)
        for earlier in range(1, number + 1):
            rng = random.Random(f"{SEED} {name} fresh {earlier}")
            rows = draw_splits(task, make, rng, {"test": SHIFTED_SIZES["test"]}, seen)
        write_splits(out / name, rows)


# ---- tokenizer: byte-level BPE whose merges spell out the words of the tasks, one token a word


def byte_map():
    """GPT-2's map from bytes to printable characters."""
    keep = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    table, extra = {}, 0
    for byte in range(256):
        if byte in keep:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


def words():
    """Every word that occurs after a blank, then those that begin a line."""
    rng = random.Random(SEED)
    inner, first = set(), set()
    for _ in range(3000):
        for task in TASKS:
            item = TASKS[task][0](rng)
            for line in (render(task, item) + answer_of(task, item)).split("\n"):
                parts = line.split(" ")
                strip = lambda w: w.strip(".,?:")
                first.add(strip(parts[0]))
                inner.update(strip(p) for p in parts[1:])
    good = lambda w: w.isalpha()
    return sorted(filter(good, inner)), sorted(filter(good, first))


def write_tokenizer():
    table = byte_map()
    vocab = {table[byte]: byte for byte in range(256)}
    merges = []

    def spell(text):
        left = text[0]
        for char in text[1:]:
            pair = (left, char)
            left += char
            if left not in vocab:
                vocab[left] = len(vocab)
                merges.append(" ".join(pair))

    inner, first = words()
    for word in inner:
        spell(table[0x20] + word)
    for word in first:
        if word[0].isupper():
            spell(word)
    end = len(vocab)
    special = {"id": end, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False,
               "normalized": False, "special": True}
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                    "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": False, "vocab": vocab, "merges": merges},
    }
    config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
              "bos_token": None, "unk_token": None, "add_bos_token": False, "model_max_length": 256}
    for model in ("mixtral", "qwen"):
        folder = HERE / model
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return end + 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Makes the demo's tasks.")
    parser.add_argument("--fresh", type=int, default=0,
                        help="the number of a new draw of the shifted tasks' test splits")
    parser.add_argument("--out", type=Path, help="where the new test splits go")
    arguments = parser.parse_args()
    if arguments.fresh:
        write_fresh(arguments.fresh, arguments.out)
    else:
        write_data()
        print(f"vocabulary {write_tokenizer()}")
