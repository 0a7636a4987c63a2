#!/usr/bin/env python3
"""Byte-level BPE tokenizer in Qwen's layout, trained on the tasks' text: one token a word, a letter or a digit."""
import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import make_tasks

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")
END = "<|endoftext|>"


def main(folder):
    rng = random.Random(7)
    rows = ["".join(text for text, _ in make_tasks.corpus_row(task, rng, 2)) for task in make_tasks.TASKS for _ in range(3000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(rows, trainers.BpeTrainer(
        vocab_size=1023, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=2, show_progress=False))
    tokenizer.add_special_tokens([AddedToken(END, normalized=False, special=True)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    end_id = tokenizer.token_to_id(END)
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "add_prefix_space": False, "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": END,
        "errors": "replace", "model_max_length": 128, "pad_token": END, "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(
        {"do_sample": False, "eos_token_id": end_id, "max_new_tokens": 16, "pad_token_id": end_id}, indent=2) + "\n")
    for row in rows:
        assert tokenizer.decode(tokenizer.encode(row).ids) == row
    print(f"{tokenizer.get_vocab_size()} tokens, end {end_id}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
