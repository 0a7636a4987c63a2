"""Cells of runs beside the published ones: table.md, table.csv, and the figures as SVG."""
import csv
import json
import math
import pathlib

T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # Student's t, 97.5 %


def cells_of_runs(folder):
    """One cell a task, budget, grouping and method; a score a seed."""
    cells = {}
    for file in sorted(folder.rglob("result.json")):
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
                                              "method": method["name"], "top_k": method["top_k"],
                                              "ci95": score["ci95"], "n": score["n"]})
                cell["scores"].append(score["score"])
                if "stddev" in score:
                    cell["stddev"] = score["stddev"]
    return list(cells.values())


def interval(cell):
    """95 %: over seeds where there are several, else over items."""
    scores = cell["scores"]
    if len(scores) < 2:
        return cell["ci95"]
    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((s - mean) ** 2 for s in scores) / (len(scores) - 1))
    half = T95.get(len(scores) - 1, 1.96) * deviation / math.sqrt(len(scores))
    return [mean - half, mean + half]


def markdown(rows):
    lines = ["| " + " | ".join(map(str, rows[0])) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows[1:]]) + "\n"


def plot(path, title, series, x_label, y_label):
    """Lines through points: series is {name: [(x, y), ...]}."""
    points = [point for line in series.values() for point in line]
    if not points:
        return
    left, top, width, height = 60, 40, 520, 300
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x0, x1, y0, y1 = min(xs), max(max(xs), min(xs) + 1e-9), min(ys), max(max(ys), min(ys) + 1e-9)
    at = lambda p: (left + width * (p[0] - x0) / (x1 - x0), top + height * (1 - (p[1] - y0) / (y1 - y0)))
    colours = ["#1b6ca8", "#c8553d", "#3a7d44", "#7a4f9e", "#8c6d31", "#555555"]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 160}" height="{top + height + 50}" '
             f'font-family="sans-serif" font-size="12">',
             f'<text x="{left}" y="20" font-size="14">{title}</text>',
             f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>']
    for i in range(5):
        value = y0 + (y1 - y0) * i / 4
        parts.append(f'<text x="{left - 6}" y="{top + height * (1 - i / 4) + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        value = x0 + (x1 - x0) * i / 4
        parts.append(f'<text x="{left + width * i / 4:.1f}" y="{top + height + 16}" text-anchor="middle">{value:.4g}</text>')
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 36}" text-anchor="middle">{x_label}</text>')
    parts.append(f'<text x="14" y="{top + height / 2}" transform="rotate(-90 14 {top + height / 2})" '
                 f'text-anchor="middle">{y_label}</text>')
    for i, (name, line) in enumerate(series.items()):
        colour = colours[i % len(colours)]
        path_text = " ".join("%.1f,%.1f" % at(point) for point in line)
        parts.append(f'<polyline points="{path_text}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{left + width + 10}" y="{top + 14 + 16 * i}" fill="{colour}">{name}</text>')
    pathlib.Path(path).write_text("\n".join(parts) + "\n</svg>\n")


def heat_map(path, title, matrices):
    """Rows of cells, blue below 0, red above, white at 0."""
    size, x, parts = 22, 20, []
    for name, matrix in matrices:
        parts.append(f'<text x="{x}" y="40">{name}</text>')
        for j, row in enumerate(matrix):
            for i, value in enumerate(row):
                strength = int(255 * (1 - min(abs(value), 1)))
                fill = f"rgb(255,{strength},{strength})" if value > 0 else f"rgb({strength},{strength},255)"
                parts.append(f'<rect x="{x + size * i}" y="{50 + size * j}" width="{size}" height="{size}" fill="{fill}" '
                             f'stroke="#ccc"><title>{value:.6g}</title></rect>')
        x += size * len(matrix[0]) + 30
    height = 70 + size * max(len(matrix) for _, matrix in matrices)
    pathlib.Path(path).write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{x}" height="{height}" '
                                  f'font-family="sans-serif" font-size="12">\n<text x="20" y="18" font-size="14">{title}'
                                  "</text>\n" + "\n".join(parts) + "\n</svg>\n")


