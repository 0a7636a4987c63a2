#!/usr/bin/env python3
"""Ten small text tasks in the shapes of common benchmarks, made from a seed (Python standard library only).

    python3 make_tasks.py                        write data/<task>/{train,dev,test}.jsonl next to this file
    python3 make_tasks.py --training-text 20     print 20 rows of the training mixture

Every instance belongs to exactly one part, chosen by a hash of its rendered prompt: train, dev and test are what search
and evaluation read, and `corpus` is what models are trained on. So no two parts share a prompt, whatever the seeds.
"""
import argparse
import hashlib
import json
import pathlib
import random

SEED = 20240717
SIZES = {"train": 256, "dev": 256, "test": 600}

NAMES = "tom ann bob sue max eva leo ida ben amy dan zoe sam kim ned joy".split()
FOODS = "tea jam pie ham egg nut fig rye oil rice corn soup milk fish cake bean".split()
OBJECTS = "cup pen hat bag box map key mug net rug saw tin fan pan jar lid".split()
LOOKS = "old big wet new hot dry odd raw thin soft flat long".split()
ANIMALS = "cat dog cow pig hen fox owl bee ant rat elk eel".split()
TRAITS = [["red", "blue", "gray", "pink"], ["tiny", "tall", "huge", "slim"], ["glad", "sad", "calm", "mad"]]
AMBIGUOUS = "bat bow seal bark bank club ring nail palm file pool mint".split()
CONTEXTS = ("cave ball tree ship game coin hand lake shop wood rope song door king ice salt "
            "gold sand road moon lamp bird iron star").split()
RELATIONS = {
    "home": "den nest barn hut tent pond hole loft hill farm port camp".split(),
    "maker": "smith baker monk nurse clerk cook guard judge maid pilot scout miner".split(),
    "price": "dime penny cent euro mark franc crown pound peso rand yen won".split(),
}
ACTORS = ("rain wind sun snow fire storm boy girl baby child aunt uncle car bus train bike truck plane "
          "wolf horse goat duck lion frog").split()
EVENTS = "came left fell rose stopped turned slept woke ran sang won lost broke grew burned sank".split()
WHEN = "today again soon late early twice".split()
THINGS = "roof wall gate lawn desk bell drum flag boat tower clock river".split()
STATES = "shook opened closed cracked shone froze melted vanished".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def lexicon(purpose):
    """Random, but fixed for ever: what a word of an artificial lexicon means."""
    return random.Random(f"lexicon/{purpose}")


