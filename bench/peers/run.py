"""Candidates per second: the official procedure in PyTorch (official.py) against eep, same model, task,
machine, run.

    env/bin/python bench/peers/run.py --model experiments/demo/mixtral --task experiments/tasks/sort.yaml

For the prune phase candidates are random one-hot plans; for the merge phase one-hot plans with every other
entry of both matrices non-zero with probability 0.5, N(0, 0.065) as the search mutates them (the density of
the published winners lies between 0 and 0.95). eep evaluates a population through build/bench_population;
PyTorch the first few of the same candidates, one at a time, after one that warms it up. Both may use the same
number of threads. Printed for each phase:

    ratio = candidates/s of eep over candidates/s of PyTorch = work factor x speed factor work factor = tokens
    PyTorch computes a candidate (padding and all new tokens) over tokens eep computes a candidate speed
    factor = the rest: time a computed token, and merging

and whether both found the same score for every candidate that both evaluated.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from official import OfficialEep
from tasks import Task


def make_plan(config, kept, groups, top_k, space, dense, seed):
    draw = random.Random(seed)
    experts = config.get("num_local_experts") or config["num_experts"]
    step, only = config.get("decoder_sparse_step", 1), config.get("mlp_only_layers") or []
    layers = [layer for layer in range(config["num_hidden_layers"]) if layer not in only
              and (layer + 1) % step == 0]
    size = max(1, len(layers) // groups)
    parts = [layers[size * part : size * (part + 1) if part < groups - 1 else None] for part in range(groups)]

    def matrix(rows):
        values = [[1.0 if expert == row else 0.0 for expert in range(experts)] for row in rows]
        if dense:
            for row in values:
                for expert in range(experts):
                    if draw.random() < 0.5:
                        row[expert] = round(row[expert] + draw.gauss(0, 0.065), 6)
        return values

    made = []
    for part in parts:
        rows = sorted(draw.sample(range(experts), kept))
        made.append({"layers": part, "router_mapping": matrix(rows), "expert_merging": matrix(rows)})
    model = {"family": config["model_type"], "layers": config["num_hidden_layers"], "experts": experts}
    return {"format": "eep-plan", "version": 1, "model": model, "top_k": top_k, "router_space": space,
            "groups": made}


def run_eep(options, files, scratch, task):
    """What bench_population prints: {"seconds", "tokens_computed", "tokens_asked", "scores": [...]}."""
    listing = scratch / "plans.json"
    listing.write_text(json.dumps([str(file) for file in files]))
    command = [options.program, options.model, task, str(listing), "--population", str(options.population),
               "--split",
               options.split, "--limit", str(options.limit), "--threads", str(options.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(options, path, phase, peer, scratch):
    config = json.loads((Path(options.model) / "config.json").read_text())
    top_k = min(config["num_experts_per_tok"], options.experts)
    plans = [make_plan(config, options.experts, options.groups, top_k, options.router_space,
                       phase == "merge", seed)
             for seed in range(options.population)]
    files = []
    for index, plan in enumerate(plans):
        files.append(scratch / f"plan-{phase}-{index}.json")
        files[-1].write_text(json.dumps(plan))
    before = run_eep(options, files, scratch, path)
    task = Task(path, options.model, options.split, options.limit)
    peer.score(plans[0], task)
    making, evaluating, scores = [], [], []
    peer.tokens = 0
    for plan in plans[: options.peer_candidates]:
        score, made, evaluated = peer.score(plan, task)
        scores.append(score)
        making.append(made)
        evaluating.append(evaluated)
    after = run_eep(options, files, scratch, path)
    eep_seconds = statistics.mean([before["seconds"], after["seconds"]]) / len(plans)
    peer_seconds = statistics.median(m + e for m, e in zip(making, evaluating))
    eep_tokens = before["tokens_computed"] / len(plans)
    peer_tokens = peer.tokens / options.peer_candidates
    ratio, work = peer_seconds / eep_seconds, peer_tokens / eep_tokens
    equal = sum(abs(a - b) < 1e-9 for a, b in zip(scores, before["scores"]))
    return {"task": task.name, "phase": phase, "items": len(task), "experts": options.experts,
            "threads": options.threads, "population": options.population, "peer_seconds": peer_seconds,
            "peer_merge_seconds": statistics.median(making),
            "eep_seconds": eep_seconds, "peer_tokens": peer_tokens, "eep_tokens": eep_tokens,
            "eep_tokens_asked": before["tokens_asked"] / len(plans), "ratio": ratio, "work_factor": work,
            "speed_factor": ratio / work, "scores_equal": equal, "scores_compared": len(scores),
            "peer_scores": scores, "eep_scores": before["scores"][: len(scores)]}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="experiments/demo/mixtral")
    parser.add_argument("--task", action="append", help="task YAML; may be repeated")
    parser.add_argument("--split", default="train")
    parser.add_argument("--limit", type=int, default=128)
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--router-space", default="logits", choices=["logits", "probabilities"])
    parser.add_argument("--population", type=int, default=64)
    parser.add_argument("--peer-candidates", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--program", default="build/bench_population")
    parser.add_argument("--experts-implementation", default="eager",
                        help="transformers: eager, batched_mm, grouped_mm")
    parser.add_argument("--json", help="write the results here as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    peer = OfficialEep(options.model, options.experts_implementation)
    results, wrong = [], 0
    head = (f"{'task':<14}{'phase':<7}{'PyTorch s':>10}{'eep s':>9}{'ratio':>8}{'work':>7}{'speed':>7}"
            "  equal scores")
    print(head, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for path in options.task or ["experiments/tasks/sort.yaml", "experiments/tasks/recall.yaml"]:
            for phase in ("prune", "merge"):
                row = compare(options, path, phase, peer, Path(scratch))
                results.append(row)
                wrong += row["scores_compared"] - row["scores_equal"]
                print(f"{row['task']:<14}{phase:<7}{row['peer_seconds']:>10.3f}{row['eep_seconds']:>9.4f}"
                      f"{row['ratio']:>8.1f}{row['work_factor']:>7.1f}{row['speed_factor']:>7.2f}"
                      f"  {row['scores_equal']} of {row['scores_compared']}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
