"""Scores the plans of finished runs on test items that are drawn afterwards: a second look at a table.

    python3 ../demo/make_tasks.py --fresh 1 --out FRESH
    python3 fresh.py EEP FRESH RUN_DIRECTORY... >results/NAME.csv     # in this folder; EEP is the program

A row a plan: scores on the run's own test split and on the fresh one, with exact two-sided McNemar tests of
the fresh items against the full model and the pruned plan. Tasks whose metric is no 0/1 score of an item are
refused.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
METHODS = ("full", "eep_prune", "eep_merge")


def mcnemar(ours, other):
    won = sum(a > b for a, b in zip(ours, other))
    lost = sum(a < b for a, b in zip(ours, other))
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**n)


def scores_of(eep, model, task, plan):
    """Of every item of the fresh test split."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as samples:
        subprocess.run([eep, "eval", model, "--task", task, "--split", "test", "--plan", plan, "--samples",
                        samples.name, "--threads", "1"], check=True, stdout=subprocess.DEVNULL)
        scores = [json.loads(line)["score"] for line in Path(samples.name).read_text().splitlines()]
    if any(score not in (0, 1) for score in scores):
        sys.exit(f"{task}: scores are not 0 or 1")
    return scores


def fresh_task(name, fresh, folder):
    """The task file, its test split the fresh one."""
    text = (HERE / "../tasks" / f"{name}.yaml").read_text()
    old = next(line for line in text.splitlines() if line.strip().startswith("test:"))
    data = Path(old.split(":")[1].strip())  # ../demo/data/NAME/test.jsonl
    path = Path(folder) / f"{name}.yaml"
    kept = [line for line in text.splitlines() if not line.strip().startswith(("train:", "dev:"))]
    path.write_text("\n".join(kept).replace(old.strip(),
                                            f"test: {fresh / data.parent.name / 'test.jsonl'}") + "\n")
    return str(path)


def main():
    eep, fresh = sys.argv[1], Path(sys.argv[2]).resolve()
    print("task,experts,evaluations,seed,method,test,fresh,p_vs_full,p_vs_prune")
    with tempfile.TemporaryDirectory() as folder:
        for run in map(Path, sys.argv[3:]):
            result = json.loads((run / "result.json").read_text())
            task = fresh_task(result["task"]["name"], fresh, folder)
            model = json.loads((run / "manifest.json").read_text())["model"]["path"]
            methods = {method["name"]: method for method in result["methods"]}
            scores = {name: scores_of(eep, model, task, str(run / "plans" / f"{name}.json"))
                      for name in METHODS}
            for name in METHODS:
                rivals = METHODS[: METHODS.index(name)]
                p = [f"{mcnemar(scores[name], scores[other]):.2g}" if other in rivals else ""
                     for other in METHODS[:2]]
                print(",".join(map(str, (result["task"]["name"], methods["eep_merge"]["experts"],
                                         result["search"]["evaluations"], result["seed"], name,
                                         f"{100 * methods[name]['test']['score']:.2f}",
                                         f"{100 * sum(scores[name]) / len(scores[name]):.2f}", *p))),
                      flush=True)


if __name__ == "__main__":
    main()
