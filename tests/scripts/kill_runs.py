#!/usr/bin/env python3
"""Runs that are killed at random moments of every phase, alone and on two ranks, and gone on with: the files
of a run that nothing has interrupted, byte for byte.

kill_runs.py EEP [--count N] [--seed S]    N moments, one phase after the other; two ranks where EEP was built
                                           with MPI
"""
import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERIMENT = f"""name: kills
model: {{path: {ROOT}/experiments/demo/mixtral}}
task: {{name: sort, train: {{limit: 48}}, dev: {{limit: 24}}, test: {{limit: 48}}}}
plan: {{experts: 4, groups: 2}}
search:
  population: 5
  dev_count: 3
  prune: {{evaluations: 14, initial: 8}}
  merge: {{evaluations: 18}}
baselines: [full, random, frequency, reap, naee, hope]
random_draws: 3
export: {{format: hf}}
"""
PHASES = ["start", "calibration", "baselines", "search", "dev", "test", "export"]
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
# What holds times, places and numbers of ranks; result.json is compared by its scores.
TIMED = ("checkpoints/", "figures/", "metrics.jsonl", "manifest.json", "log.txt", "table.txt", "card.md",
         "report.html", "config.resolved.yaml", ".lock", "result.json")
SCORES = ("name", "train", "dev", "test", "evaluations", "plan")
LONGEST = 300  # seconds of one start


def phase_of(run):
    """Where a run is, by its files."""
    log = (run / "log.txt").read_text(errors="replace") if (run / "log.txt").exists() else ""
    if (run / "result.json").exists():
        return "export"
    if "final evaluation on the test" in log:
        return "test"
    if "choosing on the dev" in log:
        return "dev"
    if (run / "metrics.jsonl").exists():
        return "search"
    if any((run / "checkpoints").glob("calibration-*.json")):
        return "baselines"
    return "calibration" if "calibration" in log else "start"


def files_of(run):
    files = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_file() and not name.startswith(TIMED):
            files[name] = path.read_bytes()
    for name in ("report.html", "card.md", "table.txt"):  # they hold times and places
        files[name] = (run / name).exists()
    result = json.loads((run / "result.json").read_text())
    files["result.json"] = json.dumps([[method[key] for key in SCORES]
                                       for method in result["methods"]]).encode()
    for path in (run / "checkpoints").glob("calibration-*.json"):
        kept = json.loads(path.read_text())
        del kept["seconds"]
        files[path.name] = json.dumps(kept).encode()
    return files


