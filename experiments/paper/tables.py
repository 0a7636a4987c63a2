"""Cells of runs beside the published ones: table.md, table.csv, and the figures as SVG."""
import csv
import json
import math
import pathlib

import figures

# Student's t, 97.5 %
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


ONE_SHOT = ("random", "frequency", "soft_activation", "naee")
# What the paper's tables claim: the upper method above each of the lower ones.
CLAIMS = {"eep_merge above eep_prune": ("eep_merge", ["eep_prune"]),
          "eep_prune above every one-shot method": ("eep_prune", ONE_SHOT),
          "eep_merge above the full model": ("eep_merge", ["full"]),
          "eep_merge above the full model with as few active experts": ("eep_merge", ["full_top1"]),
          "eep_merge above skipping token by token": ("eep_merge", ["dyn", "naee_dyn"]),
          "the full model above random choices": ("full", ["random"])}


def files_of_runs(folder, tasks=(), experts=()):
    """result.json of every finished run, of some tasks and budgets alone."""
    found = []
    for file in sorted(folder.rglob("result.json")):
        result = json.loads(file.read_text())
        budget = min(method["experts"] for method in result["methods"])
        if (not tasks or result["task"]["name"] in tasks) and (not experts or budget in experts):
            found.append(file)
    return found


def cells_of_runs(files):
    """One cell a task, budget, grouping and method; a score a seed."""
    cells = {}
    for file in files:
        result = json.loads(file.read_text())
        config = (file.parent / "config.resolved.yaml").read_text()
        groups = next((line.split()[1] for line in config.splitlines() if line.startswith("  groups:")), "")
        further = {}
        for task in result.get("tasks", [])[1:]:
            name = task["name"] + ("/" + task["split"] if "split" in task else "")
            for method, score in task["test"].items():
                further.setdefault(method, []).append((name, {**score, "n": task["n"]}))
        budget = min(method["experts"] for method in result["methods"])
        for method in result["methods"]:
            own = [(result["task"]["name"], method["test"])] + further.get(method["name"], [])
            for task, score in own:
                key = (task, budget, groups, method["name"])
                cell = cells.setdefault(key, {"task": task, "experts": budget, "groups": groups, "scores": [],
                                              "active": f"{method['active_experts']:.2f}"
                                              if "active_experts" in method else "",
                                              "method": method["name"], "top_k": method["top_k"],
                                              "ci95": score["ci95"], "n": score["n"]})
                cell["scores"].append(score["score"])
                if "stddev" in score:
                    cell["stddev"] = score["stddev"]
    return list(cells.values())


def interval(cell):
    """95 %: over seeds where they differ, else over items."""
    scores = cell["scores"]
    if len(set(scores)) < 2:
        return cell["ci95"]
    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((s - mean) ** 2 for s in scores) / (len(scores) - 1))
    half = T95.get(len(scores) - 1, 1.96) * deviation / math.sqrt(len(scores))
    return [mean - half, mean + half]


def mean_of(cell):
    return sum(cell["scores"]) / len(cell["scores"])


def paired(upper, lower):
    """Mean difference in points over seeds with its 95 % interval, of the same seeds; the difference alone
    where all seeds have it."""
    count = len(upper["scores"])
    if len(lower["scores"]) != count:
        return f"{100 * (mean_of(upper) - mean_of(lower)):+.1f}"
    of_seeds = {"scores": [100 * (u - l) for u, l in zip(upper["scores"], lower["scores"])]}
    if len(set(of_seeds["scores"])) < 2:
        return f"{of_seeds['scores'][0]:+.1f}"
    low, high = interval(of_seeds)
    return f"{mean_of(of_seeds):+.1f} ({low:+.1f} to {high:+.1f})"


def markdown(rows):
    lines = ["| " + " | ".join(map(str, rows[0])) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows[1:]]) + "\n"


