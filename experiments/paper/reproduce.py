#!/usr/bin/env python3
"""A table or figure of the paper: what is missing is said first; then it runs, goes on where it stopped, and
writes table.md, table.csv and figures beside the published cells. Python standard library; the work is
eep's."""
import argparse
import json
import os
import pathlib
import subprocess
import sys

import tables
import traces as routing

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEMO = {"model": ROOT / "experiments/demo/mixtral", "qwen": ROOT / "experiments/demo/qwen"}
MINIATURE = {"model.parity": "none", "task.protocol": "harness", "task.train.limit": 128,
             "task.dev.limit": 128, "task.test.limit": 500, "search.population": 32,
             "search.fitness": "metric_then_loglik", "random_draws": 10}
TOY = {"task.train.limit": 16, "task.dev.limit": 16, "task.test.limit": 32, "search.prune.evaluations": 6,
       "search.prune.initial": 4, "search.merge.evaluations": 4, "random_draws": 2}
THREADS = []  # eep's option


class Missing(Exception):
    """Something that a table needs is not there: what, and where it comes from."""


def eep_program():
    for program in (os.environ.get("EEP"), ROOT / "build/eep"):
        if program and pathlib.Path(program).is_file():
            return str(program)
    raise Missing("the program eep: make build, or EEP=PATH")