def processes_of(run):
    """By rank; a run without ranks has rank 0 alone."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            variables = dict(word.partition(b"=")[::2]
                             for word in (entry / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if words[0] == str(EEP).encode() and str(run).encode() in words:
            found[int(variables.get(b"OMPI_COMM_WORLD_RANK", 0))] = int(entry.name)
    return found


class Start:
    """One start of the run: the same command always."""

    def __init__(self, run, ranks):
        launcher = ["mpirun", "--oversubscribe", "--allow-run-as-root", "--bind-to", "none", "-n", str(ranks)]
        command = [EEP, "run", run.parent / "kills.yaml", "--output", run, "--resume-if-there", "--threads",
                   "1"]
        environment = dict(os.environ, EEP_TASKS=str(ROOT / "experiments/tasks"), EEP_RANK_TIMEOUT="5")
        self.run, self.ranks = run, ranks
        self.words = tempfile.TemporaryFile()
        self.process = subprocess.Popen(list(map(str, (launcher if ranks > 1 else []) + command)),
                                        env=environment, stdout=subprocess.DEVNULL, stderr=self.words,
                                        stdin=subprocess.DEVNULL)

    def ended(self):
        return self.process.poll() is not None

    def kill(self, rank, number):
        """Whether there was something to kill."""
        pid = self.process.pid if self.ranks == 1 else processes_of(self.run).get(rank)
        if self.ended() or pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self):
        try:
            code = self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            self.process.kill()
            for pid in processes_of(self.run).values():
                os.kill(pid, signal.SIGKILL)
            sys.exit(f"kill_runs: a start has not ended after {LONGEST} s")
        self.words.seek(0)
        return code, self.words.read().decode(errors="replace")


def finish(run, ranks):
    """Goes on to the end. Ranks whose launcher has been killed leave by themselves, and the lock with
    them."""
    for _ in range(100):
        code, words = Start(run, ranks).wait()
        if "another run is using" not in words:
            break
        time.sleep(0.1)
    if code != 0:
        sys.exit(f"kill_runs: going on with {ranks} ranks ended with {code}:\n{words}")


def phase_times(run):
    """When each phase begins and how long it is, of a run from its beginning, in seconds."""
    start, seen = Start(run, 1), {}
    begun = time.monotonic()
    while not start.ended():
        seen.setdefault(phase_of(run), time.monotonic() - begun)
        time.sleep(0.002)
    code, words = start.wait()
    if code != 0:
        sys.exit(f"kill_runs: the run that nobody interrupts ended with {code}:\n{words}")
    seen["end"] = time.monotonic() - begun
    names = [name for name in PHASES if name in seen] + ["end"]
    return {name: seen[after] - seen[name] for name, after in zip(names, names[1:])}


def kill_in(run, phase, seconds, ranks, rank, number):
    """Starts, and kills so many seconds into the phase, or into what has come behind it. The phase that was
    hit, or None where the run was over before."""
    start, begun = Start(run, ranks), None
    while not start.ended():
        if begun is None and PHASES.index(phase_of(run)) >= PHASES.index(phase):
            begun = time.monotonic()
        if begun is not None and time.monotonic() - begun >= seconds:
            break
        time.sleep(0.001)
    hit = phase_of(run) if start.kill(rank, number) else None
    code, words = start.wait()
    if hit is not None and number == signal.SIGKILL and code == 0 and not (run / "result.json").exists():
        sys.exit(f"kill_runs: a killed run ended with 0 and has no result:\n{words}")
    # a signal may come before there is anything to leave; one to a rank may find the others done
    fine = (0, 130, -number, 128 + number) if phase_of(run) in ("start", "export") else (0, 130)
    if hit is not None and number != signal.SIGKILL and code not in fine:
        sys.exit(f"kill_runs: signal {number} to rank {rank} of {ranks} ended a run with {code}:\n{words}")
    return hit


def has_ranks():
    told = subprocess.run([str(EEP), "doctor", "--json"], capture_output=True, text=True, check=True)
    return shutil.which("mpirun") is not None and json.loads(told.stdout)["disabled"]["mpi"] is None


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("eep", type=pathlib.Path)
    words.add_argument("--count", type=int, default=5)
    words.add_argument("--seed", type=int, default=1)
    arguments = words.parse_args()
    global EEP
    EEP = arguments.eep.resolve()
    chance, most = random.Random(arguments.seed), 2 if has_ranks() else 1
    hits, kinds, missed = collections.Counter(), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "kills.yaml").write_text(EXPERIMENT)
        times = phase_times(scratch / "whole")
        expected = files_of(scratch / "whole")
        for moment in range(arguments.count):
            run = scratch / f"run{moment}"
            first, second = PHASES[moment % len(PHASES)], chance.choice([None, None, *PHASES])
            for phase in filter(None, (first, second)):
                ranks = chance.choice([1, most])
                rank = chance.randrange(ranks)
                number = chance.choice([signal.SIGKILL, chance.choice(SIGNALS)])
                seconds = chance.random() * times.get(phase, 0)
                hit = kill_in(run, phase, seconds, ranks, rank, number)
                while hit is None and phase is first and seconds > 1e-3:  # the machine is faster now
                    shutil.rmtree(run)
                    seconds /= 2
                    hit = kill_in(run, phase, seconds, ranks, rank, number)
                missed += hit is None
                if hit is not None:
                    hits[hit] += 1
                    where = "alone" if ranks == 1 else f"to rank {rank} of 2"
                    kinds[f"{signal.Signals(number).name} {where}"] += 1
            finish(run, chance.choice([1, most, most + 1 if most > 1 else 1]))
            found = files_of(run)
            if found != expected:
                differing = [name for name in sorted({*found, *expected})
                             if found.get(name) != expected.get(name)]
                sys.exit(f"kill_runs: moment {moment} (seed {arguments.seed}): other bytes in "
                         f"{', '.join(differing)}")
            shutil.rmtree(run)
    print(f"{arguments.count} runs killed {sum(hits.values())} times ({missed} were over before), bytes as "
          "if nothing had been")
    print("  by phase:", ", ".join(f"{name} {hits[name]}" for name in PHASES if hits[name]))
    print("  by kind:", ", ".join(f"{name} {count}" for name, count in sorted(kinds.items())))


main()
