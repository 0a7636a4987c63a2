#!/usr/bin/env python3
"""Megabytes a second on one thread: eep's tokenizers against Hugging Face `tokenizers`, same files, same
texts.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    bench/peers/tokenizer_rates.py --data ../shared/data/tokenizers [--json FILE...]

Tokenizers: Qwen's ranks and Mixtral's tokenizer.model (both forms that its tokenizer.json has had), as
tests/loaders/ check_tokenizer_rates.py builds them for the peer, and every tokenizer.json given. Texts:
definitions from WordNet (Debian: wordnet-base), this project's C++ sources, and the mixture of scripts, emoji
and blanks of check_tokenizer_rates.py; as documents of about two kilobytes and as one of half a megabyte.
Seconds are the thread's own (waiting for other jobs does not count), rounds alternate between the two, ratios
are medians over rounds, and the token counts must be equal.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
SOURCE = pathlib.Path(__file__).resolve().parents[2]
# This file's own folder would hide the package of its name.
sys.path = [path for path in sys.path
            if pathlib.Path(path).resolve() != pathlib.Path(__file__).resolve().parent]
sys.path.append(str(SOURCE / "tests/loaders"))

import tokenizers  # noqa: E402

import check_tokenizers  # noqa: E402

LIMIT = 512 << 10


def wordnet(path):
    glosses = [line.split(" | ", 1)[1].strip() for line in path.read_text().splitlines() if " | " in line]
    return "\n".join(glosses)


def texts(options):
    found = {}
    if options.wordnet.exists():
        found["prose"] = wordnet(options.wordnet)
    found["code"] = "\n".join(path.read_text() for path in sorted(SOURCE.glob("*/*.cpp")))
    mixed = check_tokenizers.make_texts(40000, 7, False, False)
    found["mixed"] = b"\n".join(mixed).decode("utf-8", "replace")
    return {name: text.replace("\0", " ")[:LIMIT] for name, text in found.items()}


def documents(text, size):
    return [text[at : at + size] for at in range(0, len(text), size)]


def eep_seconds(options, model, parts, folder):
    path = folder / "text"
    path.write_bytes(b"\0".join(part.encode() for part in parts))
    done = subprocess.run([options.build / "bench_tokenizer", str(model), str(path), "--seconds",
                           str(options.seconds)],
                          stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def peer_seconds(options, hf, parts):
    passes, total, tokens = [], 0, 0
    while total < options.seconds or len(passes) < 3:
        start = time.thread_time()
        tokens = sum(len(hf.encode(part, add_special_tokens=False).ids) for part in parts)
        passes.append(time.thread_time() - start)
        total += passes[-1]
    return tokens, statistics.median(passes)


def compare(options, name, hf, folder):
    model = folder / "tokenizer.json"  # both read the same file
    hf.save(str(model))
    for kind, text in texts(options).items():
        for shape, size in (("2 kB", 2000), ("one", len(text))):
            parts = documents(text, size)
            ratios, ours, theirs = [], [], []
            for _ in range(options.rounds):
                eep = eep_seconds(options, model, parts, folder)
                tokens, seconds = peer_seconds(options, hf, parts)
                if tokens != eep["tokens"]:
                    sys.exit(f"{name}, {kind}: {eep['tokens']} tokens, the peer makes {tokens}")
                megabytes = eep["bytes"] / 1e6
                ours.append(megabytes / eep["seconds"])
                theirs.append(megabytes / seconds)
                ratios.append(seconds / eep["seconds"])
            print(f"{name:<22} {kind:<6} {shape:<5} {eep['tokens']:>8} {statistics.median(ours):>9.2f}"
                  f" {statistics.median(theirs):>9.2f} {statistics.median(ratios):>7.2f} "
                  f"({min(ratios):.2f}..{max(ratios):.2f})",
                  flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data/tokenizers"))
    parser.add_argument("--json", type=pathlib.Path, action="append", default=[], help="a tokenizer.json")
    parser.add_argument("--wordnet", type=pathlib.Path, default=pathlib.Path("/usr/share/wordnet/data.noun"))
    parser.add_argument("--seconds", type=float, default=1.0, help="of one sample, at least")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{'tokenizer':<22} {'text':<6} {'docs':<5} {'tokens':>8} {'eep MB/s':>9} {'peer MB/s':>9} "
          f"{'ratio':>7}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        qwen, mixtral = options.data / "qwen/qwen.tiktoken", options.data / "mixtral/tokenizer.model"
        if qwen.exists():
            compare(options, "Qwen", check_tokenizers.hf_qwen(check_tokenizers.read_ranks(qwen)), folder)
        if mixtral.exists():
            for form in ("older", "newer"):
                compare(options, f"Mixtral, {form} form", check_tokenizers.hf_mixtral(mixtral, form), folder)
        for path in options.json:
            compare(options, path.parent.name, tokenizers.Tokenizer.from_file(str(path)), folder)


main()
