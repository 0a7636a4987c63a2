#!/usr/bin/env python3
"""Prose, comments and scripts are at most 110 columns wide, as clang-format keeps code: width.py FILE...

Of Markdown: paragraphs and lists; tables, code, headings, pictures and what has no blank to break at may be
wider. Of sources and the Makefile: comments on lines of their own; tables in them are kept by hand and have
runs of blanks. Of Python, shell and CMake: every line."""
import re
import sys

WIDTH = 110


def wide_prose(lines):
    fenced = False
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and len(line) > WIDTH and not re.match(r"\s*[|#<>!]|    ", line):
            # code and links are not broken
            words = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "x", line).split()
            if len(words) > 1:
                yield number


def wide_comments(lines, mark):
    for number, line in enumerate(lines, 1):
        if len(line) > WIDTH and re.match(rf"\s*{mark} \S", line) and not re.search(r"\S {2,}\S", line):
            yield number


def wide_lines(lines):
    return (number for number, line in enumerate(lines, 1) if len(line) > WIDTH)


failed = False
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        text = file.read().split("\n")
    if path.endswith(".md"):
        found = wide_prose(text)
    elif re.search(r"\.(py|sh|bash|cmake)$|CMakeLists\.txt$|\.ci/run$", path):
        found = wide_lines(text)
    else:
        found = wide_comments(text, "//" if re.search(r"\.(h|cpp|cu|cuh)$", path) else "#")
    for at in found:
        print(f"{path}:{at}: {len(text[at - 1])} columns (expected at most {WIDTH})")
        failed = True
print("width: lines to break" if failed else "width: ok")
sys.exit(failed)
