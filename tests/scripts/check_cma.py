#!/usr/bin/env python3
"""Our cma and sep_cma against the package cma (pip install cma) on functions with a known optimum.

check_cma.py MINIMISE: the program cross_minimise. Both start at the same point with the same sigma and as
many samples a generation, over 20 seeds each; the medians of evaluations to the target differ by at most the
bounds below. Of 20 runs the median's standard error is about 1.25 sd / sqrt(20), under a tenth of it for
these functions: bounds of a quarter are beyond three of them, and ours may be faster by more. Exit code 77
where the package is missing.
"""
import statistics
import subprocess
import sys

SEEDS = 20
# algorithm, function, dimensions, budget, target
CASES = [
    ("cma", "sphere", 8, 4000, 1e-8),
    ("cma", "sphere", 32, 8000, 1e-8),
    ("cma", "ellipsoid", 8, 8000, 1e-6),
    ("cma", "ellipsoid", 16, 16000, 1e-6),
    ("cma", "rosenbrock", 8, 12000, 1e-6),
    ("sep_cma", "sphere", 32, 8000, 1e-8),
    ("sep_cma", "ellipsoid", 32, 16000, 1e-6),
]
SLOWER, FASTER = 1.3, 0.5


def ours(program, algorithm, function, dimensions, budget, target):
    command = [program, algorithm, function, str(dimensions), str(budget), str(target), str(SEEDS)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return [int(line) for line in lines]


def theirs(cma, algorithm, function, dimensions, budget, target):
    functions = {
        "sphere": lambda x: sum(v * v for v in x),
        "ellipsoid": lambda x: sum(10 ** (6 * i / (dimensions - 1)) * v * v for i, v in enumerate(x)),
        "rosenbrock": lambda x: sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in zip(x, x[1:])),
    }
    start = [0.0 if function == "rosenbrock" else 1.0] * dimensions
    counts = []
    for seed in range(1, SEEDS + 1):
        options = {"seed": seed, "maxfevals": budget, "ftarget": target, "verbose": -9,
                   "CMA_diagonal": algorithm == "sep_cma"}
        result = cma.CMAEvolutionStrategy(start, 0.5, options).optimize(functions[function]).result
        counts.append(result.evaluations if result.fbest <= target else -1)
    return counts


def main():
    try:
        import cma
    except ImportError:
        print("check_cma: no package cma")
        return 77
    failures = 0
    for case in CASES:
        own, other = ours(sys.argv[1], *case), theirs(cma, *case)
        found = [sum(count > 0 for count in counts) for counts in (own, other)]
        # A run that does not get there took longer than all.
        middle = [statistics.median(count if count > 0 else 10 * case[3] for count in counts)
                  for counts in (own, other)]
        ratio = middle[0] / middle[1]
        good = found[0] >= found[1] - 1 and FASTER <= ratio <= SLOWER
        failures += not good
        print(f"{case[0]:8} {case[1]:10} d {case[2]:2}: found {found[0]} and {found[1]} of {SEEDS}, median "
              "evaluations "
              f"{middle[0]:.0f} and {middle[1]:.0f}, ratio {ratio:.2f}{'' if good else '  outside'}")
    print("check_cma: ok" if failures == 0 else f"check_cma: {failures} cases outside")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
