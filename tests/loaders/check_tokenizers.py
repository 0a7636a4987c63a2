#!/usr/bin/env python3
"""Compares `eep tokenize` with tokenizers, sentencepiece and tiktoken on many strings: ids and round trip.

  pip install tokenizers==0.23.3 sentencepiece==0.2.3 tiktoken==0.14.0
  tests/loaders/check_tokenizers.py --eep build/eep --data ../shared/data/tokenizers --count 100000

The real files (Mixtral's tokenizer.model, qwen.tiktoken) are optional; a tokenizer.json given with --json is
compared as well. Strings come from a seed: prose, code, numbers, emoji, controls, blanks, combining marks,
random Unicode, special tokens and invalid UTF-8. Exit status 1 if anything differs."""

import argparse
import base64
import itertools
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+")
LLAMA3 = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|")
END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{END}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{END}|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
WORDS = """the of and to in is that it was for on are with as his they at be this from have or by one had not
but what all were when we there can an your which their said if do will each about how up out them then she
many some so these would other into has more her two like him see time could no make than first been its who
now people my made over did down only way find use may water long little very after words called just where
most know""".split()
CODE = ["def f(x):", "    return x ** 2", "for (int i = 0; i < n; ++i) {", "}", "#include <vector>",
        "\tif x != y:", "a[i] += b[j] * c;", "/* comment */", "std::vector<std::string>",
        "SELECT * FROM t WHERE a='b';", "x=>x+1", "https://example.org/a?b=c&d=%20", "0x7fff_ffff", "1e-05",
        "$HOME/.local", "__init__", "camelCaseWord"]
SPECIALS = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<0x0A>", "[INST]",
            "<|extra_3|>"]
BLANKS = " \t\r\v\f\u0085\u00a0\u1680\u2003\u2009\u2028\u2029\u202f\u205f\u3000\u200b"
RANGES = [(0x20, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x4ff), (0x590, 0x5ff),
          (0x600, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f), (0x1100, 0x11ff), (0x1e00, 0x1eff),
          (0x2000, 0x206f), (0x2070, 0x218f), (0x2460, 0x24ff), (0x2500, 0x27bf), (0x3040, 0x30ff),
          (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0xf900, 0xfaff),
          (0xfb00, 0xfdff), (0xff00, 0xffef), (0x1d100, 0x1d7ff), (0x1f300, 0x1faff), (0x20000, 0x2a6df)]


def assigned(point):
    return unicodedata.category(chr(point)) not in ("Cn", "Cs", "Co")


def fragment(rng):
    kind = rng.randrange(15)
    if kind <= 2:
        words = [rng.choice(WORDS) for _ in range(rng.randrange(1, 9))]
        if rng.random() < 0.3:
            words[0] = words[0].capitalize()
        return rng.choice(["", " "]) + " ".join(words) + rng.choice(["", ".", ",", "!", "?", "'s", "'LL",
                                                                     "'re", "n't"])
    if kind == 3:
        return rng.choice(CODE)
    if kind == 4:
        return str(rng.randrange(10 ** rng.randrange(1, 13))) + rng.choice(["", "%", " km", ",5", "½", "٣",
                                                                            "Ⅷ"])
    if kind == 5:
        return "".join(chr(rng.randrange(0x1f300, 0x1fa00))
                       for _ in range(rng.randrange(1, 4))) + rng.choice(["", "\ufe0f", "\u200d"])
    if kind == 6:
        return "".join(rng.choice(BLANKS) for _ in range(rng.randrange(1, 7)))
    if kind == 7:
        return " " * rng.randrange(1, 40)
    if kind == 8:
        return chr(rng.choice(list(range(10)) + list(range(11, 32)) + [0x7f]))
    if kind == 9:
        return rng.choice("aeionsAEIOuc") + "".join(chr(rng.randrange(0x300, 0x345))
                                                    for _ in range(rng.randrange(1, 4)))
    if kind == 10:
        return rng.choice(["'", "’"]) + rng.choice(["s", "S", "ſ", "t", "re", "Ve", "m", "lL", "d", "x", "l"])
    if kind <= 12:  # letters of every category, with marks and what may stand beside them
        return "".join(rng.choice("aBcDéÉßǅǈʰªºあ中ـ\u0301\u0903\u20dd '/-1")
                       for _ in range(rng.randrange(1, 9)))
    low, high = rng.choice(RANGES)
    points = [rng.randrange(low, high + 1) for _ in range(rng.randrange(1, 9))]
    return "".join(chr(p) for p in points if assigned(p))


