#!/usr/bin/env python3
"""Registers, static shared memory and stack of every kernel, against bench/ptxas_budget.txt: none may have a
stack frame (what does not fit in registers, spills first of all, lies there), and none may need more than the
budget says.

ptxas_budget.py LIBRARY NVCC_VERSION [--update]: the numbers are read from the machine code in the library
that nvcc built (uncompressed fatbins, cmake/cuda.cmake). Registers are compared only with the release of nvcc
that the budget was written with; the stack always.
"""
import pathlib
import re
import struct
import subprocess
import sys

BUDGET = pathlib.Path(__file__).resolve().parents[2] / "bench" / "ptxas_budget.txt"
MACHINE_CUDA = 190
REGISTERS, FRAME = 0x2F, 0x11  # attributes of .nv.info: (symbol, number)


def cubins(data):
    """Every ELF image of CUDA machine code in data."""
    at = data.find(b"\x7fELF")
    while at >= 0:
        if data[at + 4] == 2 and struct.unpack_from("<H", data, at + 18)[0] == MACHINE_CUDA:
            yield memoryview(data)[at:]
        at = data.find(b"\x7fELF", at + 4)


def text(image, at):
    end = at
    while image[end] != 0:
        end += 1
    return bytes(image[at:end]).decode()


def attributes(info):
    """(attribute, symbol, number) of .nv.info."""
    at = 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        if form != 4:
            at += 4
            continue
        if size == 8:
            yield (attribute, *struct.unpack_from("<II", info, at + 4))
        at += 4 + size


def kernels(image):
    """(target, mangled name, registers, shared bytes, stack bytes) of each kernel of one image."""
    flags, = struct.unpack_from("<I", image, 48)
    start, = struct.unpack_from("<Q", image, 40)
    size, count, names = struct.unpack_from("<HHH", image, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, start + i * size) for i in range(count)]
    named = {text(image, sections[names][4] + section[0]): section for section in sections}
    symbols, strings = named[".symtab"][4], named[".strtab"][4]
    numbers = {}
    info = named[".nv.info"]
    for attribute, symbol, number in attributes(image[info[4]:info[4] + info[5]]):
        name = text(image, strings + struct.unpack_from("<I", image, symbols + 24 * symbol)[0])
        numbers.setdefault(name, {})[attribute] = number
    for name, found in numbers.items():
        if ".nv.constant0." + name in named:  # a kernel, not a function that it calls
            target, shared = flags >> 8 & 0xff, named.get(".nv.shared." + name, [0] * 6)[5]
            if target >= 90:  # 1024 bytes of every block are the system's
                shared = max(0, shared - 1024)
            yield f"sm_{target}", name, found[REGISTERS], shared, found.get(FRAME, 0)


def short(mangled, name):
    """file:kernel<arguments>."""
    found = re.search(r"_GLOBAL__N__[0-9a-f]+_\d+_([a-z_0-9]+)_cu_", mangled)
    file = found.group(1) if found else "header"  # of a kernel that a header has, and no file for itself
    name = re.sub(r"eep::gpu_cuda::|eep::|\(anonymous namespace\)::|^void | ", "", name)
    return file + ":" + re.sub(r"(<.*>)?\((?!\w+\)\d).*", r"\1", name)


def measure(library):
    found = sorted({kernel for image in cubins(pathlib.Path(library).read_bytes())
                    for kernel in kernels(image)})
    names = subprocess.run(["c++filt"], input="\n".join(kernel[1] for kernel in found), capture_output=True,
                           text=True,
                           check=True).stdout.splitlines()
    return {(kernel[0], short(kernel[1], name)): kernel[2:] for kernel, name in zip(found, names)}


def main():
    measured = measure(sys.argv[1])
    release = ".".join(sys.argv[2].split(".")[:2])
    if not measured:
        sys.exit("ptxas_budget: no machine code was found")
    if "--update" in sys.argv:
        lines = [
            f"# target, kernel, registers, bytes of static shared memory, bytes of stack; nvcc {release}"]
        lines += [" ".join(map(str, (*key, *measured[key]))) for key in sorted(measured)]
        BUDGET.write_text("\n".join(lines) + "\n")
        print(f"ptxas_budget: wrote {len(measured)} kernels")
        return
    lines = BUDGET.read_text().splitlines()
    same = lines[0].endswith(f"nvcc {release}")
    budget = {tuple(line.split()[:2]): tuple(map(int, line.split()[2:])) for line in lines[1:]}
    bad = []
    for key, (registers, shared, stack) in measured.items():
        name = " ".join(key)
        if stack > 0:
            bad.append(f"{name}: {stack} bytes of stack (expected 0)")
        if key not in budget:
            bad.append(f"{name}: not in the budget")
            continue
        if same and registers > budget[key][0]:
            bad.append(f"{name}: {registers} registers (expected at most {budget[key][0]})")
        if shared > budget[key][1]:
            bad.append(f"{name}: {shared} bytes of static shared memory (expected at most {budget[key][1]})")
    bad += [f"{' '.join(key)}: in the budget, not in the library" for key in budget if key not in measured]
    for line in bad:
        print("ptxas_budget:", line)
    if bad:
        sys.exit("ptxas_budget: --update writes a new budget; the commit says why")
    print(f"ptxas_budget: {len(measured)} kernels, none has a stack frame, "
          + ("none needs more registers than before" if same
             else f"registers are not compared: nvcc {release}"))


main()
