#!/usr/bin/env python3
"""Files what gpu_run.sh brought back: bench/results/<GPU>/README.md with tables, ratios to the ceilings of
the same run and what failed, the raw rows beside it, and the last column of bench/results/PENDING.md.

gpu_file.py OUTPUT... [--results FOLDER]

OUTPUT: folders that gpu_run.sh filled on one machine, the later ones after the first.
"""
import argparse
import csv
import fnmatch
import json
import pathlib
import re
import sys

LOGS = ("tests.log", "wgmma.log", "sanitizer.log")
RAW = ("ops.csv", "models.jsonl", "steps.jsonl", "peers.csv")
FAILURE = re.compile(r"TEST CASE:|ERROR|values:|logged:|CUDA says|DIFFERS|========= "
                     r".*(Invalid|hazard|Barrier|SUMMARY)")


def lines_of(path):
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def json_lines(path):
    """Objects of a file that may end in the middle of one."""
    found = []
    for line in lines_of(path):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [value for value in found if isinstance(value, dict)]


class Run:
    """All that came back: steps, rows of ops, rows of models, each in the order of time."""

    def __init__(self, folders):
        self.folders = folders
        self.steps = [step for folder in folders for step in json_lines(folder / "steps.jsonl")]
        self.models = [model for folder in folders for model in json_lines(folder / "models.jsonl")]
        self.ops = []
        for folder in folders:
            if (folder / "ops.csv").exists():
                with open(folder / "ops.csv", newline="", errors="replace") as file:
                    self.ops += [row for row in csv.DictReader(file) if row.get("device")]
        environment = [line for folder in folders for line in lines_of(folder / "gpu.txt")]
        header = next((i for i, line in enumerate(environment) if line.startswith("name, driver_version")),
                      None)
        if header is None or header + 1 >= len(environment):
            sys.exit("gpu_file: gpu.txt does not name a GPU")
        names = [name.split(" ")[0] for name in environment[header].split(", ")]
        self.machine = dict(zip(names, environment[header + 1].split(", ")))
        self.bundle = [line for line in environment if line.startswith(("commit ", "needs GLIBC"))]

    def folder_name(self):
        return re.sub(r"[^a-z0-9]+", "-", self.machine["name"].lower()).strip("-")

    def ceilings(self):
        return {row["op"]: float(row["tflop_per_s"] or row["gb_per_s"]) for row in self.ops
                if row["id"] == "ceiling" and (row["tflop_per_s"] or row["gb_per_s"])}


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows]


def rounded(text, digits=3):
    return f"{float(text):.{digits}g}" if text else "-"


def percent(value, ceiling):
    return f"{100 * value / ceiling:.0f}" if ceiling and value else "-"


def outcome(step):
    return {0: "ok", -1: "not run", 77: "not here", 124: "out of time",
            137: "killed"}.get(step["rc"], f"FAILED ({step['rc']})")


def ops_section(run):
    ceilings = run.ceilings()
    units = {name: "TFLOP/s" if row["tflop_per_s"] else "GB/s" for row in run.ops if row["id"] == "ceiling"
             for name in [row["op"]]}
    lines = ["## Ceilings of this run", ""]
    lines += table(["what", "rate"],
                   [(name, f"{value:.4g} {units[name]}") for name, value in ceilings.items()])
    lines += ["", "## Ops", "",
              "% of roof: of the larger of FLOPs / cuBLAS and bytes / copy. % mma, wgmma, copy: of that "
              "ceiling alone.", ""]
    rows = []
    for row in run.ops:
        if row["id"] in ("ceiling", "note"):
            continue
        flops, gb = float(row["tflop_per_s"] or 0), float(row["gb_per_s"] or 0)
        rows.append((row["id"], row["op"] + (f" ({row['path']})" if row["path"] else ""), row["shape"],
                     f"{float(row['median_us']):.1f}" if row["median_us"] else row["note"],
                     rounded(row["iqr_percent"], 2), rounded(row["tflop_per_s"]), rounded(row["gb_per_s"]),
                     rounded(row["roof_percent"], 2), percent(flops, ceilings.get("mma.sync bf16")),
                     percent(flops, ceilings.get("wgmma bf16")),
                     percent(gb, ceilings.get("copy")), rounded(row["times_library"], 2),
                     row["bitwise"] or "-", row["target"] or "-"))
    lines += table(["id", "op", "shape", "median us", "IQR %", "TFLOP/s", "GB/s", "% of roof", "% mma",
                    "% wgmma", "% copy", "x library", "run to run", "target"], rows)
    notes = [row["note"] for row in run.ops if row["id"] == "note"]
    return lines + ([""] + ["- " + note for note in notes] if notes else [])


