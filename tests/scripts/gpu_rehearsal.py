#!/usr/bin/env python3
"""bench/gpu_check.sh, gpu_bundle.sh, gpu_run.sh and gpu_file.sh from end to end without a GPU: small extents
on the host executor, stand-ins for the driver and for NVIDIA's tools, no library of the project's packages
but those in the bundle.

gpu_rehearsal.py BUILD: has eep, bench_device, bench_model and tests/tests_kernels
"""
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
BUILD = pathlib.Path(sys.argv[1]).resolve()
QUERY = ("name, driver_version, compute_cap, memory.total [MiB], clocks.current.sm [MHz], clocks.max.sm "
         "[MHz], "
         "clocks.current.memory [MHz], power.limit [W]\nStand In 80GB, 0.0, 9.0, 1 MiB, 1 MHz, 1 MHz, 1 "
         "MHz, 1 W")
# what a machine has without any of the project's packages: glibc, and gcc's run time
SYSTEM = re.compile(r"(linux-vdso|ld-linux-x86-64|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+))\.so")
# a tool that runs the program behind its options
RUNS = 'while [ $# -gt 0 ] && [ ! -x "$1" ]; do shift; done\nexec "$@"'


def check(good, what):
    if not good:
        sys.exit(f"gpu_rehearsal: {what}")


def stand_in(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run(scratch, *command):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EEP_", "LD_"))}
    environment["PATH"] = f"{scratch / 'bin'}:{environment['PATH']}"
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, env=environment,
                          timeout=500)


def steps_of(output):
    steps = [json.loads(line) for line in (output / "steps.jsonl").read_text().splitlines()]
    return {step["step"]: step for step in steps}


def check_no_gpu(scratch):
    stand_in(scratch / "bin/nvidia-smi", "exit 9")
    done = run(scratch, BENCH / "gpu_check.sh", BUILD)
    check((done.returncode, done.stdout) == (77, "gpu_check: no GPU or driver here\n"),
          f"without a GPU: {done}")


def check_whole(scratch):
    """Everything, as on one machine with the packages."""
    stand_in(scratch / "bin/nvidia-smi", f'case "$*" in *query*) echo "{QUERY}" ;; *) echo "GPU 0" ;; esac')
    for name in ("nvcc", "cmake"):
        stand_in(scratch / "bin" / name, "exit 0")
    for name in ("compute-sanitizer", "ncu"):
        stand_in(scratch / "bin" / name, RUNS)
    results = scratch / "results"
    results.mkdir()
    (results / "PENDING.md").write_text((BENCH / "results/PENDING.md").read_text())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(scratch, BENCH / "gpu_check.sh", BUILD, "--tiny", "--device", "simt", "--results", results)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    check(done.returncode == 0, f"gpu_check.sh ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    check(spent < 60, f"the whole took {spent:.0f} s of processors")
    folder = results / "stand-in-80gb"
    page = (folder / "README.md").read_text()
    check("## What failed\n\nNothing." in page, "the page names failures")
    for part in ("| B3 | expert_ffn (mma) |", "| B1 |", "| B6 |", "## Models", "| memcheck | ok |",
                 "| profile: grouped experts | ok |"):
        check(part in page, f"the page lacks {part}")
    steps = steps_of(folder)
    check(len(steps) > 40 and all(step["rc"] in (0, 77) for step in steps.values()), f"steps: {steps}")
    check(any(step["rc"] == 0 and "two runs have the same archive" in step["last"]
              for step in steps.values()), "no search")
    rows = [line for line in (results / "PENDING.md").read_text().splitlines() if line.startswith("| ")
            and "`" in line]
    open_rows = [row for row in rows if not row.endswith("ok |")]
    # twins, other programs
    check(len(open_rows) <= 2 and "Stand In 80GB" in rows[0], f"PENDING.md: {open_rows}")


def check_bundle(scratch):
    archive = scratch / "bundle.tgz"
    done = run(scratch, BENCH / "gpu_bundle.sh", "--simt", BUILD, archive)
    check(done.returncode == 0 and "needs GLIBC_2." in done.stdout, f"gpu_bundle.sh: {done}")
    check(archive.stat().st_size < 40e6, "the bundle is larger than 40 MB")
    bundle = scratch / "bundle"
    bundle.mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", bundle], check=True)
    for program in ("eep", "tests_kernels", "bench_device", "bench_model"):
        for line in run(scratch, "ldd", bundle / program).stdout.splitlines():
            own = f" => {bundle}/lib/" in line
            check(own or SYSTEM.search(line.split("=>")[0]),
                  f"{program} would load {line.strip()} from the machine")
    return bundle


def check_cut_off(scratch, bundle):
    output = scratch / "short"
    begin = time.monotonic()
    done = run(scratch, BENCH / "gpu_run.sh", bundle, output, 7, "--tiny", "--device", "simt")
    check(done.returncode == 0 and time.monotonic() - begin < 20, f"a total of 7 s is not kept: {done}")
    steps = steps_of(output)
    check(steps["environment"]["rc"] == 0, "the environment is not the first step")
    check(steps["B3: grouped experts"]["last"] == "skipped: no time left", "steps run beyond the total")
    check(len(list(output.iterdir())) <= 8, "more than eight files")


def check_red(scratch, bundle):
    (bundle / "tests_kernels").rename(bundle / "real")
    stand_in(bundle / "tests_kernels",
             f'case "$*" in *dispatch*) echo "x.cpp:1: ERROR: CHECK( a == b ) is NOT correct!"; exit 1 ;; '
                                       f'*) exec "{bundle}/real" "$@" ;; esac')
    output = scratch / "red"
    done = run(scratch, BENCH / "gpu_run.sh", bundle, output, 100, "--tiny", "--device", "simt", "--after",
               "red", "--case", "gpu dispatch*")
    check(done.returncode == 0, "a failure changes the exit code")
    steps = steps_of(output)
    check(steps["memcheck of the failing cases"]["rc"] == 1, f"after red: {steps}")
    check("x.cpp:1: ERROR: CHECK( a == b )" in done.stdout, "the end of the log does not show what failed")


def check_names(scratch):
    """What small extents leave out: filters name cases, configurations and options are there."""
    script = (BENCH / "gpu_run.sh").read_text()
    cases = run(scratch, BUILD / "bench_device", "--device", "simt", "--list").stdout.splitlines()
    check(len(cases) > 100, "bench_device --list names too few cases")
    for text in re.findall(r"'(B\d [^']*)'", script):
        for name in text.split("|"):
            check(name == "B2 cublasLt" or any(name in case for case in cases),
                  f"no case has the name {name}")
    options = (BENCH / "bench_model.cpp").read_text() + (ROOT / "experiments/program/options.cpp").read_text()
    models = re.findall(r"log model (\S+) (.*)", script)
    check(len(models) >= 5, "gpu_run.sh runs no models")
    for config, arguments in models:
        check((BENCH / f"configs/{config}.json").exists(), f"there is no configuration {config}")
        for option in re.findall(r"--[a-z]+", arguments):
            check(f'"{option}"' in options, f"bench_model has no {option}")


with tempfile.TemporaryDirectory() as directory:
    SCRATCH = pathlib.Path(directory)
    (SCRATCH / "bin").mkdir()
    check_no_gpu(SCRATCH)
    check_names(SCRATCH)
    check_whole(SCRATCH)
    UNPACKED = check_bundle(SCRATCH)
    check_cut_off(SCRATCH, UNPACKED)
    check_red(SCRATCH, UNPACKED)
print("gpu_rehearsal: ok")
