#!/usr/bin/env python3
"""constant.py DATA RUNS: a table of finished runs with the best constant answer to each task's test items
beside the methods. The constant is one label for all items: what a model scores that has not read the
question."""
import collections
import json
import pathlib
import sys


def best_constant(data, task, limit):
    """Share of the most frequent label of the first items of the test split, and the label."""
    with open(data / task / "test.jsonl") as lines:
        labels = [str(json.loads(line)["label"]) for line, _ in zip(lines, range(limit))]
    label, count = collections.Counter(labels).most_common(1)[0]
    return count / len(labels), label


def cell(score):
    return f"{100 * score['score']:.1f} ({100 * score['ci95'][0]:.1f} to {100 * score['ci95'][1]:.1f})"


def main():
    data, runs = map(pathlib.Path, sys.argv[1:])
    print(
        "| task | experts | method | test, % (95 %) | p against full | seconds |\n|---|---|---|---|---|---|")
    for file in sorted(runs.rglob("result.json")):
        result = json.loads(file.read_text())
        task, budget = result["task"]["name"], min(m["experts"] for m in result["methods"])
        items = result["methods"][0]["test"]["n"]
        share, label = best_constant(data, task, items)
        print(f"| {task} | - | always {label} | {100 * share:.1f} | | |")
        for method in result["methods"]:
            p = method["test"].get("p_vs_full")
            print(f"| {task} | {budget} | {method['name']} | {cell(method['test'])} | "
                  f"{'' if p is None else f'{p:.2g}'} "
                  f"| {method['seconds']:.0f} |")
        for more in result.get("tasks", [])[1:]:
            for name, score in more["test"].items():
                print(f"| {more['name']}/{more.get('split', 'test')} | {budget} | {name} | {cell(score)} | "
                      "| |")


if __name__ == "__main__":
    main()