def models_section(run):
    fields = ("layers", "candidates", "prompts", "tokens", "phase", "merged_experts", "streamed_layers")
    rows = []
    for model in run.models:
        decode = model.get("decode_step_seconds")
        rows.append([pathlib.Path(model["config"]).stem, *[model.get(field, "-") for field in fields],
                     f"{model['tokens_per_second']:.0f}", f"{model['computed_tokens_per_second']:.0f}",
                     f"{model['tflop_per_second']:.4g}", f"{1000 * decode:.4g}" if decode else "-",
                     f"{model['target_tokens_per_second']:.0f}" if "target_tokens_per_second" in model
                     else "-",
                     "same" if model["same_twice"] else "DIFFERENT"])
    return ["## Models", ""] + table(["model", *fields, "tokens/s asked", "computed", "TFLOP/s",
                                      "decode step ms", "target", "run to run"], rows)


def failures_section(run):
    bad = [step for step in run.steps if step["rc"] not in (0, 77)]
    lines = ["## What failed", ""]
    if not bad:
        return lines + ["Nothing."]
    lines += table(["step", "outcome", "last line"],
                   [(step["step"], outcome(step), step["last"]) for step in bad])
    found = [line.strip()[:200] for folder in run.folders for log in LOGS for line in lines_of(folder / log)
             if FAILURE.search(line) and "no difference" not in line]
    if found:
        lines += ["", "```"] + list(dict.fromkeys(found))[:60] + ["```"]
    return lines


def page(run):
    machine = run.machine
    lines = [f"# {machine['name']}", "",
             "Written by bench/gpu_file.sh from what bench/gpu_run.sh brought back; the raw rows lie beside "
             "it.", "",
             "- " + ", ".join(f"{name} {value}" for name, value in machine.items() if name != "name")]
    lines += ["- " + line for line in run.bundle] + [""]
    lines += failures_section(run) + [""] + ops_section(run) + [""]
    if run.models:
        lines += models_section(run) + [""]
    lines += ["## Steps", ""] + table(["step", "outcome", "s", "last line"],
                                      [(step["step"], outcome(step), f"{step['seconds']:.1f}", step["last"])
                                       for step in run.steps])
    return "\n".join(lines) + "\n"


def update_pending(run, path):
    """Rows `| what | steps | last run |`: steps are names of gpu_run.sh in backquotes, as shell patterns."""
    commit = next((line.split(",")[0] for line in run.bundle if line.startswith("commit ")), "")
    lines = lines_of(path)
    for i, line in enumerate(lines):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        patterns = re.findall(r"`([^`]+)`", cells[1]) if line.startswith("|") and len(cells) == 3 else []
        steps = [step for step in run.steps
                 if any(fnmatch.fnmatchcase(step["step"], pattern) for pattern in patterns)]
        if not steps:
            continue
        bad = [f"{step['step']}: {outcome(step)}" for step in steps if step["rc"] != 0]
        cells[2] = f"{run.machine['name']}, {commit}: " + ("; ".join(bad) if bad else "ok")
        lines[i] = "| " + " | ".join(cells) + " |"
    path.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(usage="gpu_file.sh OUTPUT... [--results FOLDER]")
    parser.add_argument("output", nargs="+", type=pathlib.Path)
    parser.add_argument("--results", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent / "results")
    options = parser.parse_args()
    run = Run(options.output)
    if not run.steps:
        sys.exit("gpu_file: no steps.jsonl in " + ", ".join(map(str, options.output)))
    folder = options.results / run.folder_name()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(page(run))
    for name in RAW:
        text = [line for output in options.output for line in lines_of(output / name)]
        if name.endswith(".csv"):  # one header
            text = [line for i, line in enumerate(text) if i == 0 or line != text[0]]
        if text:
            (folder / name).write_text("\n".join(text) + "\n")
    update_pending(run, options.results / "PENDING.md")
    bad = [step["step"] for step in run.steps if step["rc"] not in (0, 77)]
    print(f"{folder}: {len(run.steps)} steps, {len(bad)} not well" + (": " + "; ".join(bad) if bad else ""))


main()
