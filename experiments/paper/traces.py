"""Figures 4, 6 and 7: which experts the tokens of a task go to before and after pruning, from what `eep
logits --taps` writes of every router: correlation of the experts' activation, counts, and sums of routing
weights."""
import csv
import json
import math
import re
import struct

import figures


def prompts_of(task_file, data_file, protocol_eep, count):
    """Texts of the first items, as the task's file asks them."""
    templates = re.findall(r'^(\s*)prompt: (".*")\s*$', task_file.read_text(), re.M)
    wanted = [text for indent, text in templates if bool(indent) == protocol_eep] or [templates[0][1]]
    template = json.loads(wanted[0])
    with open(data_file) as lines:
        items = [json.loads(line) for line, _ in zip(lines, range(count))]
    return [re.sub(r"\{(\w+)\}", lambda field: str(item[field.group(1)]), template) for item in items]


def tensors(path, names):
    """Some f32 tensors of a safetensors file as lists of rows."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()
        found = {}
        for name in names:
            about = header[name]
            file.seek(start + about["data_offsets"][0])
            count = math.prod(about["shape"])
            values = struct.unpack(f"<{count}f", file.read(4 * count))
            width = about["shape"][-1]
            found[name] = [values[i:i + width] for i in range(0, count, width)]
    return found


class Trace:
    """Sums over tokens of one layer under one plan."""

    def __init__(self, experts):
        self.tokens, self.counts, self.weights = 0, [0] * experts, [0.0] * experts
        self.both = [[0] * experts for _ in range(experts)]

    def add(self, experts, weights):
        for chosen, weight in zip(experts, weights):
            used = [(int(e), w) for e, w in zip(chosen, weight) if e >= 0]
            self.tokens += 1
            for e, w in used:
                self.counts[e] += 1
                self.weights[e] += w
                for other, _ in used:
                    self.both[e][other] += 1

    def first(self, experts):
        """Without the rows beyond, which a smaller plan does not have."""
        self.counts, self.weights = self.counts[:experts], self.weights[:experts]
        self.both = [line[:experts] for line in self.both[:experts]]
        return self

    def correlation(self):
        """Pearson's, of the 0/1 indicators; 0 where an expert is always or never used."""
        n, c = self.tokens, self.counts
        spread = [math.sqrt(k * (n - k)) for k in c]
        return [[(n * self.both[i][j] - c[i] * c[j]) / (spread[i] * spread[j]) if spread[i] * spread[j] > 0
                 else 0.0
                 for j in range(len(c))] for i in range(len(c))]


def trace(run, model, plan, prompts, layers, experts, scratch):
    """A Trace a layer. run: calls eep."""
    found = {layer: Trace(experts) for layer in layers}
    for prompt in prompts:
        words = ["logits", model, "--text", prompt, "--out", scratch.with_suffix(".logits"), "--taps",
                 scratch]
        run(*words, *(["--plan", plan] if plan else []))
        names = [f"layer.{layer}.router.{what}" for layer in layers for what in ("expert", "weight")]
        taps = tensors(scratch, names)
        for layer in layers:
            found[layer].add(taps[f"layer.{layer}.router.expert"], taps[f"layer.{layer}.router.weight"])
    for file in (scratch, scratch.with_suffix(".logits")):
        file.unlink()
    return found


def write(out, title, layer, before, after, kept):
    """Figures and rows of one layer. kept: original experts of the pruned plan's rows."""
    with open(out / "figure.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["stage", "expert", "original expert", "tokens", "count", "weight",
                       "correlation with 0, 1, ..."])
        for stage, own, names in (("before", before, range(len(before.counts))), ("after", after, kept)):
            for i, matrix_row in enumerate(own.correlation()):
                rows.writerow([stage, i, names[i], own.tokens, own.counts[i], f"{own.weights[i]:.6g}",
                               " ".join(f"{value:.4f}" for value in matrix_row)])
    about = f"{title.split(':')[0]}, layer {layer}"  # a figure is no wider than its panels
    figures.heat_map(out / "correlation.svg", about + ": correlation",
                     [("before", before.correlation()), ("after", after.correlation())])
    figures.bars(out / "counts.svg", about + ": activations",
                 [("before", before.counts), ("after", after.counts)])
    figures.bars(out / "weights.svg", about + ": sums of weights",
                 [("before", before.weights), ("after", after.weights)])


def summary(layer, before, after, kept):
    """Rows of the table: what the paper reads off these figures."""
    def effective(values):  # number of experts of a uniform load with the same entropy
        total = sum(values) or 1
        return math.exp(-sum(v / total * math.log(v / total) for v in values if v > 0))
    rows = [["layer", "stage", "experts", "tokens", "counts", "weights", "effective number by counts",
             "largest correlation off the diagonal", "least"]]
    for stage, own in (("before", before), ("after", after)):
        off = [value for i, line in enumerate(own.correlation()) for j, value in enumerate(line) if i != j]
        rows.append([layer, stage, " ".join(map(str, range(len(own.counts)) if stage == "before" else kept)),
                     own.tokens, " ".join(map(str, own.counts)),
                     " ".join(f"{value:.1f}" for value in own.weights),
                     f"{effective(own.counts):.2f}", f"{max(off):.2f}", f"{min(off):.2f}"])
    return rows
