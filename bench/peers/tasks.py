"""Task files of eep, read for the official procedure: prompts, scoring of generated text (exact_match) and of
choices."""

import json
from pathlib import Path

import yaml
from tokenizers import Tokenizer


class Task:
    def __init__(self, path, model, split, limit):
        fields = yaml.safe_load(Path(path).read_text())
        self.name, self.kind, self.metric = fields["name"], fields["kind"], fields["metric"]
        if self.metric not in ("exact_match", "acc") or "extract" in fields.get("generate", {}):
            raise SystemExit(f"{path}: only exact_match and acc without extraction are implemented here")
        self.tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        self.max_new = fields.get("generate", {}).get("max_new", 20)
        self.stop = fields.get("generate", {}).get("stop", ["\n"])
        lines = (Path(path).parent / fields["data"][split]).read_text().splitlines()
        items = [json.loads(line) for line in lines if line.strip()][: limit or None]
        self.prompts = [fields["prompt"].format(**item) for item in items]
        self.targets = [item[fields["target"]] for item in items]
        if self.kind == "multiple_choice":
            self.choices = [item[fields["choices_from"]] if "choices_from" in fields else fields["choices"]
                            for item in items]
            self.pairs = [self.encode_pair(prompt, choice) for prompt,
                          choices in zip(self.prompts, self.choices)
                          for choice in choices]
        else:
            self.ids = [self.tokenizer.encode(prompt).ids for prompt in self.prompts]

    def __len__(self):
        return len(self.prompts)

    def encode_pair(self, prompt, choice):
        """Context and choice encoded as a whole; blanks at the context's end belong to the choice."""
        head = prompt.rstrip()
        context = self.tokenizer.encode(head).ids
        return context, self.tokenizer.encode(prompt + choice).ids[len(context) :]

    def score(self, peer):
        """Mean metric of the model that `peer` holds now."""
        if self.kind == "multiple_choice":
            sums = iter(peer.logliks(self.pairs))
            right = 0
            for choices, target in zip(self.choices, self.targets):
                values = [next(sums) for _ in choices]
                right += values.index(max(values)) == int(target)
            return right / len(self)
        right = 0
        for row, target in zip(peer.generate(self.ids, self.max_new), self.targets):
            text = self.tokenizer.decode(row, skip_special_tokens=True)
            for stop in self.stop:
                text = text.split(stop)[0]
            references = target if isinstance(target, list) else [target]
            right += text.strip() in [reference.strip() for reference in references]
        return right / len(self)