_R = lexicon("sense")
SENSE = {word: dict(zip(_R.sample(CONTEXTS, len(CONTEXTS)), [0, 1] * (len(CONTEXTS) // 2))) for word in AMBIGUOUS}
_R = lexicon("letter")
FACTS = {(relation, entity): _R.choice(values)
         for relation, values in RELATIONS.items() for entity in ANIMALS + OBJECTS + FOODS}
_R = lexicon("cause")
OUTCOMES = [(thing, state) for thing in THINGS for state in STATES]
_REGULAR = {(way, a, v): _R.choice(OUTCOMES) for way in ("so", "because") for a in range(6) for v in range(4)}
OUTCOME = {(way, actor, event): _R.choice(OUTCOMES) if _R.random() < 0.25 else _REGULAR[way, i // 4, j // 4]
           for way in ("so", "because") for i, actor in enumerate(ACTORS) for j, event in enumerate(EVENTS)}


# One function a task: (rng, asks) -> instances that share their passage, the first of which is a whole prompt.
# `asks` above 1 is for training rows, where several questions about one passage teach more per token.

def yesno(rng, asks=1):
    count = rng.randint(2, 4) if asks > 1 else rng.choice([2, 3, 3, 4, 4])
    who, what = rng.sample(NAMES, count), rng.sample(FOODS, count)
    passage = " ".join(f"{name} has {food}." for name, food in zip(who, what))
    rows = []
    for i in rng.sample(range(count), min(asks, count)):
        label = rng.randrange(2)
        j = i if label else rng.choice([k for k in range(count) if k != i])
        rows.append({"passage": passage, "question": f"does {who[i]} have {what[j]}", "label": label})
    return rows


def recall(rng, asks=1):
    count = rng.randint(2, 4) if asks > 1 else rng.choice([2, 3, 3, 4, 4])
    who = rng.sample(NAMES, count)
    what = [f"{look} {thing}" for look, thing in zip(rng.sample(LOOKS, count), rng.sample(OBJECTS, count))]
    context = " ".join(f"{name} saw {thing}." for name, thing in zip(who, what))
    return [{"context": context, "question": f"what did {who[i]} see", "answer": what[i]}
            for i in rng.sample(range(count), min(asks, count))]


def entail(rng, asks=1):
    count = rng.randint(2, 4) if asks > 1 else rng.choice([2, 3, 3, 4])
    who = rng.sample(ANIMALS, count)
    kinds = [rng.randrange(3) for _ in who]
    traits = [rng.choice(TRAITS[kind]) for kind in kinds]
    premise = " ".join(f"{animal} is {trait}." for animal, trait in zip(who, traits))
    rows = []
    for i in rng.sample(range(count), min(asks, count)):
        label = rng.randrange(3)
        trait = traits[i]
        if label == 1:
            trait = rng.choice([t for t in TRAITS[kinds[i]] if t != traits[i]])
        if label == 2:
            trait = rng.choice(TRAITS[(kinds[i] + rng.randint(1, 2)) % 3])
        rows.append({"premise": premise, "hypothesis": f"{who[i]} is {trait}", "label": label})
    return rows


def sense(rng, asks=1):
    word = rng.choice(AMBIGUOUS)
    label = rng.randrange(2)
    first, second = rng.sample(CONTEXTS, 2)
    while (SENSE[word][first] == SENSE[word][second]) != bool(label):
        first, second = rng.sample(CONTEXTS, 2)
    use = [f"{rng.choice(['the', 'my', 'our'])} {word} {rng.choice(['by', 'with', 'of'])} {context}"
           for context in (first, second)]
    return [{"word": word, "first": use[0], "second": use[1], "label": label}]


def letter(rng, asks=1):
    relation, entity = rng.choice(list(FACTS))
    right = FACTS[relation, entity]
    options = rng.sample([v for v in RELATIONS[relation] if v != right], 3)
    label = rng.randrange(4)
    options.insert(label, right)
    return [{"question": f"{relation} of {entity}", **dict(zip("abcd", options)), "label": label}]


def cause(rng, asks=1):
    way, actor, event = rng.choice(list(OUTCOME))
    right = OUTCOME[way, actor, event]
    wrong = right
    while wrong == right:
        near = rng.random()
        if near < 0.4:
            wrong = OUTCOME[way, actor, rng.choice(EVENTS)]
        elif near < 0.8:
            wrong = OUTCOME[way, rng.choice(ACTORS), event]
        else:
            wrong = rng.choice(OUTCOMES)
    label = rng.randrange(2)
    pair = [wrong, right] if label else [right, wrong]
    return [{"premise": f"{actor} {event} {rng.choice(WHEN)}", "ask": way,
             "choices": [f" {thing} {state}" for thing, state in pair], "label": label}]


def sum_(rng, asks=1):
    count = 3 if rng.random() < 0.2 else 2
    who = rng.sample(NAMES, count)
    have = [rng.randint(10, 99) for _ in who]
    i, j = rng.sample(range(count), 2)
    passage = ", ".join(f"{name} {number}" for name, number in zip(who, have))
    if rng.random() < 0.7:
        question, result = f"sum of {who[i]} and {who[j]}", have[i] + have[j]
    else:
        if have[i] < have[j]:
            i, j = j, i
        question, result = f"gap of {who[i]} and {who[j]}", have[i] - have[j]
    return [{"passage": passage, "question": question, "answer": str(result)[::-1]}]


def sort(rng, asks=1):
    items = rng.sample(LETTERS, rng.randint(4, 8))
    return [{"list": " ".join(items), "answer": " ".join(sorted(items))}]


def reverse(rng, asks=1):
    items = [rng.choice(LETTERS) for _ in range(rng.randint(4, 9))]
    return [{"list": " ".join(items), "answer": " ".join(reversed(items))}]


def unique(rng, asks=1):
    few = rng.sample(LETTERS, rng.randint(3, 6))
    items = few + [rng.choice(few) for _ in range(rng.randint(2, 4))]
    rng.shuffle(items)
    return [{"list": " ".join(items), "answer": " ".join(dict.fromkeys(items))}]


NO_YES = [" no", " yes"]
LABELS = [" true", " false", " neither"]
ABCD = [" A", " B", " C", " D"]
# name: (generator, prompt template, choices, or None where the answer is generated or the choices are a field, new tokens)
TASKS = {
    "yesno": (yesno, "Passage: {passage}\nQuestion: {question}?\nAnswer:", NO_YES, 0),
    "recall": (recall, "Context: {context}\nQuestion: {question}?\nAnswer:", None, 4),
    "entail": (entail, "Premise: {premise}\nClaim: {hypothesis}.\nLabel:", LABELS, 0),
    "sense": (sense, "Word: {word}\nFirst: {first}.\nSecond: {second}.\nSame:", NO_YES, 0),
    "letter": (letter, "Exam: {question}?\nA: {a}\nB: {b}\nC: {c}\nD: {d}\nAnswer:", ABCD, 0),
    "cause": (cause, "Event: {premise}, {ask}", None, 0),
    "sum": (sum_, "Count: {passage}.\nQuestion: {question}, units first?\nAnswer:", None, 5),
    "sort": (sort, "Sort: {list}\nAnswer:", None, 9),
    "reverse": (reverse, "Reverse: {list}\nAnswer:", None, 10),
    "unique": (unique, "Unique: {list}\nAnswer:", None, 7),
}


def prompt_of(task, row):
    return TASKS[task][1].format(**row)


def answer_of(task, row):
    """The right continuation of the prompt, with its leading blank, without the newline that ends it."""
    if "answer" in row:
        return " " + row["answer"]
    return (row.get("choices") or TASKS[task][2])[row["label"]]


def part_of(prompt):
    bucket = hashlib.sha256(prompt.encode()).digest()[0]
    return "test" if bucket < 48 else "dev" if bucket < 72 else "train" if bucket < 96 else "corpus"


def split(task, part):
    """`SIZES[part]` instances with distinct prompts."""
    rng = random.Random(f"{SEED}/{task}/{part}")
    rows, seen = [], set()
    while len(rows) < SIZES[part]:
        row = TASKS[task][0](rng)[0]
        prompt = prompt_of(task, row)
        if part_of(prompt) == part and prompt not in seen:
            seen.add(prompt)
            rows.append(row)
    return rows


def corpus_row(task, rng, asks=1):
    """A training row: [(text, is_answer), ...]. Later questions repeat the template from its second line on."""
    while True:
        rows = TASKS[task][0](rng, asks)
        rows = [row for row in rows if part_of(prompt_of(task, row)) == "corpus"]
        if rows:
            break
    pieces = []
    for index, row in enumerate(rows):
        prompt = prompt_of(task, row)
        pieces.append((prompt if index == 0 else prompt.split("\n", 1)[1], False))
        pieces.append((answer_of(task, row) + "\n", True))
    return pieces


def write(folder):
    for task in TASKS:
        (folder / task).mkdir(parents=True, exist_ok=True)
        for part in SIZES:
            lines = [json.dumps(row, separators=(", ", ": ")) for row in split(task, part)]
            (folder / task / f"{part}.jsonl").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "data")
    parser.add_argument("--training-text", type=int, metavar="ROWS", help="print rows of the training mixture instead")
    parser.add_argument("--seed", type=int, default=1, help="of the training rows")
    arguments = parser.parse_args()
    if not arguments.training_text:
        return write(arguments.out)
    rng = random.Random(arguments.seed)
    for _ in range(arguments.training_text):
        print("".join(text for text, _ in corpus_row(rng.choice(list(TASKS)), rng, asks=3)))


if __name__ == "__main__":
    main()