def run(program, *words, capture=False, data=None):
    """eep's output, or its exit code as ours."""
    environment = dict(os.environ)
    if data:
        environment["EEP_DATA"] = str(data)
    done = subprocess.run([program, *map(str, [*words, *THREADS])], env=environment, text=True,
                          stdout=subprocess.PIPE if capture else None, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return done.stdout


def swept(experiment, key):
    """A list of the file's sweep: the files are ours, a line a key."""
    for line in experiment.read_text().splitlines():
        if line.strip().startswith(key + ":"):
            return [word.strip() for word in line.split("[", 1)[1].split("]")[0].split(",")]
    return []


def tasks_of(row, config, miniature):
    names = row.get("tasks") or [t for e in row.get("experiments", []) for t in swept(HERE / e, "task.name")]
    if not names and row["kind"] == "search":
        names = ["mmlu_paper"]
    if miniature:
        names = [config["stand_ins"][name] for name in names if name in config["stand_ins"]]
    return list(dict.fromkeys(names))


def check_inputs(row, config, options):
    if row["kind"] == "none":
        raise Missing(row["why"])
    if options.miniature:
        return
    if row["kind"] == "coefficients":
        if not options.coefficients:
            raise Missing("--coefficients DIR: the files published with the paper (imagination-research/EEP)")
        return
    if not options.model:
        raise Missing("--model DIR: the checkpoint in Hugging Face layout (or --miniature)")
    if not (options.model / "config.json").is_file():
        raise Missing(f"{options.model}/config.json: no checkpoint in Hugging Face layout there")
    if row["kind"] in ("profile", "parameters"):
        return
    if not options.data:
        raise Missing("--data DIR: where eep task import wrote to (or --miniature)")
    gone = [name for name in tasks_of(row, config, False)
            if not (options.data / name / "test.jsonl").is_file()]
    if gone:
        lines = [f"  eep task import {name} FILE... --out {options.data}    # {config['sources'][name]}"
                 for name in gone]
        raise Missing("data:\n" + "\n".join(lines))


def experiment_sets(row, config, options, experiment):
    """--set of one file; None where it has no task that stands in for another."""
    values = {"model.path": options.model, "sweep.seed": list(range(11450, 11450 + options.seeds))}
    if options.miniature:
        values.update(MINIATURE)
        values.update(row.get("miniature", {}))
    if options.toy:
        values.update({key: value for key, value in TOY.items()
                       if experiment != "random.yaml" or not key.startswith("search.")})
    names = swept(HERE / experiment, "task.name")
    chosen = [name for name in names if name in row.get("tasks", names)]
    if options.miniature:
        chosen = [config["stand_ins"][name] for name in chosen if name in config["stand_ins"]]
    if names and not chosen:
        return None
    if chosen:
        values["sweep.task.name"] = chosen[:1] if options.toy else chosen
    if row.get("experts"):
        values["sweep.plan.experts"] = row["experts"]
    if options.toy:  # two budgets
        values["sweep.plan.experts"] = values.get("sweep.plan.experts",
                                                  swept(HERE / experiment, "plan.experts"))[:2]
        if not values["sweep.plan.experts"]:
            del values["sweep.plan.experts"]
    words = []
    for key, value in values.items():
        text = "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
        words += ["--set", f"{key}={text}"]
    return words


def search(program, row, config, options):
    for experiment in [] if options.so_far else row["experiments"]:
        words = experiment_sets(row, config, options, experiment)
        if words is None:
            continue
        place = options.out / pathlib.Path(experiment).stem
        if options.dry_run:
            run(program, "run", HERE / experiment, "--dry-run", *words, data=options.data)
        else:
            run(program, "run", HERE / experiment, "--output", place, "--resume-if-there", *words,
                data=options.data)
    return [] if options.dry_run else tables.files_of_runs(options.out)


def found_runs(row, config, options):
    """Files of finished runs of another table that has all of this one's, else none."""
    tasks = tasks_of(row, config, options.miniature)[:1 if options.toy else None]
    for other in row.get("from", []):
        files = tables.files_of_runs(options.out.parent / other, tasks, row.get("experts", []))
        if {json.loads(file.read_text())["task"]["name"] for file in files} == set(tasks):
            return files
    return []


def released(program, config, options):
    """The published coefficients, evaluated on the same items."""
    cells = []
    for task in config["sources"]:
        for experts in (4, 2):
            name = {"squad2": "squad"}.get(task, task)
            source = options.coefficients / f"{name}_budget_{experts}.pth"
            if not source.is_file():
                continue
            plan = options.out / f"{source.stem}.plan.json"
            run(program, "import-coefficients", source, "--out", plan)
            text = run(program, "eval", options.model, "--task", task, "--protocol", "eep", "--plan", plan,
                       "--parity", "eep", "--json", capture=True, data=options.data)
            score = json.loads(text)
            cells.append({"task": task, "experts": experts, "top_k": 2, "method": "released", "groups": "",
                          "scores": [score["score"]], "ci95": score["ci95"], "n": score["n"]})
    return cells


def identity(program, model, experts, top_k, path):
    """A plan that keeps the first experts of every layer: speed does not depend on which."""
    about = json.loads(run(program, "inspect", model, "--json", capture=True))
    total, layers = about["experts"], list(range(about["layers"]))
    matrix = [[1 if i == j else 0 for i in range(total)] for j in range(min(experts, total))]
    plan = {"format": "eep-plan", "version": 1,
            "model": {"family": about["family"], "layers": about["layers"], "experts": total},
            "top_k": top_k, "router_space": "logits",
            "groups": [{"layers": layers, "router_mapping": matrix, "expert_merging": matrix}]}
    path.write_text(json.dumps(plan))
    return path


def profile(program, row, options):
    rows = []
    batches = [1, 4] if options.toy else row["batches"]
    for experts, top_k in row["variants"]:
        model = options.model
        plan = identity(program, options.model, experts, top_k, options.out / f"keep{experts}-{top_k}.json")
        if experts < 8:  # a checkpoint of its own, as it is served: its memory falls
            model = options.out / f"keep{experts}"
            if not (model / "config.json").is_file():
                run(program, "export", options.model, "--plan",
                    identity(program, options.model, experts, 2, options.out / f"keep{experts}.json"),
                    "--out", model)
        done = options.out / f"profile-{experts}-{top_k}.json"
        if not done.is_file():
            words = ["--top-k", top_k, "--batch", ",".join(map(str, batches)), "--json"]
            if options.toy or options.miniature:
                words += ["--prompt", 48, "--new", 16, "--repeat", 1 if options.toy else 5]
            text = run(program, "profile", model, *words, capture=True)
            partial = done.with_suffix(".tmp")
            partial.write_text(text)
            partial.rename(done)
        plan.unlink()
        rows.append({"experts": experts, "top_k": top_k, **json.loads(done.read_text())})
    return rows


def active(program, row, config, options):
    """Accuracy of the full model against its active experts."""
    points = []
    for task in tasks_of(row, config, options.miniature):
        for top_k in row["active"]:
            plan = identity(program, options.model, 10**6, top_k, options.out / f"active{top_k}.json")
            words = ["--task", task, "--plan", plan,
                     "--json"] + ([] if options.miniature else ["--protocol", "eep"])
            if options.toy:
                words += ["--limit", 16]
            score = json.loads(run(program, "eval", options.model, *words, capture=True, data=options.data))
            points.append({"task": task, "top_k": top_k, "score": score["score"], "ci95": score["ci95"],
                           "n": score["n"]})
    return points


def traces(program, row, config, options):
    """Figures 4, 6 and 7: one layer before and after T1's pruning."""
    task = tasks_of(row, config, options.miniature)[0]
    files = found_runs(row, config, options) or search(program, row, config, options)
    plan = json.loads((files[0].parent / "plan.prune.json").read_text())
    about = json.loads(run(program, "inspect", options.model, "--json", capture=True))
    # the paper's 1st, 15th or 31st of 32 blocks
    layer = round((row["block"] - 1) * (about["layers"] - 1) / 31)
    data = (ROOT / "experiments/demo/data" if options.miniature else options.data) / task / "test.jsonl"
    prompts = routing.prompts_of(ROOT / f"experiments/tasks/{task}.yaml", data, not options.miniature,
                                 4 if options.toy else 64)
    trace = lambda which: routing.trace(lambda *words: run(program, *words, capture=True), options.model,
                                        which, prompts,
                                        [layer], about["experts"], options.out / "taps.tmp")[layer]
    group = next(group for group in plan["groups"] if layer in group["layers"])
    kept = [line.index(1) for line in group["router_mapping"]]
    before, after = trace(None), trace(files[0].parent / "plan.prune.json").first(len(kept))
    return layer, before, after, kept


def parameters(program, options):
    """What a checkpoint's sizes come to; the miniature's are the demo's two."""
    models = [DEMO["model"], DEMO["qwen"]] if options.miniature else [options.model]
    return [json.loads(run(program, "inspect", model, "--json", capture=True)) | {"name": model.name}
            for model in models]


def parse(config):
    parser = argparse.ArgumentParser(prog="reproduce.sh", description=__doc__)
    parser.add_argument("id", nargs="?", help="table or figure: " + ", ".join(config["tables"]))
    parser.add_argument("--model", type=pathlib.Path, help="checkpoint")
    parser.add_argument("--data", type=pathlib.Path, help="what eep task import wrote")
    parser.add_argument("--coefficients", type=pathlib.Path, help="the published .pth and .json files")
    parser.add_argument("--out", type=pathlib.Path, help="default: runs/paper/ID")
    parser.add_argument("--seeds", type=int, help="searches a cell (1; --miniature: 3)")
    parser.add_argument("--miniature", action="store_true",
                        help="the demo's model and tasks in place of the paper's")
    parser.add_argument("--threads", type=int, help="of eep (the machine's)")
    parser.add_argument("--dry-run", action="store_true", help="memory, work and time, no more")
    parser.add_argument("--so-far", action="store_true",
                        help="no more runs: the table of those that are done")
    parser.add_argument("--toy", action="store_true", help="a few items and evaluations: that it works")
    options = parser.parse_args()
    if options.id is None:
        published = json.loads((HERE / "published.json").read_text())["tables"]
        for name, row in config["tables"].items():
            print(f"{name:5}{row.get('title') or published[name]['title']}")
        sys.exit(0)
    if options.id not in config["tables"]:
        parser.error(f"unknown ID {options.id} (expected one of {', '.join(config['tables'])})")
    if options.threads:
        THREADS[:] = ["--threads", options.threads]
    of_miniature = config["tables"][options.id].get("seeds", 3)
    options.seeds = options.seeds or (of_miniature if options.miniature and not options.toy else 1)
    kind = "miniature" if options.miniature else "paper"
    options.out = options.out or ROOT / f"runs/{kind}/{options.id}"
    return options


def main():
    config = json.loads((HERE / "tables.json").read_text())
    published = json.loads((HERE / "published.json").read_text())
    options = parse(config)
    row = config["tables"][options.id]
    try:
        check_inputs(row, config, options)
        program = eep_program()
    except Missing as what:
        print(f"reproduce: missing {what}", file=sys.stderr)
        sys.exit(66)
    if options.miniature:
        options.model = DEMO[row.get("demo", "model")]
    for name in ("model", "data", "coefficients", "out"):
        if getattr(options, name):
            setattr(options, name, getattr(options, name).resolve())
    options.out.mkdir(parents=True, exist_ok=True)
    report = tables.Report(options.id, row, published, config["stand_ins"] if options.miniature else {},
                           options.out)
    if row["kind"] in ("search", "convergence") or (row["kind"] == "coefficients" and options.miniature):
        files = [] if options.dry_run else found_runs(row, config, options)
        files = files or search(program, row, config, options)
        if options.dry_run:
            return
        if row["kind"] == "coefficients":
            report.own_coefficients(files)
        else:
            cells = tables.cells_of_runs(files)
            if row.get("coefficients") and options.coefficients and not options.miniature:
                cells += released(program, config, options)
            report.search(cells)
        if row["kind"] == "convergence":
            report.convergence(files)
    elif row["kind"] == "profile":
        report.profile(profile(program, row, options))
    elif row["kind"] == "active":
        report.active(active(program, row, config, options))
    elif row["kind"] == "traces":
        if options.dry_run:
            search(program, row, config, options)
            return
        layer, before, after, kept = traces(program, row, config, options)
        routing.write(options.out, report.title, layer, before, after, kept)
        report.write(routing.summary(layer, before, after, kept))
    elif row["kind"] == "parameters":
        report.parameters(parameters(program, options))
    else:
        report.coefficients(options.coefficients)
    print(options.out / "table.md")


if __name__ == "__main__":
    main()
