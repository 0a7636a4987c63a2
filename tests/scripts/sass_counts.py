#!/usr/bin/env python3
"""What the host executor cannot see, counted in the machine code for sm_90a: tensor-core and TMA instructions
are the ones that were meant, vector stores are whole, nothing lies in local memory.

sass_counts.py LIBRARY

Needs cuobjdump and nvdisasm: on the path, or of PyPI's packages nvidia-cuda-cuobjdump and
nvidia-cuda-nvdisasm in python3; 77 without them.
"""
import collections
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

# (kernel, instruction, least, most): a regular expression, the beginning of an opcode with all its modifiers.
RULES = [
    (r".*", r"LDL|STL", 0, 0),  # spills, and arrays with an index of run time
    # the four of a step: more are products that wait for one another
    (r"ffn_wgmma<|gemm_wgmma<", r"HGMMA\.64x", 4, 4),
    (r"ffn_wgmma<|gemm_wgmma<WgmmaTileOf<256>", r"UTMALDG\.3D", 2, 2),
    (r"ffn_wgmma<|gemm_wgmma<", r"LDGSTS\.E\.BYPASS\.128", 8, 99),  # rows of a
    (r"ffn_wgmma<|gemm_wgmma<", r"HMMA", 0, 0),
    (r"ffn_wgmma<true", r"STG\.E\.128", 8, 8),  # h
    (r"dense<Wide|gate_up<Wide|down<Wide", r"HMMA\.16816", 32, 32),
    (r"dense<|gate_up<|down<", r"STS\.128", 2, 99),  # rows of a
    (r"dense<|gate_up<|down<", r"STS(?!\.128)", 0, 0),
    (r"merge_few<|merge_many<", r"STG\.E\.128", 4, 99),
    (r"round_pieces<", r"STG\.E\.128", 1, 1),
    (r"attend_wide<|attend_few<", r"HMMA\.16816", 48, 999),
    (r"attend_wide<", r"STS\.128", 2, 999),  # split keys and values
    (r"merge_resident<", r"HMMA\.16816", 64, 128),  # a row block of 64 columns
    (r"merge_resident<", r"LDSM\.16\.MT88\.4", 16, 32),  # base experts, once
]


def tool(name):
    found = shutil.which(name)
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations if package and not found else []:
        found = next((str(path) for path in pathlib.Path(folder).glob(f"*/bin/{name}")), found)
    return found


def opcodes(library, cuobjdump, nvdisasm):
    """Opcodes of each kernel for sm_90a, counted."""
    environment = dict(os.environ, PATH=str(pathlib.Path(nvdisasm).parent) + os.pathsep + os.environ["PATH"])
    text = subprocess.run([cuobjdump, "-sass", "-arch", "sm_90a", library], capture_output=True, text=True,
                          check=True, env=environment).stdout
    found, counts = {}, None
    for line in text.splitlines():
        if name := re.match(r"\s+Function : (\S+)", line):
            counts = found.setdefault(name.group(1), collections.Counter())
        elif counts is not None and (code := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ "
                                                      r")?([A-Z][A-Za-z0-9_.]+)", line)):
            counts[code.group(1)] += 1
    return found


def short(names):
    """kernel<arguments> of mangled names."""
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                           check=True).stdout
    return [re.sub(r"eep::gpu_cuda::|\(anonymous namespace\)::|^void ", "", line).split("(")[0]
            for line in plain.splitlines()]


def main():
    cuobjdump, nvdisasm = tool("cuobjdump"), tool("nvdisasm")
    if not cuobjdump or not nvdisasm:
        print("sass_counts: skipped, neither the toolkit nor python3 has cuobjdump and nvdisasm")
        sys.exit(77)
    kernels = opcodes(sys.argv[1], cuobjdump, nvdisasm)
    named = dict(zip(short(kernels), kernels.values()))
    wrong = [] if named else ["no kernel for sm_90a in " + sys.argv[1]]
    for pattern, instruction, least, most in RULES:
        matching = [name for name in named if re.match(pattern, name)]
        if not matching:
            wrong.append(f"no kernel is called {pattern}")
        for name in matching:
            count = sum(number for code, number in named[name].items() if re.match(instruction, code))
            if not least <= count <= most:
                wrong.append(f"{name}: {instruction} (expected {least} to {most}, got {count})")
    print("\n".join(f"sass_counts: {line}" for line in wrong)
          or f"sass_counts: {len(named)} kernels as they were meant")
    sys.exit(1 if wrong else 0)


main()
