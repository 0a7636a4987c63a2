"""Figures as SVG: lines, bars, heat maps, and cells beside published ones."""
import math
import pathlib

COLOURS = ["#1b6ca8", "#c8553d", "#3a7d44", "#7a4f9e", "#8c6d31", "#555555"]


def write(path, width, height, parts):
    pathlib.Path(path).write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
                                  f'height="{height}" '
                                  'font-family="sans-serif" font-size="12">\n'
                                  + "\n".join(parts) + "\n</svg>\n")


def ticks(low, high):
    """About five round numbers between two."""
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def plot(path, title, series, x_label, y_label):
    """Lines through points: series is {name: [(x, y), ...]}."""
    points = [point for line in series.values() for point in line]
    if not points:
        return
    left, top, width, height = 60, 40, 520, 300
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x0, x1, y0, y1 = min(xs), max(max(xs), min(xs) + 1e-9), min(ys), max(max(ys), min(ys) + 1e-9)
    at = lambda p: (left + width * (p[0] - x0) / (x1 - x0), top + height * (1 - (p[1] - y0) / (y1 - y0)))
    parts = [f'<text x="{left}" y="20" font-size="14">{title}</text>',
             f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>']
    for value in ticks(y0, y1):
        y = at((x0, value))[1]
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(x0, x1):
        parts.append(f'<text x="{at((value, y0))[0]:.1f}" y="{top + height + 16}" '
                     f'text-anchor="middle">{value:g}</text>')
    parts.append(
        f'<text x="{left + width / 2}" y="{top + height + 36}" text-anchor="middle">{x_label}</text>')
    parts.append(f'<text x="14" y="{top + height / 2}" transform="rotate(-90 14 {top + height / 2})" '
                 f'text-anchor="middle">{y_label}</text>')
    for i, (name, line) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        path_text = " ".join("%.1f,%.1f" % at(point) for point in line)
        parts.append(f'<polyline points="{path_text}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{left + width + 10}" y="{top + 14 + 16 * i}" fill="{colour}">{name}</text>')
    write(path, left + width + 30 + 7 * max(len(name) for name in series), top + height + 50, parts)


def heat_map(path, title, matrices):
    """Rows of cells, blue below 0, red above, white at 0."""
    size, x, parts = 22, 20, [f'<text x="20" y="18" font-size="14">{title}</text>']
    for name, matrix in matrices:
        parts.append(f'<text x="{x}" y="40">{name}</text>')
        for j, row in enumerate(matrix):
            for i, value in enumerate(row):
                strength = int(255 * (1 - min(abs(value), 1)))
                fill = f"rgb(255,{strength},{strength})" if value > 0 else f"rgb({strength},{strength},255)"
                parts.append(f'<rect x="{x + size * i}" y="{50 + size * j}" width="{size}" height="{size}" '
                             f'fill="{fill}" '
                             f'stroke="#ccc"><title>{value:.6g}</title></rect>')
        x += max(size * len(matrix[0]), 7 * len(name)) + 30
    write(path, x, 70 + size * max(len(matrix) for _, matrix in matrices), parts)


def bars(path, title, panels, labels=None):
    """Panels side by side, a bar a value: [(name, [values])]. With labels of the bars all panels have one
    scale and say their values; else each has its own, and bars are numbered."""
    width, height, left, parts = 22, 180, 20, [f'<text x="20" y="18" font-size="14">{title}</text>']
    shared = max(value for _, values in panels for value in values) if labels else None
    if labels:
        width = 44
    for i, (name, values) in enumerate(panels):
        most = shared or max([*values, 1e-300])
        parts.append(f'<text x="{left}" y="40">{name}</text>')
        for j, value in enumerate(values):
            tall = height * value / most
            parts.append(f'<rect x="{left + width * j}" y="{50 + height - tall:.1f}" width="{width - 4}" '
                         f'height="{tall:.1f}" '
                         f'fill="{COLOURS[i % len(COLOURS)]}"><title>{value:.6g}</title></rect>')
            middle = left + width * j + (width - 4) / 2
            parts.append(f'<text x="{middle}" y="{64 + height}" '
                         f'text-anchor="middle">{labels[j] if labels else j}</text>')
            if labels:
                parts.append(f'<text x="{middle}" y="{64 + height - tall:.1f}" text-anchor="middle" '
                             f'fill="#fff">{value:.2f}</text>')
        left += max(width * len(values), 7 * len(name)) + 30
    write(path, left, 80 + height, parts)


def cells(path, title, panels):
    """A panel a task and budget, a row a method: our score with its interval, a ring where the published one
    lies. panels: [(name, [(method, score, low, high, published or None), ...]), ...], in percent."""
    left, width, step, y, parts = 150, 420, 16, 60, [f'<text x="20" y="20" font-size="14">{title}</text>',
                                                     '<text x="20" y="38" fill="#555">dot and line: ours, '
                                                     '95 %; ring: '
                                                     "published</text>"]
    at = lambda value: left + width * min(max(value, 0), 100) / 100
    for name, rows in panels:
        parts.append(f'<text x="20" y="{y}" font-weight="bold">{name}</text>')
        y += 6
        for tick in (0, 25, 50, 75, 100):
            parts.append(f'<line x1="{at(tick)}" x2="{at(tick)}" y1="{y}" y2="{y + step * len(rows)}" '
                         'stroke="#ddd"/>')
            parts.append(f'<text x="{at(tick)}" y="{y + step * len(rows) + 12}" text-anchor="middle" '
                         'font-size="9" fill="#555">'
                         f'{tick}{" %" if tick == 100 else ""}</text>')
        for method, score, low, high, published in rows:
            middle = y + step / 2
            parts.append(f'<text x="{left - 8}" y="{middle + 4}" text-anchor="end">{method}</text>')
            parts.append(f'<line x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{middle}" y2="{middle}" '
                         f'stroke="{COLOURS[0]}"/>')
            parts.append(f'<circle cx="{at(score):.1f}" cy="{middle}" r="3.5" fill="{COLOURS[0]}"/>')
            if published is not None:
                parts.append(f'<circle cx="{at(published):.1f}" cy="{middle}" r="4" fill="none" '
                             f'stroke="{COLOURS[1]}"/>')
            y += step
        y += 34
    write(path, left + width + 30, y, parts)
