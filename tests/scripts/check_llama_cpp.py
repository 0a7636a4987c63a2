#!/usr/bin/env python3
"""Exports as llama.cpp sees them: check_llama_cpp.py EEP; exits with 77 when the package `gguf` is not
installed.

With `gguf` (llama.cpp's own package: the table of tensor names that its converter uses): every tensor of
every exported golden plan and of the demo models has a place in a GGUF file of its architecture, and each
layer has three tensors an expert, 0 to n-1, which is what the converter stacks.

With EEP_LLAMA_CPP (a checkout of llama.cpp, for convert_hf_to_gguf.py; llama-cpp-python's source has one in
vendor/) and llama-cpp-python: the same exports go through the converter, and the runtime's logits are
compared with those of `eep logits`, which `eep verify` and the tests compare with the plan in memory.
EEP_LLAMA_MODEL names one more checkpoint, such as make demo-smollm2 leaves.
"""
import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

try:
    import gguf
except ImportError:
    sys.exit(77)

EEP = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/eep").resolve()
GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
DEMO = GOLDEN.parents[1] / "experiments" / "demo"
ARCHITECTURES = {"mixtral": gguf.MODEL_ARCH.LLAMA, "qwen2_moe": gguf.MODEL_ARCH.QWEN2MOE,
                 "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE, "olmoe": gguf.MODEL_ARCH.OLMOE,
                 "glm4_moe": gguf.MODEL_ARCH.GLM4_MOE, "gpt_oss": gguf.MODEL_ARCH.GPT_OSS}
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(\w+)\.weight")
# The bound of every other comparison of logits in f32: both sides widen the same bf16 weights, and only the
# order of sums differs. The key-value cache, f16 by default, is f32 here: f16 moves router logits enough to
# change experts (0.09).
BOUND = 2e-5
# The converter knows a tokenizer by the hash of what it makes of a text and refuses others, such as the
# demo's. Logits are compared from ids, so that a vocabulary without texts will do.
CONVERTER = """
import importlib, runpy, sys
sys.path.insert(0, sys.argv[1])
import conversion.base
def set_vocab(self):
    self._set_vocab_none()
    self.gguf_writer.add_vocab_size(self.hparams["vocab_size"])
for name in ("llama", "qwen", "olmo", "glm", "gpt_oss"):
    for kind in vars(importlib.import_module("conversion." + name)).values():
        if isinstance(kind, type) and issubclass(kind, conversion.base.TextModel):
            kind.set_vocab = set_vocab
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

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
        # llama.cpp's MoE architectures have no dense layers: neither the source nor its export runs there
        return 0
    names = gguf.get_tensor_name_map(ARCHITECTURES[config["model_type"]], config["num_hidden_layers"])
    experts = collections.defaultdict(set)
    for name in tensor_names(folder):
        # the converter takes its fused tensors apart by rules of its own
        if config["model_type"] == "gpt_oss":
            experts[name.split(".mlp.")[0]] = None
            continue
        if name.endswith(("_scale_inv", "e_score_correction_bias")):
            continue
        match = EXPERT.fullmatch(name)
        if match:
            experts[match[1]].add((int(match[2]), match[3]))
            name = f"{match[1]}.{match[3]}.weight"
        assert names.get_name(name, try_suffixes=(".weight", ".bias")), f"{name} has no place in GGUF"
    count = next(config[key] for key in ("num_local_experts", "num_experts", "n_routed_experts")
                 if key in config)
    for layer, found in experts.items():
        if found is None:
            continue
        parts = {part for _, part in found}
        assert len(parts) == 3 and found == {(i, part) for i in range(count) for part in parts}, layer
    return len(experts)


def without_first_expert(model, path):
    config = json.loads((model / "config.json").read_text())
    experts = config.get("num_local_experts", config.get("num_experts"))
    layers = list(range(config["num_hidden_layers"]))
    rows = [[float(i == row) for i in range(experts)] for row in range(1, experts)]
    path.write_text(json.dumps(
        {"format": "eep-plan", "version": 1, "top_k": config["num_experts_per_tok"], "router_space": "logits",
         "model": {"family": config["model_type"], "layers": len(layers), "experts": experts},
         "groups": [{"layers": layers, "router_mapping": rows, "expert_merging": rows}]}))


def beyond_llama_cpp(config):
    """Why llama.cpp computes another function than the config says, or nothing."""
    family = config["model_type"]
    if family == "olmoe" and (config.get("clip_qkv") is not None or config.get("rms_norm_eps", 1e-5) != 1e-5):
        return "the converter writes neither clip_qkv nor the norms' epsilon"
    if family == "olmoe" and config["num_key_value_heads"] != config["num_attention_heads"]:
        return "its OLMoE has as many heads of keys as of queries"
    if family == "gpt_oss" and (config.get("swiglu_limit", 7) != 7
                                or config.get("swiglu_alpha", 1.702) != 1.702):
        return "limit and slope of the SwiGLU are constants of its kernels"
    if config.get("quantization_config", {}).get("quant_method") == "fp8":
        return ("the converter does not round widened weights to the checkpoint's dtype, as their reference "
                "does")
    return None


def to_gguf(checkout, exported, path):
    converted = subprocess.run([sys.executable, "-c", CONVERTER, checkout,
                                checkout / "convert_hf_to_gguf.py", exported,
                                "--outtype", "f32", "--outfile", path], capture_output=True, text=True)
    assert converted.returncode == 0, converted.stderr


def logits(model, ids, path):
    from safetensors.numpy import load_file
    done = run("logits", model, "--ids", " ".join(map(str, ids)), "--out", path)
    assert done.returncode == 0, done.stderr
    return load_file(path)["logits.0"]


def check_runtime(checkout, exported):
    """An export through llama.cpp's converter: the largest differences, relative to the largest logit, of
    what eep makes of the GGUF file from eep's logits of the export, and of llama.cpp's (None where it rounds
    activations)."""
    import numpy
    config = json.loads((exported / "config.json").read_text())
    vocabulary = config["vocab_size"]
    ids = [(1 + 503 * i) % vocabulary for i in range(40)]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        to_gguf(checkout, exported, scratch / "model.gguf")
        want = logits(exported, ids, scratch / "exported.safetensors")
        back = run("convert", scratch / "model.gguf", "--dtype", "f32", "--out", scratch / "back")
        assert back.returncode == 0, back.stderr
        again = logits(scratch / "back", ids, scratch / "back.safetensors")
        differences = [abs(again - want).max() / abs(want).max(), None]
        # products with rows of 8 bits there
        if config.get("quantization_config", {}).get("quant_method") != "mxfp4":
            import llama_cpp
            f32 = llama_cpp.GGML_TYPE_F32
            llama = llama_cpp.Llama(str(scratch / "model.gguf"), n_ctx=64, logits_all=True, verbose=False,
                                    type_k=f32, type_v=f32)
            llama.eval(ids)
            got = numpy.array(llama.scores[: len(ids)])
            differences[1] = abs(got - want).max() / abs(want).max()
    for difference, whose in zip(differences, ("eep's logits of the GGUF file", "llama.cpp's logits")):
        assert difference is None or difference <= BOUND, f"{whose} differ by {difference}"
    return differences


def main():
    checkout, model = os.environ.get("EEP_LLAMA_CPP"), os.environ.get("EEP_LLAMA_MODEL")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        sources = [(plan.parent.parent, plan) for plan in sorted(GOLDEN.glob("*/plans/*.json"))]
        for source in [DEMO / "mixtral", DEMO / "qwen"] + ([pathlib.Path(model)] if model else []):
            plan = scratch / f"{len(sources)}.json"
            without_first_expert(source, plan)
            sources.append((source, plan))
        checked, layers, differences, beyond = 0, 0, [], set()
        for source, plan in sources:
            out = scratch / "out"
            shutil.rmtree(out, ignore_errors=True)
            made = run("export", source, "--plan", plan, "--allow-ties", "--out", out)
            if made.returncode == 65 and "a stock checkpoint cannot express it" in made.stderr:
                continue
            assert made.returncode == 0, made.stderr
            found = check_names(out)
            layers += found
            checked += found > 0
            why = beyond_llama_cpp(json.loads((out / "config.json").read_text()))
            if checkout and found > 0 and why:
                beyond.add(f"llama.cpp: {source.name} not run: {why}")
            elif checkout and found > 0:
                try:
                    differences.append(check_runtime(pathlib.Path(checkout).resolve(), out))
                except AssertionError as error:
                    raise AssertionError(f"{source} with {plan.name}: {error}") from None
    assert checked > 0
    print(f"llama.cpp: {checked} exports, {layers} layers of experts: every tensor has its place in GGUF")
    if checkout:
        print(*sorted(beyond), sep="\n")
        ours, theirs = zip(*differences)
        theirs = [difference for difference in theirs if difference is not None]
        print(f"llama.cpp: {len(ours)} exports converted, and converted again: largest difference "
              f"{max(ours):.2g}; "
              f"{len(theirs)} run: {max(theirs):.2g}")
    else:
        print("llama.cpp: converter and runtime not tried (EEP_LLAMA_CPP)")


main()
