#!/usr/bin/env python3
"""The benchmarks of ops run from end to end with small extents, on the CPU and on the host executor: every
case leaves a line and the same bits twice, a comparison with a slower and with a faster run says what it
should, and a synthetic model has the same scores on both backends.

bench_programs.py BENCH_DEVICE BENCH_MODEL
"""
import csv
import json
import pathlib
import subprocess
import sys
import tempfile

BENCH_DEVICE, BENCH_MODEL = sys.argv[1:3]
MODELS = {
    "mixtral": {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 5,
                "intermediate_size": 24, "rms_norm_eps": 1e-5},
    "qwen2_moe": {"architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "num_experts": 6,
                  "intermediate_size": 40, "moe_intermediate_size": 20, "shared_expert_intermediate_size": 40,
                  "norm_topk_prob": False, "decoder_sparse_step": 2, "rms_norm_eps": 1e-6},
    "qwen3_moe": {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 18,
                  "intermediate_size": 40, "moe_intermediate_size": 16, "norm_topk_prob": True,
                  "head_dim": 12,
                  "decoder_sparse_step": 1, "mlp_only_layers": [], "rms_norm_eps": 1e-6},
}
COMMON = {"torch_dtype": "bfloat16", "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 3,
          "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
          "rope_theta": 10000.0, "hidden_act": "silu", "num_experts_per_tok": 2, "eos_token_id": 1,
          "tie_word_embeddings": False}


def run(*arguments):
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench_programs: {arguments} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check(good, what):
    if not good:
        sys.exit(f"bench_programs: {what}")


def of_the_cpu_alone(row):
    """Its other row of ops, and the numbers that noise is made of."""
    return row["op"] == "gemm_bf16" or (row["op"] == "noise" and row["shape"].startswith("10000 "))


def check_ops(scratch):
    names = []
    for device in ("cpu", "simt"):
        table, page = scratch / f"{device}.csv", scratch / f"{device}.md"  # a file that is there would go on
        run(BENCH_DEVICE, "--device", device, "--tiny", "--csv", table, "--markdown", page)
        rows = [row for row in csv.DictReader(table.open()) if row["id"] not in ("ceiling", "note")]
        names.append({(row["id"], row["op"], row["shape"]) for row in rows if not of_the_cpu_alone(row)})
        check({row["id"] for row in rows} == {"C"} | {f"B{i}" for i in range(1, 7)},
              f"{device}: cases are missing")
        check(all(row["bitwise"] == "same" for row in rows), f"{device}: two runs of a case differ")
        check("not run" not in page.read_text(), f"{device}: a case was not run")
        check(page.read_text().count("same bits") == len(rows), f"{device}: table and page differ")
    check(names[0] == names[1], f"the backends ran different cases: {names[0] ^ names[1]}")
    ops = {op for case, op, _ in names[0] if case == "C"}
    check(len(ops) == 13, f"ops with cases C: {ops}")


def check_comparison(scratch):
    rows = list(csv.DictReader((scratch / "cpu.csv").open()))
    for factor, status, word in ((1000, 0, "PASS"), (0.001, 1, "FAIL")):
        path = scratch / f"{word}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            for row in rows:
                median = row["median_us"] and str(float(row["median_us"]) * factor)
                writer.writerow(row | {"median_us": median})
        done = subprocess.run([BENCH_DEVICE, "--tiny", "--filter", "C rmsnorm", "--compare", path],
                              capture_output=True, text=True)
        check(done.returncode == status and f"  {word} " in done.stdout, f"--compare: {done}")


def check_refusals(scratch):
    (scratch / "other.csv").write_text("a,b\n1,2\n")
    other, none = scratch / "other.csv", scratch / "none.csv"
    for bad in (("--samples", "0"), ("--seconds", "nan"), ("--threads", "x"), ("--device", "gpu"),
                ("--cpu-target", "z80"), ("--hots",), ("--csv", other), ("--compare", other),
                ("--compare", none)):
        done = subprocess.run([BENCH_DEVICE, "--filter", "nothing", *bad], capture_output=True, text=True)
        check(done.returncode == 2 and done.stderr.count("\n") == 1,
              f"{bad} is not refused in a line: {done}")


def check_models(scratch):
    for name, fields in MODELS.items():
        config = scratch / f"{name}.json"
        config.write_text(json.dumps(COMMON | fields))
        for phase in ("full", "prune", "merge"):
            lines = [json.loads(run(BENCH_MODEL, config, "--device", device, "--threads", 1, "--layers", 2,
                                    "--candidates", 2, "--prompts", 2, "--tokens", 6, "--phase", phase,
                                    "--decode", 2))
                     for device in ("cpu", "simt")]
            check(all(line["same_twice"] for line in lines), f"{name}, {phase}: two runs differ")
            for field in ("tokens_asked", "tokens_computed", "merged_experts", "decode_sequences"):
                check(lines[0][field] == lines[1][field], f"{name}, {phase}: {field} differs")
            # bf16 products of the GPU's kernels round rows to bf16; a log-likelihood here is a sum of four of
            # about -log 61, and a logit moves by a few 2^-9 of its size, which is below 1
            check(abs(lines[0]["log_likelihood"] - lines[1]["log_likelihood"]) < 4 * 4 * 2**-9,
                  f"{name}, {phase}: {lines[0]['log_likelihood']} and {lines[1]['log_likelihood']}")
    demo = pathlib.Path(__file__).resolve().parents[2] / "experiments/demo/mixtral/config.json"
    whole, streamed = [json.loads(run(BENCH_MODEL, demo, "--device", "simt", "--memory", memory,
                                      "--candidates", 2,
                                      "--phase", "merge", "--prompts", 2, "--tokens", 6))
                       for memory in ("1G", "3M")]
    check(whole["streamed_layers"] == 0 and streamed["streamed_layers"] > 0, "3M does not stream layers")
    check(whole["log_likelihood"] == streamed["log_likelihood"], "streamed weights give other scores")
    bad = subprocess.run([BENCH_MODEL, scratch / "mixtral.json", "--layers", "4"], capture_output=True,
                         text=True)
    check(bad.returncode == 2 and "--layers" in bad.stderr, "too many layers are not refused")


with tempfile.TemporaryDirectory() as directory:
    check_ops(pathlib.Path(directory))
    check_comparison(pathlib.Path(directory))
    check_refusals(pathlib.Path(directory))
    check_models(pathlib.Path(directory))
print("bench_programs: ok")