def make_texts(count, seed, specials, invalid):
    rng = random.Random(seed)
    texts = []
    while len(texts) < count:
        parts = [fragment(rng) for _ in range(rng.randrange(1, 6))]
        if specials and rng.random() < 0.08:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(SPECIALS))
        raw = "".join(parts).replace("\n", " ").encode()
        if invalid and rng.random() < 0.1:
            at = rng.randrange(len(raw) + 1)
            raw = raw[:at] + bytes(rng.randrange(128, 256) for _ in range(rng.randrange(1, 4))) + raw[at:]
        texts.append(raw)
    return texts


class Eep:
    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)

    def run(self, model, data, *options):
        path = self.folder / "input"
        path.write_bytes(data)
        done = subprocess.run([self.program, "tokenize", str(model), "--file", str(path), *options],
                              stdout=subprocess.PIPE, check=True)
        return done.stdout

    def lines(self, model, texts, special):
        out = self.run(model, b"\n".join(texts) + b"\n", "--lines", *([] if special else ["--no-special"]))
        return [json.loads(line) for line in out.splitlines()]

    def document(self, model, text, special):
        return json.loads(self.run(model, text, *([] if special else ["--no-special"])))

    def decode(self, model, ids):
        return self.run(model, json.dumps(ids).encode(), "--decode")


def compare(name, eep, model, texts, encode, decode, special):
    """encode: list of str to list of ids; decode: ids to str or None."""
    strings = [text.decode("utf-8", "replace") for text in texts]
    ours, expected = eep.lines(model, texts, special), encode(strings)
    wrong = [i for i in range(len(texts)) if ours[i] != expected[i]]
    # Line ends: the same strings as documents of a hundred lines.
    documents = []
    for begin in range(0, min(len(texts), 800), 100):
        end = [b"\n", b"\r\n", b"\n\n", b" \n  "][begin // 100 % 4]
        documents.append(end.join(texts[begin:begin + 100]))
    wrong_documents = [i for i, text in enumerate(documents)
                       if eep.document(model, text, special) != encode([text.decode("utf-8", "replace")])[0]]
    wrong_decode = 0
    if decode is not None:
        for ids in expected[:6] + [list(itertools.chain.from_iterable(expected))]:
            ours_text = eep.decode(model, ids)
            theirs = decode(ids).encode()
            wrong_decode += ours_text != theirs and ours_text != theirs + b"\n"
    print(f"{name}: {len(texts)} strings, {len(wrong)} differ; {len(documents)} documents, "
          f"{len(wrong_documents)} differ;"
          f" {wrong_decode} decoded texts differ", flush=True)
    for i in wrong[:3]:
        print("  text", repr(strings[i]), "\n  ours    ", ours[i], "\n  expected", expected[i])
    return not (wrong or wrong_documents or wrong_decode)


def byte_alphabet():
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    table, extra = {}, 0x100
    for byte in range(256):
        if byte in plain:
            table[byte] = chr(byte)
        else:
            table[byte], extra = chr(extra), extra + 1
    return table


def qwen_merges(ranks):
    """The pair that merges of lower rank leave of each token."""
    merges = []
    for token, rank in ranks.items():
        if len(token) == 1:
            continue
        parts = [token[i:i + 1] for i in range(len(token))]
        while len(parts) > 2:
            best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], 1 << 40))
            parts[best:best + 2] = [parts[best] + parts[best + 1]]
        merges.append(parts)
    return merges


QWEN_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)]


def read_ranks(path):
    ranks = {}
    for line in path.read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    return ranks


