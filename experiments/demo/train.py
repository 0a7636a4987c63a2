"""Trains the demo's two models on the mixture of all tasks and writes them as Hugging Face checkpoints in
bf16.

    python3 train.py mixtral --out /some/folder      # PyTorch 2.x, tokenizers, safetensors, numpy
    python3 train.py qwen --out /some/folder

Examples are packed into rows under a block-diagonal causal mask, so none sees another. Loss weight 1 on
answers, 0.1 on prompts. Hidden matrices are trained with Muon (momentum orthogonalised by Newton-Schulz
steps), the rest with AdamW; the learning rate falls linearly with the tokens seen, so a seed and one thread
give one model. Skills that are learned already get a smaller share of the mixture.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

import make_tasks as tasks

HERE = Path(__file__).parent
ROW = 72  # tokens of a packed row

MODELS = {
    "mixtral": dict(hidden=96, layers=4, heads=4, kv_heads=2, experts=8, width=160, top_k=2, shared=0,
                    renormalise=True, bias=False, eps=1e-5),
    "qwen": dict(hidden=96, layers=4, heads=4, kv_heads=4, experts=16, width=64, top_k=4, shared=96,
                 renormalise=False, bias=True, eps=1e-6),
}
THETA = 10000.0
# Looking up a fact of the text is learned late in a mixture, so it gets the larger share.
SHARES = {"yesno": 2.5, "recall": 3.0, "entail": 2.0, "letter": 2.0, "sense": 2.0, "sum": 2.0, "cause": 1.0,
          "sort": 0.6, "reverse": 0.6}


class Layer(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        d, h = c["hidden"], c["hidden"] // c["heads"]
        kv = c["kv_heads"] * h

        def matrix(*shape):
            return torch.nn.Parameter(torch.randn(*shape) / math.sqrt(shape[-1]))

        self.input_norm, self.post_norm = (torch.nn.Parameter(torch.ones(d)) for _ in range(2))
        self.q, self.k, self.v, self.o = matrix(d, d), matrix(kv, d), matrix(kv, d), matrix(d, d)
        self.q_bias, self.k_bias, self.v_bias = (torch.nn.Parameter(torch.zeros(n), requires_grad=c["bias"])
                                                 for n in (d, kv, kv))
        self.gate = matrix(c["experts"], d)
        self.w1, self.w3 = matrix(c["experts"], c["width"], d), matrix(c["experts"], c["width"], d)
        self.w2 = matrix(c["experts"], d, c["width"])
        if c["shared"]:
            self.s1, self.s3, self.s2 = matrix(c["shared"], d), matrix(c["shared"], d), matrix(d, c["shared"])
            self.shared_gate = matrix(1, d)


class Model(torch.nn.Module):
    def __init__(self, c, vocab):
        super().__init__()
        self.c = c
        self.embed = torch.nn.Parameter(torch.randn(vocab, c["hidden"]) * 0.5)
        self.head = torch.nn.Parameter(torch.randn(vocab, c["hidden"]) / math.sqrt(c["hidden"]))
        self.norm = torch.nn.Parameter(torch.ones(c["hidden"]))
        self.layers = torch.nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        d = c["hidden"] // c["heads"]
        angles = torch.arange(256).float()[:, None] * THETA ** (-torch.arange(0, d, 2).float() / d)
        self.register_buffer("cos", torch.cat([angles.cos()] * 2, -1))
        self.register_buffer("sin", torch.cat([angles.sin()] * 2, -1))

    def rms(self, x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c["eps"]) * weight

    def rope(self, x, position):
        half = x.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * self.cos[position][:, None] + turned * self.sin[position][:, None]

    def attend(self, layer, x, position, mask):
        c, (b, t, d) = self.c, x.shape
        h = d // c["heads"]
        q = (x @ layer.q.T + layer.q_bias).view(b, t, c["heads"], h).transpose(1, 2)
        k = (x @ layer.k.T + layer.k_bias).view(b, t, c["kv_heads"], h).transpose(1, 2)
        v = (x @ layer.v.T + layer.v_bias).view(b, t, c["kv_heads"], h).transpose(1, 2)
        q, k = self.rope(q, position), self.rope(k, position)
        share = c["heads"] // c["kv_heads"]
        k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).reshape(b, t, d) @ layer.o.T

    def mixture(self, layer, x):
        c = self.c
        p = (x @ layer.gate.T).softmax(-1)
        weight, chosen = p.topk(c["top_k"], -1)
        used = F.one_hot(chosen, c["experts"]).sum(1).float().mean(0) / c["top_k"]
        balance = c["experts"] * (used.detach() * p.mean(0)).sum()
        if c["renormalise"]:
            weight = weight / weight.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        order = chosen.flatten().argsort(stable=True)
        counts = chosen.flatten().bincount(minlength=c["experts"]).tolist()
        rows = (order // c["top_k"]).split(counts)
        scale = weight.flatten()[order].split(counts)
        for e in range(c["experts"]):
            if counts[e] == 0:
                continue
            y = x[rows[e]]
            y = (F.silu(y @ layer.w1[e].T) * (y @ layer.w3[e].T)) @ layer.w2[e].T
            out.index_add_(0, rows[e], y * scale[e][:, None])
        if c["shared"]:
            y = (F.silu(x @ layer.s1.T) * (x @ layer.s3.T)) @ layer.s2.T
            out = out + torch.sigmoid(x @ layer.shared_gate.T) * y
        return out, balance

    def forward(self, tokens, position, mask):
        x = self.embed[tokens]
        balance = 0.0
        for layer in self.layers:
            x = x + self.attend(layer, self.rms(x, layer.input_norm), position, mask)
            flat = self.rms(x, layer.post_norm).flatten(0, 1)
            out, add = self.mixture(layer, flat)
            x, balance = x + out.view_as(x), balance + add
        return self.rms(x, self.norm), balance


# ---- data


class Source:
    """Training examples as (ids, loss weights); the shares of the skills can change."""

    def __init__(self, tokenizer, seed):
        self.tokenizer, self.rng = tokenizer, random.Random(seed)
        self.shares = dict(SHARES)
        # A bare yes or no teaches little: at first what is untrue is of a thing that nobody has, and many
        # pairs of one sense repeat a word. `harden` ends that.
        self.easier = {"yesno": {"absent": 1.0}, "sense": {"repeat": 0.5}}

    def harden(self, scores):
        if scores["yesno"] > 0.65:
            self.easier["yesno"] = {"absent": 0.5}
        if scores["sense"] > 0.65:
            self.easier["sense"] = {"repeat": 0.1}

    def pieces(self, task):
        """Alternating prompt and answer texts."""
        item = tasks.pool_item(task, self.rng, **self.easier.get(task, {}))
        out = [tasks.render(task, item), tasks.answer_of(task, item) + "\n"]
        more = {"yesno": self.about_passage, "recall": self.about_passage,
                "entail": self.about_premise}.get(task)
        if more:
            # Several questions about one text: more answer tokens a row, and each is the prompt of a pool
            # instance.
            for _ in range(self.rng.randint(2, 4)):
                kind, other, shared = more(item)
                if tasks.split_of(kind, other) == "pool":
                    out += [tasks.render(kind, other)[len(shared) + 1:], tasks.answer_of(kind, other) + "\n"]
        return out

    def about_passage(self, item):
        passage = item.get("passage") or item["context"]
        known = [tuple(fact.split(" ")) for fact in passage.rstrip(".").split(", ")]
        shared = "Owners: " + passage
        if self.rng.random() < 0.5:
            question, label = tasks.claim(known, self.rng, self.easier["yesno"]["absent"])
            return "yesno", {"passage": passage, "question": question, "label": label}, shared
        name, color, thing = self.rng.choice(known)
        return "recall", {"context": passage, "question": name, "answer": f"{color} {thing}"}, shared

    def about_premise(self, item):
        premise = item["premise"]
        people = {}
        for sentence in premise.rstrip(".").split(". "):
            name, traits = sentence.split(" is ")
            people[name] = traits.replace(" and ", ", ").split(", ")
        about = self.rng.choice(list(people))
        claimed, label = tasks.conclude(people, about, self.rng)
        return "entail", {"premise": premise, "hypothesis": f"{about} is {claimed}", "label": label}, premise

    def examples(self, count):
        names, shares = list(self.shares), list(self.shares.values())
        texts = [self.pieces(self.rng.choices(names, shares)[0]) for _ in range(count)]
        flat = self.tokenizer.encode_batch([p for pieces in texts for p in pieces])
        out, i = [], 0
        for pieces in texts:
            ids, weights = [], []
            for j, _ in enumerate(pieces):
                ids += flat[i].ids
                weights += [1.0 if j % 2 else 0.1] * len(flat[i].ids)
                i += 1
            out.append((ids[:ROW], weights[:ROW]))
        return out

    def batch(self, rows):
        """Packed rows: tokens, positions, segment, target weight."""
        packed = []
        waiting = self.examples(rows * 3)
        while waiting:
            room, row = ROW, []
            i = 0
            while i < len(waiting):
                if len(waiting[i][0]) <= room:
                    example = waiting.pop(i)
                    row.append(example)
                    room -= len(example[0])
                else:
                    i += 1
                if room < 12:
                    break
            packed.append(row)
        n = len(packed)
        tokens, position, segment = (torch.zeros(n, ROW, dtype=torch.long) for _ in range(3))
        weight = torch.zeros(n, ROW)
        for r, row in enumerate(packed):
            at = 0
            for s, (ids, w) in enumerate(row):
                end = at + len(ids)
                tokens[r, at:end] = torch.tensor(ids)
                position[r, at:end] = torch.arange(len(ids))
                segment[r, at:end] = s + 1
                weight[r, at:end] = torch.tensor(w)
                weight[r, at] = 0
                at = end
        return tokens, position, segment, weight


def mask_of(segment):
    same = segment[:, :, None] == segment[:, None, :]
    return (same & torch.ones(ROW, ROW, dtype=torch.bool).tril())[:, None]


# ---- optimiser


def orthogonal(g):
    """Newton-Schulz iteration towards the nearest orthogonal matrix (Muon)."""
    transposed = g.shape[-2] > g.shape[-1]
    x = g.mT if transposed else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if transposed else x


class Muon:
    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.momentum = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, rate):
        for p, m in zip(self.parameters, self.momentum):
            m.mul_(0.95).add_(p.grad)
            update = orthogonal(p.grad + 0.95 * m)
            p.mul_(1 - 0.01 * rate)
            p.add_(update, alpha=-rate * max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5)
            p.grad = None


# ---- evaluation and export


@torch.no_grad()
def accuracy(model, tokenizer, task, split, limit):
    lines = (HERE / "data" / task / f"{split}.jsonl").read_text().splitlines()[:limit]
    items = [json.loads(line) for line in lines]
    choices = task == "cause" or task in tasks.CHOICES
    candidates = []
    for item in items:
        prompt = tokenizer.encode(tasks.render(task, item)).ids
        answers = (item["choices"] if task == "cause" else tasks.CHOICES[task]) if choices else [
            tasks.answer_of(task, item) + "\n"]
        candidates += [(prompt, tokenizer.encode(a).ids) for a in answers]
    scores = []
    for begin in range(0, len(candidates), 128):
        part = candidates[begin:begin + 128]
        longest = max(len(p) + len(a) for p, a in part)
        tokens = torch.zeros(len(part), longest, dtype=torch.long)
        for i, (p, a) in enumerate(part):
            tokens[i, :len(p) + len(a)] = torch.tensor(p + a)
        position = torch.arange(longest).expand(len(part), -1)
        hidden, _ = model(tokens, position, torch.ones(longest, longest, dtype=torch.bool).tril())
        for i, (p, a) in enumerate(part):
            logp = (hidden[i, len(p) - 1:len(p) + len(a) - 1] @ model.head.T).log_softmax(-1)
            target = torch.tensor(a)
            if choices:
                scores.append(logp.gather(1, target[:, None]).sum().item())
            else:
                scores.append(float((logp.argmax(-1) == target).all()))
    if not choices:
        return sum(scores) / len(scores)
    width = len(candidates) // len(items)
    right = sum(max(range(width), key=lambda j: scores[i * width + j]) == item["label"]
                for i, item in enumerate(items))
    return right / len(items)


def export(model, name, vocab, folder):
    """A checkpoint as transformers 4 writes it."""
    c = model.c
    moe = "block_sparse_moe" if name == "mixtral" else "mlp"
    expert_names = ("w1", "w3", "w2") if name == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    out = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm,
           "lm_head.weight": model.head}
    for i, layer in enumerate(model.layers):
        at = f"model.layers.{i}."
        out[
            at + "input_layernorm.weight"], out[
                at + "post_attention_layernorm.weight"] = layer.input_norm, layer.post_norm
        for part in "qkvo":
            out[at + f"self_attn.{part}_proj.weight"] = getattr(layer, part)
            if c["bias"] and part != "o":
                out[at + f"self_attn.{part}_proj.bias"] = getattr(layer, part + "_bias")
        out[at + moe + ".gate.weight"] = layer.gate
        for e in range(c["experts"]):
            for label, source in zip(expert_names, (layer.w1, layer.w3, layer.w2)):
                out[at + f"{moe}.experts.{e}.{label}.weight"] = source[e]
        if c["shared"]:
            for label, source in zip(expert_names, (layer.s1, layer.s3, layer.s2)):
                out[at + f"mlp.shared_expert.{label}.weight"] = source
            out[at + "mlp.shared_expert_gate.weight"] = layer.shared_gate
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in out.items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["MixtralForCausalLM" if name == "mixtral" else "Qwen2MoeForCausalLM"],
        "model_type": "mixtral" if name == "mixtral" else "qwen2_moe", "hidden_act": "silu",
        "hidden_size": c["hidden"], "intermediate_size": c["width"], "num_hidden_layers": c["layers"],
        "num_attention_heads": c["heads"], "num_key_value_heads": c["kv_heads"], "vocab_size": vocab,
        "max_position_embeddings": 256, "rms_norm_eps": c["eps"], "rope_theta": THETA, "sliding_window": None,
        "tie_word_embeddings": False, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
        "num_experts_per_tok": c["top_k"], "router_aux_loss_coef": 0.01, "output_router_logits": False,
        "bos_token_id": None, "eos_token_id": vocab - 1, "torch_dtype": "bfloat16",
        "transformers_version": "4.46.0",
    }
    if name == "mixtral":
        config.update(num_local_experts=c["experts"], head_dim=c["hidden"] // c["heads"],
                      router_jitter_noise=0.0)
    else:
        config.update(num_experts=c["experts"], moe_intermediate_size=c["width"],
                      intermediate_size=c["shared"], shared_expert_intermediate_size=c["shared"],
                      norm_topk_prob=False, qkv_bias=True,
                      decoder_sparse_step=1, mlp_only_layers=[], use_sliding_window=False,
                      max_window_layers=4)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": vocab - 1,
                                                               "do_sample": False}, indent=2) + "\n")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        if (HERE / name / file).resolve() != (folder / file).resolve():
            (folder / file).write_text((HERE / name / file).read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("--tokens", type=float, default=16, help="to train on, in millions")
    parser.add_argument("--rows", type=int, default=22, help="of a batch")
    parser.add_argument("--rate", type=float, default=0.012,
                        help="of Muon; AdamW has a quarter of it at most 0.004")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="state.pt of an earlier run")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer.from_file(str(HERE / args.name / "tokenizer.json"))
    vocab = tokenizer.get_vocab_size()
    model = Model(MODELS[args.name], vocab)
    hidden = [p for n, p in model.named_parameters()
              if p.dim() >= 2 and n.startswith("layers") and not n.endswith("gate") and p.requires_grad]
    rest = [p for p in model.parameters() if p.requires_grad and not any(p is q for q in hidden)]
    muon, adam = Muon(hidden), torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    source = Source(tokenizer, args.seed)
    seen, start, report = 0, time.time(), 0.0
    if args.resume:
        state = torch.load(args.resume)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        muon.momentum, seen = state["momentum"], state["seen"]
        source.rng.seed(args.seed + seen)
    print(args.name, sum(p.numel() for p in model.parameters()), "parameters, vocabulary", vocab, flush=True)
    step, running = 0, 0.0
    args.out.mkdir(parents=True, exist_ok=True)
    total = 1e6 * args.tokens
    while seen < total:
        rate = args.rate * min(1.0, (step + 1) / 100) * max(0.02, 1 - seen / total)
        tokens, position, segment, weight = source.batch(args.rows)
        out, balance = model(tokens, position, mask_of(segment))
        wanted = weight[:, 1:] > 0
        logits = out[:, :-1][wanted] @ model.head.T
        w = weight[:, 1:][wanted]
        loss = (F.cross_entropy(logits, tokens[:, 1:][wanted], reduction="none") * w).sum() / w.sum()
        (loss + 0.01 * balance).backward()
        for group in adam.param_groups:
            group["lr"] = min(0.004, rate / 4)
        muon.step(rate)
        adam.step()
        adam.zero_grad()
        seen += int((segment > 0).sum())
        running = 0.98 * running + 0.02 * loss.item() if step else loss.item()
        step += 1
        if seen - report > 1e6:
            report = seen
            scores = {task: accuracy(model, tokenizer, task, "dev", 128) for task in tasks.TASKS}
            source.harden(scores)
            source.shares = {t: SHARES[t] * (0.15 if s > 0.97 else 0.4 if s > 0.9 else 1.0 if s > 0.5
                                             else 2.5) for t, s in scores.items()}
            print(f"{(time.time() - start) / 60:5.1f} min step {step} tokens {seen / 1e6:.1f}M rate "
                  f"{rate:.4f} loss {running:.3f} "
                  + " ".join(f"{t} {s:.2f}" for t, s in scores.items()), flush=True)
            torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "momentum": muon.momentum,
                        "seen": seen, "shares": source.shares}, args.out / "state.tmp")
            (args.out / "state.tmp").rename(args.out / "state.pt")
            export(model, args.name, vocab, args.out / "checkpoint")
    export(model, args.name, vocab, args.out / "checkpoint")
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.to(torch.bfloat16).float())
    print("test, bf16:",
          json.dumps({t: round(accuracy(model, tokenizer, t, "test", 600), 3) for t in tasks.TASKS}))


if __name__ == "__main__":
    main()
