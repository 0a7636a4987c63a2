#!/usr/bin/env python3
"""A multiple-choice task and calibration text from WordNet's noun file (Debian: wordnet-base).

make_tasks.py WORDNET_DIRECTORY OUTPUT_DIRECTORY

Task: which of four common nouns fits a definition? The right one and three nouns of other definitions. Items
are a function of the file alone: entries are ordered by the SHA-256 of their key.
"""
import hashlib
import json
import pathlib
import sys

SPLITS = {"train": 96, "dev": 96, "test": 400}
CALIBRATION_LINES = 400


def read_entries(folder):
    """One noun and its definition per synset: a single lower-case word of common use (tagged in a corpus)."""
    tagged = {}
    for line in (folder / "index.noun").read_text().splitlines():
        if line.startswith(" "):
            continue
        fields = line.split()
        pointers = int(fields[3])
        senses, counted = int(fields[4 + pointers]), int(fields[5 + pointers])
        tagged[fields[0]] = (senses, counted, fields[6 + pointers])
    entries = []
    for line in (folder / "data.noun").read_text().splitlines():
        if line.startswith(" "):
            continue
        data, gloss = line.split(" | ", 1)
        fields = data.split()
        word = fields[4]
        definition = gloss.split(";")[0].strip()
        if not (word.isalpha() and word.islower() and 3 <= len(word) <= 9):
            continue
        senses, counted, first = tagged.get(word, (0, 0, ""))
        # The word's first sense, seen in tagged text, with a definition that does not give it away.
        if counted == 0 or first != fields[0] or word[:4] in definition or not 20 <= len(definition) <= 90:
            continue
        entries.append({"word": word, "definition": definition})
    return sorted(entries, key=lambda entry: hashlib.sha256(entry["word"].encode()).hexdigest())


def items(entries):
    words = [entry["word"] for entry in entries]
    for number, entry in enumerate(entries):
        digest = hashlib.sha256(("choices " + entry["word"]).encode()).digest()
        choices = [entry["word"]]
        step = 1 + int.from_bytes(digest[:4], "big") % (len(words) - 1)
        at = number
        while len(choices) < 4:
            at = (at + step) % len(words)
            if words[at] not in choices:
                choices.append(words[at])
            else:
                at += 1
        label = digest[4] % 4
        choices[0], choices[label] = choices[label], choices[0]
        yield {
            "definition": entry["definition"],
            "choices": [" " + choice for choice in choices],
            "label": label,
        }


def main():
    source, target = map(pathlib.Path, sys.argv[1:3])
    target.mkdir(parents=True, exist_ok=True)
    entries = read_entries(source)
    made = list(items(entries))
    at = 0
    for split, count in SPLITS.items():
        lines = [json.dumps(item) for item in made[at : at + count]]
        (target / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        at += count
    text = [f"Definition: {entry['definition']}\nWord: {entry['word']}\n"
            for entry in entries[at : at + CALIBRATION_LINES]]
    (target / "calibration.txt").write_text("\n".join(text))
    print(f"{len(entries)} definitions, {at} items")


main()
