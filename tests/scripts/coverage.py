#!/usr/bin/env python3
"""Sums gcov's JSON documents (one a line, stdin) over all objects: PATH, lines, lines never run; sources of
our rooms alone."""
import json
import os
import sys

ROOMS = ("kernels/", "engine/", "es/", "loaders/", "experiments/")


def main():
    root = os.path.abspath(sys.argv[1]) + os.sep
    counts = {}
    for document in sys.stdin:
        document = document.strip()
        if not document:
            continue
        data = json.loads(document)
        for file in data["files"]:
            path = os.path.normpath(os.path.join(data.get("current_working_directory", ""), file["file"]))
            if not path.startswith(root) or not path[len(root):].startswith(ROOMS):
                continue
            lines = counts.setdefault(path[len(root):], {})
            for line in file["lines"]:
                lines[line["line_number"]] = lines.get(line["line_number"], 0) + line["count"]
    for path, lines in sorted(counts.items()):
        print(path, len(lines), sum(count == 0 for count in lines.values()), sep="\t")


if __name__ == "__main__":
    main()
