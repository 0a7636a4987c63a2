#!/usr/bin/env python3
"""Makes tests/loaders/data/: small tokenizers in every supported form, and what their originals make of some
texts.

  pip install tokenizers==0.23.3 sentencepiece==0.2.3 tiktoken==0.14.0
  tests/loaders/make_tokenizer_data.py

Each folder holds a tokenizer file and expected.json: [{"text", "ids" without and "special" with the
post-processor's tokens, "decoded"}, ...]."""

import base64
import io
import json
import pathlib
import unicodedata

import sentencepiece
import tiktoken
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from check_tokenizers import QWEN, byte_alphabet, make_texts, qwen_merges

HERE = pathlib.Path(__file__).parent
DATA = HERE / "data"
CORPUS = [line for name in ("README.md", "docs/method.md", "docs/architecture.md")
          if (HERE.parent.parent / name).exists()
          for line in (HERE.parent.parent / name).read_text().splitlines() if line.strip()]
TEXTS = ["", " ", "  ", "a", " a", "a ", "Hello, world!", "It's we'll I'M they'RE don't 'ſ 'x",
         "12345 3.14 ½ Ⅷ ٣٤", "tabs\t\tand\r\nlines\n\n\n  end  ", "naïve café e\u0301 \u1e9b\u0323 \ufb01",
         "日本語のテキスト 한국어 中文", "😀👍🏽 👨‍👩‍👧‍👦", "\u0000\u0001\u007f\u0085\u00a0\u3000x", "▁▁a ▁b",
         "<s>x</s> <unk>", "<|im_start|>user\nhi<|im_end|>",
         "x <tool>  y", "foo food foo. (foo)", "E\u0301mile Émile émile", "<0x41>", "word " * 20, "a" * 100,
         " " * 50, "ababababababababababababababababababababababababababababababab", "\ufffd\U0010ffff\ue000"]


def texts():
    random = [t.decode() for t in make_texts(60, 5, True, False)]
    return TEXTS + random + ["\n".join(random[:20])]


def write_expected(folder, cases):
    lines = ",\n".join(json.dumps(case) for case in cases)
    (folder / "expected.json").write_text("[" + lines + "]\n")


def save(hf, name, merges_as_strings=False):
    folder = DATA / name
    folder.mkdir(parents=True, exist_ok=True)
    data = json.loads(hf.to_str())
    if merges_as_strings:
        data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    text = json.dumps(data, ensure_ascii=True)
    (folder / "tokenizer.json").write_text(text + "\n")
    hf = tokenizers.Tokenizer.from_str(text)
    write_expected(folder, [{"text": t, "ids": (ids := hf.encode(t, add_special_tokens=False).ids),
                             "special": hf.encode(t).ids,
                             "decoded": hf.decode(ids, skip_special_tokens=False)}
                            for t in texts()])


def byte_level():
    hf = tokenizers.Tokenizer(models.BPE())
    hf.normalizer, hf.decoder = normalizers.NFC(), decoders.ByteLevel()
    hf.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    hf.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=600, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    hf.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    hf.add_tokens([AddedToken("<tool>", lstrip=True, rstrip=True),
                   AddedToken("foo", single_word=True, normalized=False),
                   AddedToken("\u00c9mile", normalized=True)])
    hf.post_processor = processors.ByteLevel(trim_offsets=False)
    save(hf, "qwen")
    (DATA / "qwen" / "tokenizer_config.json").write_text(json.dumps(
        {"eos_token": "<|im_end|>", "bos_token": None, "tokenizer_class": "Qwen2Tokenizer"}) + "\n")

    # The same merges cut in GPT-2's way, as SmolLM2 does; then whole tokens first and a space in front.
    hf.normalizer = None
    hf.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                pre_tokenizers.ByteLevel(add_prefix_space=False)])
    save(hf, "smol", merges_as_strings=True)
    data = json.loads(hf.to_str())
    data["model"]["ignore_merges"] = True
    data["model"]["merges"] = data["model"]["merges"][:100]
    hf = tokenizers.Tokenizer.from_str(json.dumps(data))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    hf.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|> <|endoftext|>",
        special_tokens=[(t, hf.token_to_id(t)) for t in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")])
    save(hf, "whole")


def ranks():
    data = json.loads((DATA / "qwen" / "tokenizer.json").read_text())
    back = {c: b for b, c in byte_alphabet().items()}
    single = [bytes([b]) for b in range(256)]
    merged = [bytes(back[c] for c in a + b) for a, b in data["model"]["merges"]]
    order = {token: rank for rank, token in enumerate(single + merged)}
    assert all(len(pair) == 2 for pair in qwen_merges(order))
    folder = DATA / "tiktoken"
    folder.mkdir(exist_ok=True)
    (folder / "qwen.tiktoken").write_text("".join(f"{base64.b64encode(t).decode()} {r}\n" for t,
                                                  r in order.items()))
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)]
    tik = tiktoken.Encoding("qwen", pat_str=QWEN, mergeable_ranks=order,
                            special_tokens={name: len(order) + i for i, name in enumerate(names)})
    write_expected(folder, [{"text": t, "ids": (ids := tik.encode(unicodedata.normalize("NFC", t),
                                                                  allowed_special="all")),
                             "special": ids, "decoded": tik.decode(ids)} for t in texts()])


def sentence_piece():
    folder = DATA / "sentencepiece"
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=560, model_type="bpe",
        byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=True, character_coverage=0.999, minloglevel=2)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    spm = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    plain = [t for t in texts() if not any(s in t for s in ("<s>", "</s>", "<unk>"))]
    write_expected(folder, [{"text": t, "ids": (ids := spm.encode(t)), "special": [spm.bos_id()] + ids,
                             "decoded": spm.decode(ids)} for t in plain])

    pieces = [(spm.id_to_piece(i), spm.get_score(i)) for i in range(spm.get_piece_size())]
    vocab = {piece: i for i, (piece, _) in enumerate(pieces)}
    merges = []
    for piece, score in pieces:
        cuts = [(piece[:i], piece[i:], score) for i in range(1, len(piece)) if piece[:i] in vocab
                and piece[i:] in vocab]
        merges += sorted(cuts, key=lambda m: (vocab[m[0]], vocab[m[1]]))
    merges = [(a, b) for a, b, _ in sorted(merges, key=lambda m: -m[2])]
    options = dict(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True)
    hf = tokenizers.Tokenizer(models.BPE(**options, byte_fallback=True))
    hf.add_special_tokens(["<unk>", "<s>", "</s>"])
    hf.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    hf.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                    decoders.Strip(" ", 1, 0)])
    hf.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    save(hf, "prepend", merges_as_strings=True)
    hf.normalizer, hf.pre_tokenizer = None, pre_tokenizers.Metaspace("▁", "first", False)
    save(hf, "metaspace")

    # No fallback: unknown characters; a cut before every blank.
    hf.model = models.BPE(**options)
    hf.pre_tokenizer, hf.decoder = pre_tokenizers.Metaspace("▁", "always",
                                                            True), decoders.Metaspace("▁", "always", True)
    save(hf, "unknown")


if __name__ == "__main__":
    byte_level()
    ranks()
    sentence_piece()