class Report:
    def __init__(self, name, row, published, stand_ins, out):
        self.name, self.row, self.out = name, row, out
        self.published = [published["tables"][table] for table in row["published"]]
        self.remarks = published["remarks"]
        self.stands_for = {stand_in: task for task, stand_in in stand_ins.items()}
        self.title = f"{name}: {row.get('title') or self.published[0]['title']}"

    def write(self, rows, *texts):
        with open(self.out / "table.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        note = [self.row["note"]] if "note" in self.row else []
        if self.stands_for and self.published:
            note.append("Miniature: the demo's model on its own tasks; the published cells are of Mixtral "
                        "on the benchmark "
                        "whose shape a task has. Only the order of the methods can be compared.")
        text = f"# {self.title}\n\n" + "".join(line + "\n\n" for line in note) + markdown(rows)
        (self.out / "table.md").write_text(text + "".join("\n" + more + "\n" for more in texts))

    def published_cell(self, cell):
        """The published value of the same method, budget and task, or None."""
        task = self.stands_for.get(cell["task"], cell["task"])
        experts = self.row.get("stands_for_experts",
                               {}).get(str(cell["experts"])) if self.stands_for else None
        groups = self.row.get("stands_for_groups", {}).get(cell["groups"]) if self.stands_for else None
        cell = {**cell, "experts": experts or cell["experts"], "groups": groups or cell["groups"]}
        for table in self.published:
            for row in table.get("rows", []):
                same_groups = "groups" not in row or str(row["groups"]) == cell["groups"] or (
                    row["groups"] == 32 and cell["groups"] == "per_layer")
                full = cell["method"].startswith("full")
                same_method = row["method"] == ("full" if full else cell["method"])
                # "1.4–1.5": measured, not set
                active = not str(row.get("active", "-")).isdigit() or str(row["active"]) == str(cell["top_k"])
                if same_method and same_groups and active and (full or row["experts"] == cell["experts"]):
                    return row["cells"].get(task)
        return None

    def search(self, cells):
        rows = [["task", *(["stands for"] if self.stands_for else []), "experts", "active", "groups",
                 "method", "score", "95 % interval", "seeds", "n", "against full", "published",
                 "published against full", "difference"]]
        groups = {}
        for cell in cells:
            if cell["method"] not in self.row.get("methods", [cell["method"]]):
                continue
            groups.setdefault((cell["task"], cell["experts"], cell["groups"]), []).append(cell)
        panels = []
        for (task, experts, layers), own in groups.items():
            full = next((cell for cell in own if cell["method"] == "full"), None)
            known_full = self.published_cell(full) if full else None
            panel = []
            for cell in own:
                low, high = (100 * min(max(value, 0), 1) for value in interval(cell))  # no score is beyond
                known = self.published_cell(cell)
                score, others = 100 * mean_of(cell), cell is not full and full is not None
                panel.append((cell["method"], score, low, high, known))
                rows.append([task, *([self.stands_for.get(task, "")] if self.stands_for else []), experts,
                             cell.get("active") or cell["top_k"], layers, cell["method"],
                             f"{score:.1f}"
                             + (f" (sd {100 * cell['stddev']:.1f})" if "stddev" in cell else ""),
                             f"{low:.1f} to {high:.1f}", len(cell["scores"]), cell["n"],
                             paired(cell, full) if others else "",
                             "" if known is None else known,
                             f"{known - known_full:+.1f}" if others and None not in (known, known_full)
                             else "", "" if known is None else f"{score - known:+.1f}"])
            panels.append((f"{task}, {experts} experts, {layers} groups", panel))
        figures.cells(self.out / "figure.svg", self.title, panels)
        self.write(rows, self.order(groups),
                   *[f"- {remark}" for remark in self.remarks if not self.stands_for])

    def order(self, groups):
        """Where the paper's order holds and where it does not, and by how much over the same seeds."""
        lines = ["## Does the paper's order appear?", ""]
        for words, (upper, lower) in CLAIMS.items():
            held, failed = 0, []
            for (task, experts, layers), cells in groups.items():
                by_name = {cell["method"]: cell for cell in cells}
                rivals = [by_name[name] for name in lower if name in by_name]
                if upper not in by_name or not rivals:
                    continue
                best = max(rivals, key=mean_of)
                if mean_of(by_name[upper]) > mean_of(best):
                    held += 1
                else:
                    failed.append(f"{task} at {experts}, {layers} groups: {paired(by_name[upper], best)} "
                                  f"against {best['method']}")
            if held + len(failed) > 0:
                lines.append(f"- {words}: in {held} of {held + len(failed)} cells" +
                             ("" if not failed else ". It does not appear in " + "; ".join(failed)))
        return "\n".join(lines)

    def convergence(self, files):
        series = {}
        for file in files:
            lines = [json.loads(line) for line in (file.parent / "metrics.jsonl").read_text().splitlines()]
            name = ", ".join(part.split("=")[-1] + (" experts" if part.startswith("plan.experts") else "")
                             if not part.startswith("seed")
                             else "seed " + part.split("=")[-1] for part in file.parent.name.split(","))
            series[name] = [(line["evaluations"], 100 * line["best"]) for line in lines]
        rows = [["run", "evaluations", "best, %"]]
        rows += [[name, x, f"{y:.2f}"] for name, line in series.items() for x, y in line]
        with open(self.out / "figure.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        figures.plot(self.out / "figure.svg", self.title, series, "evaluations",
                     "best on the search's items, %")

    def profile(self, rows):
        base = rows[0]
        cells = [["experts", "active", "batch", "prefill tokens/s", "range", "against full", "published",
                  "decode tokens/s", "range", "against full", "published", "weights MB", "peak MB"]]
        for row in rows:
            for own, full in zip(row["batches"], base["batches"]):
                line = [row["experts"], row["top_k"], own["batch"]]
                for phase in ("prefill", "decode"):
                    speed, of_full = (r[f"{phase}_tokens_per_second"] for r in (own, full))
                    line += [f"{speed['median']:.0f}", f"{speed['min']:.0f} to {speed['max']:.0f}",
                             f"{speed['median'] / of_full['median']:.2f}",
                             self.published_speed(row, own["batch"], phase)]
                cells.append(line + [f"{row['weights_bytes'] / 1e6:.1f}",
                                     f"{row['peak_memory_bytes'] / 1e6:.1f}"])
        speeds = [(f"{row['experts']} experts, {row['top_k']} active",
                   [own["prefill_tokens_per_second"]["median"] / full["prefill_tokens_per_second"]["median"]
                    for own, full in zip(row["batches"], base["batches"])]) for row in rows]
        figures.bars(self.out / "figure.svg", "Prefill against the full model, by batch", speeds,
                     [batch["batch"] for batch in base["batches"]])
        about = (f"{base['device']}, {base['threads']} threads, prompts of {base['prompt']} tokens, "
                 f"{base['new']} new ones.")
        self.write(cells, about)

    def published_speed(self, row, batch, phase):
        for known in self.published[0]["rows"]:
            if (known["experts"], known["active"]) == (row["experts"], row["top_k"]):
                return known.get(phase, {}).get(str(batch), known.get("speedup", ""))
        return ""

    def active(self, points):
        known = self.published[0]["points"]
        rows = [["task", "active", "score", "95 % interval", "n", "published"]]
        series = {}
        for point in points:
            task = self.stands_for.get(point["task"], point["task"])
            low, high = (100 * value for value in point["ci95"])
            rows.append([point["task"], point["top_k"], f"{100 * point['score']:.1f}",
                         f"{low:.1f} to {high:.1f}", point["n"],
                         known.get(task, {}).get(str(point["top_k"]), "")])
            series.setdefault(point["task"], []).append((point["top_k"], 100 * point["score"]))
        figures.plot(self.out / "figure.svg", self.title, series, "active experts", "accuracy, %")
        self.write(rows)

    def parameters(self, models):
        known = {row["name"]: row for row in self.published[0]["models"]} if self.published else {}
        rows = [["model", "layers", "experts", "active", "total, B", "active, B", "experts, B",
                 "published total, B", "published active, B", "published experts, B"]]
        for model in models:
            row = next((row for name, row in known.items() if name.lower() in model["name"].lower()), {})
            counts = model["parameters"]
            rows.append([model["name"], model["layers"], model["experts"], model["top_k"],
                         *[f"{counts[part] / 1e9:.4g}" for part in ("total", "active", "experts")],
                         *[row.get(part, "") for part in ("total", "active", "experts")]])
        self.write(rows)

    def own_coefficients(self, files):
        """Heat maps of the plans that a miniature's searches found."""
        rows = [["run", "layers", "matrix", "rows", "least", "largest"]]
        for file in files:
            matrices = []
            for group in json.loads((file.parent / "plan.json").read_text())["groups"]:
                layers = ",".join(map(str, group["layers"]))
                for key, name in (("expert_merging", "W_EM"), ("router_mapping", "W_RM")):
                    matrix = group[key]
                    values = [value for line in matrix for value in line]
                    matrices.append((f"{name} {layers}", matrix))
                    rows.append([file.parent.name, layers, name, len(matrix), f"{min(values):.3f}",
                                 f"{max(values):.3f}"])
            figures.heat_map(self.out / (file.parent.name.replace("=", "-").replace(",", "_") + ".svg"),
                             file.parent.name, matrices)
        self.write(rows)

    def coefficients(self, folder):
        rows = [["file", "matrix", "rows", "least", "largest"]]
        for name in self.row["files"]:
            coefficients = json.loads((folder / name).read_text())["coeff"]
            matrices = list(coefficients.items())
            figures.heat_map(self.out / (pathlib.Path(name).stem + ".svg"), name, matrices)
            for key, matrix in matrices:
                values = [value for row in matrix for value in row]
                rows.append([name, key, len(matrix), f"{min(values):.3f}", f"{max(values):.3f}"])
        self.write(rows)
