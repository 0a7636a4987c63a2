#!/usr/bin/env python3
"""Options that messages name are options of the command that says them: message_options.py PROGRAM.

Reads the string literals of the sources. In a command's own file an option is that command's or one that
all commands take; elsewhere REACH says which commands come there. Behind "eep NAME" an option is NAME's, and
behind another program's name it is that program's.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
ROOMS = ["kernels", "engine", "es", "loaders", "experiments"]
ANY = ["any"]  # says what other commands take
OTHER = ["other"]  # no option of this program

# Every one of the commands has the options that the file names; a table: for each option.
REACH = {
    "engine/stages.cpp": ["run"],
    "es/allocation.cpp": ["select"],
    "es/maxmin.cpp": ["select"],
    "experiments/program/cmd_doctor.cpp": ANY,
    "experiments/program/cmd_import_keep_list.cpp": {"--format": ["export"], "": ["import-keep-list"]},
    "experiments/program/cmd_task.cpp": ["task import"],
    "experiments/program/command_inputs.cpp": {"--ids": ["generate", "logits"],
                                               "--plan": ["eval", "generate", "logits", "profile"]},
    "experiments/program/command_line.cpp": ANY,
    "experiments/program/model_doctor.cpp": ANY,
    "experiments/program/run_models.cpp": ["run"],
    "experiments/ranks/ranks.cpp": ["run", "calibrate"],
    "experiments/report/report.cpp": ["report"],
    "experiments/report/style.h": OTHER,
    "experiments/study/calibration_prompts.cpp": ["calibrate"],
    "experiments/study/combination.cpp": ["run"],
    "experiments/study/experiment.cpp": ["run"],
    "loaders/models/export.cpp": ["export"],
    "loaders/models/export_directory.cpp": ["export", "convert"],
    "loaders/models/gguf_prune.cpp": {"--merged-router": ["select"], "": ["export"]},
    "loaders/models/keep_list.cpp": {"--experts": ["import-keep-list"], "--export-keep-list": ["select"]},
    "loaders/models/model_directory.cpp": {"--out": ["convert"], "--local-dir": OTHER},
    "loaders/models/moefy.cpp": ["convert"],
    "loaders/models/mtp.cpp": ["export"],
    "loaders/models/tensor_table.cpp": ["convert"],
    "loaders/tasks/calibration_text.cpp": ["calibrate"],
    "loaders/tasks/import.cpp": ["task import"],
    "loaders/text/chat_functions.cpp": ["generate"],
    "loaders/text/chat_template.cpp": ["generate"],
    "loaders/text/chat_value.h": ["generate"],
}

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\((.*?)\)\1"|"((?:[^"\\\n]|\\.)*)"|'
                   r"'(?:[^'\\\n]|\\.)+'", re.S)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OTHERS = ("srun", "mpirun", "gguf-split")  # programs whose options are their own


def literals(text):
    """(line, value) of the string literals; neighbours are one."""
    found, end = [], None
    for token in TOKEN.finditer(text):
        raw, plain = token.group(2), token.group(3)
        if raw is None and plain is None:
            continue
        value = raw if raw is not None else plain.replace('\\"', '"')
        if found and end is not None and not text[end:token.start()].strip():
            found[-1] = (found[-1][0], found[-1][1] + value)
        else:
            found.append((text.count("\n", 0, token.start()) + 1, value))
        end = token.end()
    return found


def options_of(program, command):
    arguments = [program] + ([] if command == "eep" else command.split()) + ["--help"]
    made = subprocess.run(arguments, capture_output=True, text=True)
    if made.returncode != 0:
        sys.exit(f"{' '.join(arguments)} failed")
    return set(OPTION.findall(made.stdout)) | {"--help"}


def main():
    program = sys.argv[1]
    common = options_of(program, "eep") | {"--version"}
    listed = subprocess.run([program, "--help"], capture_output=True, text=True).stdout
    names = re.findall(r"^  ([a-z][a-z-]+) ", listed[re.search(r"(?i)commands:", listed).end():], re.M)
    commands = {name: options_of(program, name) for name in names}
    commands["task import"] = options_of(program, "task import")
    every = common.union(*commands.values())
    failures = 0
    for room in ROOMS:
        for directory, _, files in sorted(os.walk(os.path.join(ROOT, room))):
            for file in sorted(files):
                if not file.endswith((".cpp", ".h", ".cu", ".cuh")):
                    continue
                path = os.path.relpath(os.path.join(directory, file), ROOT)
                with open(os.path.join(ROOT, path), encoding="utf-8") as source:
                    text = source.read()
                own = re.match(r"experiments/program/cmd_(\w+)\.cpp", path)
                reach = REACH.get(path, [own.group(1).replace("_", "-")] if own else [])
                for line, value in literals(text):
                    for option in OPTION.finditer(value):
                        failures += check(f"{path}:{line}", value, option, reach, commands, common, every)
    if failures:
        sys.exit(f"options in messages: {failures} that the command does not have")
    print("options in messages: ok")


def check(where, value, option, reach, commands, common, every):
    name, before = option.group(), value[:option.start()]
    foreign = max((before.rfind(other) for other in OTHERS), default=-1)
    calls = [call for call in re.finditer(r"\beep ([a-z][a-z-]*)(?: (import))?|\b(calibrate) with", before)
             if (call.group(1) or call.group(3)) in commands and "`" not in before[call.end():]]
    if foreign >= 0 and (not calls or calls[-1].start() < foreign):
        return 0
    if calls:
        call = calls[-1]
        command = " ".join(word for word in call.groups() if word)
        reach = [command if command in commands else call.group(1)]
    elif isinstance(reach, dict):
        reach = reach.get(name, reach.get("", []))
    if reach == OTHER:
        wrong = []
    elif reach == ANY:
        wrong = [] if name in every else ["any command"]
    elif name in common:
        wrong = []
    else:
        wrong = [command for command in reach or ["every command"] if name not in commands.get(command, ())]
    if wrong:
        print(f"{where}: {name} is no option of {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