def hf_qwen(ranks):
    """Qwen's ranks as a tokenizer of `tokenizers`."""
    import tokenizers
    from tokenizers import decoders, normalizers, pre_tokenizers
    table = byte_alphabet()
    spell = lambda token: "".join(table[b] for b in token)
    merges = [(spell(a), spell(b)) for a, b in qwen_merges(ranks)]
    hf = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={spell(t): r for t, r in ranks.items()},
                                                    merges=merges))
    hf.add_special_tokens(QWEN_SPECIALS)
    hf.normalizer, hf.decoder = normalizers.NFC(), decoders.ByteLevel()
    hf.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(QWEN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return hf


def check_qwen(eep, path, count, seed, folder):
    import tiktoken
    from tokenizers import pre_tokenizers
    ranks = read_ranks(path)
    specials = {name: len(ranks) + i for i, name in enumerate(QWEN_SPECIALS)}
    tik = tiktoken.Encoding("qwen", pat_str=QWEN, mergeable_ranks=ranks, special_tokens=specials)
    cut = re.compile("(" + "|".join(map(re.escape, QWEN_SPECIALS)) + ")")

    # special tokens first, as in Qwen's tokenizer.json: a mark after one must not change its ">"
    def encode(text):
        normal = "".join(unicodedata.normalize("NFC", part) for part in cut.split(text))
        return tik.encode(normal, allowed_special="all")

    ok = compare("qwen.tiktoken against tiktoken", eep, path, make_texts(count, seed, True, True),
                 lambda s: [encode(t) for t in s], tik.decode, True)
    hf = hf_qwen(ranks)
    ok &= check_hf("qwen tokenizer.json", eep, hf, folder / "qwen", count, seed + 1)
    hf.normalizer = None
    for name, expression in (("Llama 3", LLAMA3), ("GPT-4o", GPT4O)):
        import tokenizers
        hf.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(tokenizers.Regex(expression), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        ok &= check_hf(f"the same tokens with {name}'s expression", eep, hf, folder / name, count, seed + 3)
        plain = tiktoken.Encoding("other", pat_str=expression, mergeable_ranks=ranks, special_tokens=specials)
        texts = make_texts(count // 4, seed + 4, True, True)
        ok &= compare(f"the same against tiktoken", eep, folder / name, texts,
                      lambda s: [plain.encode(t, allowed_special="all") for t in s], plain.decode, True)
    hf.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                pre_tokenizers.ByteLevel(add_prefix_space=False)])
    ok &= check_hf("the same tokens with SmolLM2's pre-tokenizer", eep, hf, folder / "smol", count // 4,
                   seed + 2)
    return ok


def check_hf(name, eep, hf, folder, count, seed):
    folder.mkdir(exist_ok=True)
    hf.save(str(folder / "tokenizer.json"))
    return compare(f"{name} against tokenizers", eep, folder, make_texts(count, seed, True, True),
                   lambda s: [e.ids for e in hf.encode_batch(s)],
                   lambda ids: hf.decode(ids, skip_special_tokens=False), True)


def hf_mixtral(path, form):
    """Mixtral's tokenizer.model as its tokenizer.json has it: "older" (normalizers) or "newer"
    (Metaspace)."""
    import sentencepiece
    import tokenizers
    from tokenizers import decoders, normalizers, pre_tokenizers, processors
    spm = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = [(spm.id_to_piece(i), spm.get_score(i)) for i in range(spm.get_piece_size())]
    vocab = {piece: i for i, (piece, _) in enumerate(pieces)}
    merges = []
    for piece, score in pieces:
        local = [(piece[:i], piece[i:], score) for i in range(1, len(piece)) if piece[:i] in vocab
                 and piece[i:] in vocab]
        merges += sorted(local, key=lambda m: (vocab[m[0]], vocab[m[1]]))
    merges = [(a, b) for a, b, _ in sorted(merges, key=lambda m: -m[2])]
    hf = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges, unk_token="<unk>",
                                                    fuse_unk=True, byte_fallback=True))
    hf.add_special_tokens(["<unk>", "<s>", "</s>"])
    hf.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    hf.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                    decoders.Strip(" ", 1, 0)])
    if form == "older":
        hf.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        hf.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", False)
    return hf


def check_mixtral(eep, path, count, seed, folder):
    import sentencepiece
    spm = sentencepiece.SentencePieceProcessor(model_file=str(path))
    # Inside a text SentencePiece spells special tokens out, Hugging Face does not: none here.
    ok = compare("Mixtral tokenizer.model against sentencepiece", eep, path,
                 make_texts(count, seed, False, True),
                 lambda s: [spm.encode(t, add_bos=True) for t in s], None, True)
    ok &= check_hf("Mixtral tokenizer.json, older form", eep, hf_mixtral(path, "older"), folder / "old",
                   count, seed + 1)
    ok &= check_hf("Mixtral tokenizer.json, newer form", eep, hf_mixtral(path, "newer"), folder / "new",
                   count // 4, seed + 2)
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eep", default="build/eep")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data/tokenizers"))
    parser.add_argument("--json", type=pathlib.Path, action="append", default=[], help="a tokenizer.json")
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        eep = Eep(options.eep, folder)
        for path in options.json:
            import tokenizers
            hf = tokenizers.Tokenizer.from_file(str(path))
            ok &= check_hf(str(path), eep, hf, folder / "given", options.count, options.seed)
        for name, check in (("qwen/qwen.tiktoken", check_qwen), ("mixtral/tokenizer.model", check_mixtral)):
            if (options.data / name).exists():
                ok &= check(eep, options.data / name, options.count, options.seed, folder)
            else:
                print(f"{options.data / name}: not there, skipped")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
