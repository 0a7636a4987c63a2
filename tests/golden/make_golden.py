"""Writes the golden checkpoints: tiny random models saved by transformers itself, token ids, and the logits,
greedy continuations and planned logits that the engine must reproduce.

    python3 -m venv env && env/bin/pip install -r requirements.txt && env/bin/python make_golden.py

Output, beside this file: manifest.json and one directory a checkpoint with config.json, safetensors, ids.json
(list of lists), expected.safetensors (logits.0, ... [tokens, vocab]: transformers in f32 on the checkpoint's
weights), and plans/<name>.json with plans/<name>.safetensors (the same for plan_ids.json under the plan, see
plan_model.py). hf16_error: how far transformers' own run in the checkpoint's 16-bit dtype is from the f32
result. noise: the largest difference between two f32 runs of transformers (whole sequence, token by token),
relative to the largest logit. generation: greedy continuations in f32, end-of-sequence ids ignored. Every
routing decision is away from a tie, so f32 rounding cannot change it; a seed with a near-tie is replaced.
"""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, Glm4MoeConfig, GptOssConfig, MixtralConfig, OlmoeConfig,
                          Qwen2MoeConfig, Qwen3MoeConfig)
from transformers.integrations.mxfp4 import FP4_VALUES, convert_moe_packed_tensors
from transformers.utils import logging

from cases import CASES
from plan_model import AppliedPlan, gate_of, grouped, is_sparse, keep_rows, make_plans, write_plan

HERE = Path(__file__).parent
CONFIGS = {"mixtral": MixtralConfig, "qwen2_moe": Qwen2MoeConfig, "qwen3_moe": Qwen3MoeConfig,
           "olmoe": OlmoeConfig, "glm4_moe": Glm4MoeConfig, "gpt_oss": GptOssConfig}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LENGTHS = [1, 2, 7, 18, 41]
PLAN_LENGTHS = [5, 19]
ROUTING_MARGIN = 1e-4  # relative gap between the last chosen and the first left-out expert
CANCELLATION = 0.03  # size of a sum of selected weights relative to its terms, zero maps apart
TOKEN_MARGIN = 2e-3  # gap between the two largest logits of a greedy step
GENERATED = 64


class NearTie(Exception):
    pass


def initialise(model, seed):
    """Weights of a size that lets every layer, expert and router matter."""
    random = torch.Generator().manual_seed(seed)

    def normal(parameter, scale, mean=0.0):
        parameter.data = mean + scale * torch.randn(parameter.shape, generator=random)

    for name, parameter in model.named_parameters():
        fan_in = parameter.shape[-2 if model.config.model_type == "gpt_oss" and name.endswith("proj") else -1]
        if name.endswith("norm.weight") or "layernorm" in name:
            normal(parameter, 0.2, 1.0)
        elif name.endswith("bias"):
            normal(parameter, 0.3)
        elif "embed_tokens" in name:
            normal(parameter, 1.0)
        elif name.endswith("sinks"):
            normal(parameter, 1.0, 0.5)
        elif "mlp.gate.weight" in name or "mlp.router.weight" in name:
            normal(parameter, 2.0 / fan_in**0.5)
        elif "lm_head" in name:
            normal(parameter, 2.0 / fan_in**0.5)
        else:
            normal(parameter, 1.1 / fan_in**0.5)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            normal(buffer, 0.2)


def write_checkpoint(case, directory, seed):
    config = CONFIGS[case["family"]](**case["config"])
    model = AutoModelForCausalLM.from_config(config)
    initialise(model, seed)
    bias = {name: value.clone() for name, value in model.named_buffers() if name.endswith("correction_bias")}
    model = model.to(DTYPES[case["dtype"]])
    for name, value in bias.items():  # stays in f32
        model.get_submodule(name.rpartition(".")[0]).e_score_correction_bias = value
    model.config.dtype = DTYPES[case["dtype"]]
    if directory.exists():
        shutil.rmtree(directory)
    model.save_pretrained(directory, max_shard_size=case.get("shard_size", "10MB"),
                          save_original_format=case.get("layout", "per_expert") == "per_expert")
    (directory / "generation_config.json").unlink(missing_ok=True)
    path = directory / "config.json"
    path.write_text(json.dumps(respell(json.loads(path.read_text()), case), indent=2) + "\n")


