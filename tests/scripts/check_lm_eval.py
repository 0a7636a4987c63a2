#!/usr/bin/env python3
"""Prompts and right continuations of protocol harness against lm-evaluation-harness itself, on real files.

check_lm_eval.py EEP [DATA [TASK...]]; DATA: a folder with superglue/NAME, mmlu, arc, openbookqa in their
makers' form. Exits with 77 where lm_eval (0.4.13: the version whose tasks experiments/tasks follows) or the
data is not there. No model is needed by lm_eval, and none that knows anything by eep: what is asked is
compared, item by item.
"""
import csv
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
EEP = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/eep").resolve()
DATA = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "../shared/data")
os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")
try:
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml
except ImportError:
    print("check_lm_eval: no package lm_eval (pip install lm-eval==0.4.13)")
    sys.exit(77)
if not (DATA / "superglue").is_dir():
    print(f"check_lm_eval: no files in {DATA}")
    sys.exit(77)
logging.disable(logging.WARNING)
LIMIT = 150  # items a task
TASKS = pathlib.Path(lm_eval.tasks.__file__).parent


def lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def super_glue(name, labels=None):
    """The validation rows as the hub has them: labels are numbers."""
    rows = lines(DATA / "superglue" / name / "val.jsonl")
    for row in rows:
        row.update(row.pop("target", {}) if isinstance(row.get("target"), dict) else {})
        if labels:
            row["label"] = labels.index(str(row["label"]).lower())
    return rows


def multirc():
    return [{"paragraph": row["passage"]["text"], "question": question["question"], "answer": answer["text"],
             "label": answer["label"]}
            for row in lines(DATA / "superglue/MultiRC/val.jsonl") for question in row["passage"]["questions"]
            for answer in question["answers"]]


def arc():
    return [{"question": row["question"]["stem"], "answerKey": row["answerKey"],
             "choices": {key: [choice[key] for choice in row["question"]["choices"]]
                         for key in ("text", "label")}}
            for row in lines(DATA / "arc/ARC-Challenge-Test.jsonl")]


def mmlu(subject, split):
    with open(DATA / f"mmlu/{split}/{subject}_{split}.csv", newline="") as file:
        return [{"question": q, "choices": [a, b, c, d], "answer": "ABCD".index(key)} for q, a, b, c, d,
                key in csv.reader(file)]


BOOLEAN = ["false", "true"]
# Ours, lm_eval's file, its rows by split, our files, and the first of our items.
CASES = [
    ("boolq", "super_glue/boolq/default.yaml", {"validation": lambda: super_glue("BoolQ", BOOLEAN)},
     ["superglue/BoolQ/val.jsonl"]),
    ("cb", "super_glue/cb/default.yaml",
     {"validation": lambda: super_glue("CB", ["entailment", "contradiction", "neutral"])},
     ["superglue/CB/train.jsonl", "superglue/CB/val.jsonl"]),
    ("copa", "super_glue/copa/default.yaml", {"validation": lambda: super_glue("COPA")},
     ["superglue/COPA/train.jsonl", "superglue/COPA/val.jsonl"]),
    ("multirc", "super_glue/multirc/default.yaml", {"validation": multirc},
     ["superglue/MultiRC/train.jsonl", "superglue/MultiRC/val.jsonl"]),
    ("rte", "super_glue/rte/default.yaml",
     {"validation": lambda: super_glue("RTE", ["entailment", "not_entailment"])},
     ["superglue/RTE/train.jsonl", "superglue/RTE/val.jsonl"]),
    ("wic", "super_glue/wic/default.yaml", {"validation": lambda: super_glue("WiC", BOOLEAN)},
     ["superglue/WiC/train.jsonl", "superglue/WiC/val.jsonl"]),
    ("wsc", "super_glue/wsc/default.yaml", {"validation": lambda: super_glue("WSC", BOOLEAN)},
     ["superglue/WSC/train.jsonl", "superglue/WSC/val.jsonl"]),
    ("arc_challenge", "arc/arc_challenge.yaml", {"test": arc}, ["arc/ARC-Challenge-Test.jsonl"]),
] + [("mmlu", f"mmlu/default/mmlu_{subject}.yaml",
      {"test": lambda s=subject: mmlu(s, "test"), "dev": lambda s=subject: mmlu(s, "dev")},
      [f"mmlu/{split}/{subject}_{split}.csv" for split in ("dev", "test")])
     for subject in ("anatomy", "business_ethics", "machine_learning", "world_religions")]


def requests_of_harness(file, rows, folder):
    """(context, right continuation) of the first items."""
    config = load_yaml(TASKS / file, resolve_func=True)
    paths = {}
    for split, make in rows.items():
        paths[split] = str(folder / f"{split}.jsonl")
        pathlib.Path(paths[split]).write_text("".join(json.dumps(row) + "\n" for row in make()))
    for key in ("training_split", "validation_split", "test_split"):
        if config.get(key) not in rows:
            config.pop(key, None)
    config.update(dataset_path="json", dataset_name=None, dataset_kwargs={"data_files": paths})
    task = ConfigurableTask(config=config)
    if "dev" in rows:
        task.set_config(key="num_fewshot", value=5)
    task.build_all_requests(limit=LIMIT, rank=0, world_size=1)
    by_item = {}
    for instance in task.instances:
        by_item.setdefault(instance.doc_id, []).append(instance)
    found = []
    for number in sorted(by_item):
        gold = task.doc_to_target(by_item[number][0].doc)
        if not isinstance(gold, int):
            gold = [i.args[1] for i in by_item[number]].index(" " + gold)
        right = next(i for i in by_item[number] if i.idx == gold)
        found.append((right.args[0], right.args[1]))
    return found


def requests_of_eep(name, files, folder):
    environment = {**os.environ, "EEP_DATA": str(folder)}
    run = lambda *words: subprocess.run([EEP, *map(str, words)], env=environment, check=True,
                                        capture_output=True, cwd=ROOT)
    run("task", "import", name, *[DATA / file for file in files], "--out", folder)
    samples = folder / "samples.jsonl"
    run("eval", "experiments/demo/mixtral", "--task", name, "--protocol", "harness", "--samples", samples,
        "--limit", LIMIT)
    return [(row["prompt"], row["target"]) for row in lines(samples)]


def main():
    failed = 0
    for name, file, rows, files in CASES:
        if len(sys.argv) > 3 and name not in sys.argv[3:]:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            theirs = requests_of_harness(file, rows, folder)
            ours = requests_of_eep(name, files, folder)
        wrong = next((i for i, pair in enumerate(zip(theirs, ours)) if pair[0] != pair[1]), None)
        if wrong is None and len(theirs) == len(ours):
            print(f"{name} ({file}): {len(ours)} items, the same")
            continue
        failed += 1
        print(f"{name} ({file}): {len(theirs)} and {len(ours)} items differ at item {wrong}")
        if wrong is not None:
            print(f"  lm_eval: {theirs[wrong]!r}\n  eep:     {ours[wrong]!r}")
    print("check_lm_eval: ok" if failed == 0 else f"check_lm_eval: {failed} tasks differ")
    sys.exit(failed > 0)


main()
