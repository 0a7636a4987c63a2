#!/usr/bin/env python3
"""Exports as llama.cpp sees them: check_llama_cpp.py EEP; exits with 77 when the package `gguf` is not installed.

With `gguf` (llama.cpp's own package: the table of tensor names that its converter uses): every tensor of every exported
golden plan has a place in a GGUF file of its architecture, and each layer has three tensors an expert, 0 to n-1, which is
what the converter stacks.

With EEP_LLAMA_CPP (a checkout of llama.cpp), EEP_LLAMA_MODEL (a checkpoint with a tokenizer that the converter knows, such
as make demo-smollm2 leaves) and llama-cpp-python: a one-hot export of that model goes through convert_hf_to_gguf.py, and the
runtime's logits are compared with those of `eep logits` under the plan.
"""
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import gguf
except ImportError:
    sys.exit(77)

EEP = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/eep").resolve()
GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
ARCHITECTURES = {"mixtral": gguf.MODEL_ARCH.LLAMA, "qwen2_moe": gguf.MODEL_ARCH.QWEN2MOE,
                 "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE}
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(\w+)\.weight")
# bf16 weights and f32 arithmetic on both sides: the order of sums, and a half-precision key-value cache.
BOUND = 2e-2


def run(*arguments):
    return subprocess.run([EEP, *map(str, arguments)], capture_output=True, text=True)


def tensor_names(folder):
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        yield from (name for name in header if name != "__metadata__")


def check_names(folder):
    config = json.loads((folder / "config.json").read_text())
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) > 1:
        return 0  # llama.cpp's MoE architectures have no dense layers: neither the source nor its export runs there
    names = gguf.get_tensor_name_map(ARCHITECTURES[config["model_type"]], config["num_hidden_layers"])
    experts = collections.defaultdict(set)
    for name in tensor_names(folder):
        match = EXPERT.fullmatch(name)
        if match:
            experts[match[1]].add((int(match[2]), match[3]))
            name = f"{match[1]}.{match[3]}.weight"
        assert names.get_name(name, try_suffixes=(".weight", ".bias")), f"{name} has no place in GGUF"
    count = config.get("num_local_experts", config.get("num_experts"))
    for layer, found in experts.items():
        parts = {part for _, part in found}
        assert len(parts) == 3 and found == {(i, part) for i in range(count) for part in parts}, layer
    return len(experts)


def check_runtime(checkout, model):
    import llama_cpp
    import numpy
    from safetensors.numpy import load_file
    config = json.loads((model / "config.json").read_text())
    experts, layers = config["num_local_experts"], config["num_hidden_layers"]
    rows = [[float(i == row) for i in range(experts)] for row in range(1, experts)]
    plan = {"format": "eep-plan", "version": 1, "top_k": config["num_experts_per_tok"], "router_space": "logits",
            "model": {"family": config["model_type"], "layers": layers, "experts": experts},
            "groups": [{"layers": list(range(layers)), "router_mapping": rows, "expert_merging": rows}]}
    ids = [1, 504, 2785, 282, 4649, 314]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "plan.json").write_text(json.dumps(plan))
        done = run("export", model, "--plan", scratch / "plan.json", "--out", scratch / "out")
        assert done.returncode == 0, done.stderr
        converted = subprocess.run([sys.executable, checkout / "convert_hf_to_gguf.py", scratch / "out", "--outtype", "f32",
                                    "--outfile", scratch / "model.gguf"], capture_output=True, text=True)
        assert converted.returncode == 0, converted.stderr
        done = run("logits", model, "--plan", scratch / "plan.json", "--ids", " ".join(map(str, ids)),
                   "--out", scratch / "logits.safetensors")
        assert done.returncode == 0, done.stderr
        want = load_file(scratch / "logits.safetensors")["logits.0"]
        llama = llama_cpp.Llama(str(scratch / "model.gguf"), n_ctx=64, logits_all=True, verbose=False)
        llama.eval(ids)
        got = numpy.array(llama.scores[: len(ids)])
    difference = abs(got - want).max() / abs(want).max()
    assert difference <= BOUND, f"llama.cpp's logits differ by {difference}"
    print(f"llama.cpp: converted and run, largest difference {difference:.2g}")


def main():
    checked = layers = 0
    for plan in sorted(GOLDEN.glob("*/plans/*.json")):
        with tempfile.TemporaryDirectory() as scratch:
            out = pathlib.Path(scratch) / "out"
            made = run("export", plan.parent.parent, "--plan", plan, "--out", out)
            if made.returncode == 65 and "a stock checkpoint cannot express it" in made.stderr:
                continue
            assert made.returncode == 0, made.stderr
            found = check_names(out)
            layers += found
            checked += found > 0
    assert checked > 0
    print(f"llama.cpp: {checked} exports, {layers} layers of experts: every tensor has its place in GGUF")
    checkout, model = os.environ.get("EEP_LLAMA_CPP"), os.environ.get("EEP_LLAMA_MODEL")
    if checkout and model:
        check_runtime(pathlib.Path(checkout), pathlib.Path(model))
    else:
        print("llama.cpp: converter and runtime not tried (EEP_LLAMA_CPP, EEP_LLAMA_MODEL)")


main()