def respell(config, case):
    """The config as the transformers generation `spelling` writes it."""
    config.pop("transformers_version", None)
    if case["spelling"] == "v4":
        config["torch_dtype"] = config.pop("dtype")
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        kind = rope.pop("rope_type")
        config["rope_scaling"] = None if kind == "default" else {case.get("rope_key", "rope_type"): kind,
                                                                 **rope}
        if case["family"] == "qwen3_moe" and "num_local_experts" in config:
            config["num_experts"] = config.pop("num_local_experts")
        if case["family"] != "gpt_oss":
            config.pop("layer_types", None)
    for key in case.get("drop", []):
        config.pop(key, None)
    config.update(case.get("extra", {}))
    return config


def transpose_experts(directory):
    """Fused layout [experts, n, k] -> [experts, k, n], as some families store it. transformers cannot read it
    back."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    for name in tensors:
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[name] = tensors[name].transpose(1, 2).contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


def encode_fp8(directory, block, plain):
    """Projections become E4M3 numbers with a scale a block; `plain` gets the checkpoint of the values that
    these stand for: number times scale in f32, rounded to the checkpoint's dtype."""
    shutil.copytree(directory, plain)
    path = directory / "model.safetensors"
    stored, values = load_file(path), load_file(path)
    rows, columns = block
    for name in [name for name in values if name.endswith("_proj.weight")]:
        weight = values[name]
        codes = torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
        scales = torch.empty(-(-weight.shape[0] // rows), -(-weight.shape[1] // columns))
        for a in range(scales.shape[0]):
            for b in range(scales.shape[1]):
                part = slice(a * rows, (a + 1) * rows), slice(b * columns, (b + 1) * columns)
                scales[a, b] = weight[part].float().abs().max() / 448
                codes[part] = (weight[part].float() / scales[a, b]).to(torch.float8_e4m3fn)
                values[name][part] = (codes[part].float() * scales[a, b]).to(weight.dtype)
        stored[name], stored[name + "_scale_inv"] = codes, scales
    save_file(stored, path, metadata={"format": "pt"})
    save_file(values, plain / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    config["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                                     "weight_block_size": block, "modules_to_not_convert": ["lm_head"]}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def encode_mxfp4(directory, plain):
    """Experts become E2M1 numbers, two in a byte, with an E8M0 scale for 32 inputs; `plain` gets the
    checkpoint of the values that transformers makes of them."""
    shutil.copytree(directory, plain)
    path = directory / "model.safetensors"
    stored, values = load_file(path), load_file(path)
    numbers = torch.tensor(FP4_VALUES[:8])
    for name in [name for name in values if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        weight = stored.pop(name).transpose(1, 2).float()  # [experts, out, in]
        parts = weight.reshape(*weight.shape[:2], -1, 32)
        power = torch.floor(torch.log2(parts.abs().amax(-1))) - 2
        size = (parts / torch.exp2(power)[..., None]).abs()
        codes = (size[..., None] - numbers).abs().argmin(-1) + 8 * (parts < 0)
        stored[name + "_blocks"] = (codes[..., 0::2] + 16 * codes[..., 1::2]).to(torch.uint8).contiguous()
        stored[name + "_scales"] = (power + 127).to(torch.uint8)
        values[name] = convert_moe_packed_tensors(stored[name + "_blocks"], stored[name + "_scales"])
    save_file(stored, path, metadata={"format": "pt"})
    save_file(values, plain / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    config["quantization_config"] = {
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                   "model.embed_tokens", "lm_head"],
        "quant_method": "mxfp4"}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


class Margins:
    """Collects the routing margins of the model's own routers."""

    def __init__(self, model):
        self.values, self.handles = [], []
        for layer in model.model.layers:
            if is_sparse(layer):
                gate = gate_of(layer.mlp)
                self.handles.append(gate.register_forward_hook(self.hook(gate.top_k)))

    def hook(self, top_k):
        def record(gate, __, output):
            logits = output[0].float().reshape(-1, output[0].shape[-1])
            if hasattr(gate, "e_score_correction_bias"):
                choice, margins = grouped(torch.sigmoid(logits) + gate.e_score_correction_bias,
                                          gate.num_group, gate.topk_group)
                ordered = choice.sort(-1, descending=True).values
                self.values.extend(
                    ((ordered[:, top_k - 1] - ordered[:, top_k]) / ordered[:, 0].abs()).tolist() + margins)
                return
            if top_k < logits.shape[1]:
                ordered = torch.softmax(logits, -1).sort(-1, descending=True).values
                self.values.extend(((ordered[:, top_k - 1] - ordered[:, top_k]) / ordered[:, 0]).tolist())

        return record

    def close(self):
        for handle in self.handles:
            handle.remove()


def run(model, sequences):
    with torch.no_grad():
        return [model(torch.tensor([ids]), use_cache=False).logits[0].float() for ids in sequences]


def run_by_token(model, ids):
    """The same logits with a cache, one token at a time."""
    rows, cache = [], None
    with torch.no_grad():
        for token in ids:
            out = model(torch.tensor([[token]]), past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            rows.append(out.logits[0].float())
    return torch.cat(rows)


def greedy(model, prompt):
    ids = list(prompt)
    for _ in range(GENERATED):
        logits = run(model, [ids])[0][-1]
        best = logits.topk(2).values
        if best[0] - best[1] < TOKEN_MARGIN:
            raise NearTie("greedy step")
        ids.append(int(logits.argmax()))
    return ids[len(prompt):]


def load(directory, dtype):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager")
    model.set_experts_implementation("eager")
    return model.eval()


def random_ids(random, lengths, vocab):
    return [torch.randint(0, vocab, (length,), generator=random).tolist() for length in lengths]


def demand_margin(values, what):
    if values and min(values) < ROUTING_MARGIN:
        raise NearTie(f"{what}: {min(values):.1e}")


def close(logits, others):
    return all((a - b).abs().max() < 1e-5 * b.abs().max() for a, b in zip(logits, others))


def store(path, logits):
    save_file({f"logits.{index}": rows.contiguous() for index, rows in enumerate(logits)}, path)


def make_case(case, seed):
    directory = HERE / case["name"]
    write_checkpoint(case, directory, seed)
    dtype = DTYPES[case["dtype"]]
    scratch = tempfile.TemporaryDirectory()
    plain = directory  # what transformers reads
    if "fp8" in case:
        plain = Path(scratch.name) / "plain"
        encode_fp8(directory, case["fp8"], plain)
    if "mxfp4" in case:
        plain = Path(scratch.name) / "plain"
        encode_mxfp4(directory, plain)
    model = load(plain, torch.float32)
    random = torch.Generator().manual_seed(seed + 1)
    ids = random_ids(random, LENGTHS, model.config.vocab_size)
    margins = Margins(model)
    expected = run(model, ids)
    demand_margin(margins.values, "routing")
    scale = max(rows.abs().max().item() for rows in expected)
    noise = max((run_by_token(model, s) - e).abs().max().item() for s, e in zip(ids, expected)) / scale
    assert noise < 5e-6, f"{case['name']}: ill-conditioned, {noise:.1e}"
    (directory / "ids.json").write_text(json.dumps(ids) + "\n")
    store(directory / "expected.safetensors", expected)
    entry = {"name": case["name"], "family": case["family"], "dir": case["name"], "dtype": case["dtype"],
             "layout": case.get("layout", "per_expert"), "seed": seed, "ids": f"{case['name']}/ids.json",
             "expected": f"{case['name']}/expected.safetensors", "logit_scale": scale, "noise": noise}
    if dtype != torch.float32:
        errors = [(a - b).abs() for a, b in zip(run(load(plain, dtype), ids), expected)]
        entry["hf16_error"] = {"max": max(e.max().item() for e in errors),
                               "mean": torch.cat([e.flatten() for e in errors]).mean().item()}
    prompts = random_ids(random, case.get("prompts", []), model.config.vocab_size)
    entry["generation"] = [{"prompt": prompt, "output": greedy(model, prompt)} for prompt in prompts]
    demand_margin(margins.values, "routing while generating")
    margins.close()
    entry["plans"] = make_plan_files(case, directory, plain, model, dtype, random,
                                     seed) if case.get("plans") else []
    if case.get("layout") == "fused_transposed":
        transpose_experts(directory)
    return entry


def make_plan_files(case, directory, plain, model, dtype, random, seed):
    layers = [index for index, layer in enumerate(model.model.layers) if is_sparse(layer)]
    config = model.config
    experts = getattr(config, "num_local_experts", None) or config.num_experts
    groups = getattr(config, "n_group", 1)
    ids = random_ids(random, PLAN_LENGTHS, config.vocab_size)
    (directory / "plans").mkdir()
    (directory / "plan_ids.json").write_text(json.dumps(ids) + "\n")
    base = run(model, ids)

    def draw(attempt):
        return make_plans(case["family"], layers, experts, config.num_experts_per_tok, seed + 2 + attempt,
                          groups)

    check_plan_model(plain, model, draw(0), layers, experts, ids, base)
    entries = []
    for name in draw(0):
        entry = {"file": f"{case['name']}/plans/{name}.json", "ids": f"{case['name']}/plan_ids.json",
                 "expected": f"{case['name']}/plans/{name}.safetensors"}
        for attempt in range(200):
            plan = draw(attempt)[name]
            try:
                logits, generation = run_plan(model, plan, dtype, ids,
                                              name == "dense_logits" and case.get("prompts"))
                break
            except NearTie:
                continue
        else:
            raise NearTie(name)
        assert all(torch.isfinite(rows).all() for rows in logits) and (name == "fewer_active"
                                                                       or not close(logits, base))
        if generation:
            entry["generation"] = [{"prompt": ids[0], "output": generation}]
        write_plan(directory / "plans" / f"{name}.json", plan)
        store(directory / "plans" / f"{name}.safetensors", logits)
        entries.append(entry)
    return entries


def run_plan(model, plan, dtype, ids, generate):
    with AppliedPlan(model, plan, dtype) as (margins, cancellation):
        logits = run(model, ids)
        generation = greedy(model, ids[0]) if generate else None
    demand_margin(margins, "rows")
    if cancellation and min(cancellation) < CANCELLATION:
        raise NearTie("sum near zero")
    return logits, generation


def check_plan_model(directory, model, plans, layers, experts, ids, base):
    """The identity changes nothing; a one-hot plan in the logits space is transformers' own block with those
    rows."""
    dtype = torch.float32
    identity = dict(plans["one_hot_probabilities"])
    eye = torch.eye(experts).tolist()
    identity["groups"] = [{"layers": layers, "router_mapping": eye, "expert_merging": eye}]
    with AppliedPlan(model, identity, dtype):
        assert close(run(model, ids), base)
    with AppliedPlan(model, plans["one_hot_logits"], dtype):
        assert close(run(model, ids),
                     run(keep_rows(load(directory, torch.float32), plans["one_hot_logits"]), ids))


def main():
    parser = argparse.ArgumentParser(description="write the golden checkpoints")
    parser.add_argument("--only", nargs="*",
                        help="names of cases; the others keep their files and manifest entries")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    manifest_path = HERE / "manifest.json"
    old = {entry["name"]: entry
           for entry in json.loads(manifest_path.read_text())} if manifest_path.exists() else {}
    manifest = []
    for number, case in enumerate(CASES):
        if arguments.only and case["name"] not in arguments.only:
            manifest.append(old[case["name"]])
            continue
        for attempt in range(200):
            try:
                entry = make_case(case, 1000 * (number + 1) + 10 * attempt)
                break
            except NearTie as tie:
                print(f"{case['name']}: near-tie ({tie}), next seed", flush=True)
        else:
            raise SystemExit(f"{case['name']}: no seed without a near-tie")
        print(case["name"], entry["seed"], f"scale {entry['logit_scale']:.1f} noise {entry['noise']:.1e}",
              entry.get("hf16_error"), flush=True)
        manifest.append(entry)
    text = json.dumps(manifest, indent=1)
    text = re.sub(r"\[[\d,\s]+\]", lambda numbers: re.sub(r"\s+", " ", numbers[0]), text)  # ids on one line
    manifest_path.write_text(text + "\n")


if __name__ == "__main__":
    main()