class Report:
    def __init__(self, name, row, published, stand_ins, out):
        self.name, self.row, self.out = name, row, out
        self.published = [published["tables"][table] for table in row["published"]]
        self.remarks = published["remarks"]
        self.stands_for = {stand_in: task for task, stand_in in stand_ins.items()}
        self.title = f"{name}: {self.published[0]['title'] if self.published else row['kind']}"

    def write(self, rows, *texts):
        with open(self.out / "table.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        note = [self.row["note"]] if "note" in self.row else []
        if self.stands_for:
            note.append("Miniature: the demo's model on its own tasks; the published cells are of Mixtral on the benchmark "
                        "whose shape a task has. Only the order of the methods can be compared.")
        text = f"# {self.title}\n\n" + "".join(line + "\n\n" for line in note) + markdown(rows)
        (self.out / "table.md").write_text(text + "".join("\n" + more + "\n" for more in texts))

    def published_cell(self, cell):
        """The published value of the same method, budget and task, or None."""
        task = self.stands_for.get(cell["task"], cell["task"])
        for table in self.published:
            for row in table.get("rows", []):
                same_groups = "groups" not in row or str(row["groups"]) == cell["groups"] or (
                    row["groups"] == 32 and cell["groups"] == "per_layer")
                full = cell["method"].startswith("full")
                same_method = row["method"] == ("full" if full else cell["method"])
                active = str(row.get("active", cell["top_k"])) == str(cell["top_k"])
                if same_method and same_groups and active and (full or row["experts"] == cell["experts"]):
                    return row["cells"].get(task)
        return None

    def search(self, cells):
        rows = [["task", "experts", "groups", "method", "score", "95 % interval", "seeds", "n", "published", "difference"]]
        for cell in cells:
            score = 100 * sum(cell["scores"]) / len(cell["scores"])
            low, high = (100 * value for value in interval(cell))
            known = self.published_cell(cell)
            rows.append([cell["task"], cell["experts"], cell["groups"], cell["method"],
                         f"{score:.1f}" + (f" (sd {100 * cell['stddev']:.1f})" if "stddev" in cell else ""),
                         f"{low:.1f} to {high:.1f}", len(cell["scores"]), cell["n"],
                         "" if known is None else known,
                         "" if known is None or self.stands_for else f"{score - known:+.1f}"])
        self.write(rows, self.order(cells), *[f"- {remark}" for remark in self.remarks if not self.stands_for])

    def order(self, cells):
        """How often the paper's order holds: merged over pruned over the best one-shot method, merged over full."""
        found = {}
        for cell in cells:
            mean = sum(cell["scores"]) / len(cell["scores"])
            found.setdefault((cell["task"], cell["experts"], cell["groups"]), {})[cell["method"]] = mean
        claims = {"eep_merge above eep_prune": ("eep_merge", ["eep_prune"]),
                  "eep_prune above every one-shot method": ("eep_prune", ["random", "frequency", "soft_activation", "naee"]),
                  "eep_merge above the full model": ("eep_merge", ["full"])}
        lines = ["## Does the paper's order appear?", ""]
        for words, (upper, lower) in claims.items():
            known = [scores for scores in found.values() if upper in scores and any(m in scores for m in lower)]
            held = [scores for scores in known if all(scores[upper] > scores[m] for m in lower if m in scores)]
            if known:
                lines.append(f"- {words}: in {len(held)} of {len(known)} cells")
        return "\n".join(lines)

    def convergence(self):
        series = {}
        for file in sorted(self.out.rglob("metrics.jsonl")):
            if "controls" in file.parts:
                continue
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            series[file.parent.name] = [(line["evaluations"], 100 * line["best"]) for line in lines]
        plot(self.out / "figure.svg", self.title, series, "evaluations", "best on the search's items, %")

    def profile(self, rows):
        base = rows[0]
        cells = [["experts", "active", "batch", "prefill tokens/s", "range", "against full", "published", "decode tokens/s",
                  "range", "against full", "published", "weights MB", "peak MB"]]
        for row in rows:
            for own, full in zip(row["batches"], base["batches"]):
                line = [row["experts"], row["top_k"], own["batch"]]
                for phase in ("prefill", "decode"):
                    speed, of_full = (r[f"{phase}_tokens_per_second"] for r in (own, full))
                    line += [f"{speed['median']:.0f}", f"{speed['min']:.0f} to {speed['max']:.0f}",
                             f"{speed['median'] / of_full['median']:.2f}", self.published_speed(row, own["batch"], phase)]
                cells.append(line + [f"{row['weights_bytes'] / 1e6:.1f}", f"{row['peak_memory_bytes'] / 1e6:.1f}"])
        about = f"{base['device']}, {base['threads']} threads, prompts of {base['prompt']} tokens, {base['new']} new ones."
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
            rows.append([point["task"], point["top_k"], f"{100 * point['score']:.1f}", f"{low:.1f} to {high:.1f}", point["n"],
                         known.get(task, {}).get(str(point["top_k"]), "")])
            series.setdefault(point["task"], []).append((point["top_k"], 100 * point["score"]))
        plot(self.out / "figure.svg", self.title, series, "active experts", "accuracy, %")
        self.write(rows)

    def coefficients(self, folder):
        rows = [["file", "matrix", "rows", "least", "largest"]]
        for name in self.row["files"]:
            coefficients = json.loads((folder / name).read_text())["coeff"]
            matrices = list(coefficients.items())
            heat_map(self.out / (pathlib.Path(name).stem + ".svg"), name, matrices)
            for key, matrix in matrices:
                values = [value for row in matrix for value in row]
                rows.append([name, key, len(matrix), f"{min(values):.3f}", f"{max(values):.3f}"])
        self.write(rows)
