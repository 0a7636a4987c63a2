#!/usr/bin/env python3
"""The mixture block and the merge of experts in other programs, at the shapes of B1, B3 and B4 (bench/gpu).

  gpu_moe.py [--device cuda|cpu] [--tiny] [--filter TEXT] [--csv FILE] [--seconds S]

Rows: torch's grouped_mm, a loop of products, a fused kernel in Triton of our own, the Mixtral block of
Hugging Face transformers, and for the merge a loop over tensors as the official code has it and one batched
product. Each but the block of transformers, which has its own router, is first compared with an f32
reference. What is not installed or not usable on the device is named and left out. TRITON_INTERPRET=1 runs
the Triton kernel on a CPU.
"""
import argparse
import csv
import dataclasses
import os
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("gpu_moe: torch is not installed")
    sys.exit(77)
try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None


@dataclasses.dataclass
class Shape:
    name: str
    hidden: int
    intermediate: int
    experts: int
    top_k: int
    tokens: int


SHAPES = [
    Shape("Mixtral-8x7B n/2", 4096, 14336, 4, 2, 32768),
    Shape("Mixtral-8x7B", 4096, 14336, 8, 2, 32768),
    Shape("Qwen1.5-MoE-A2.7B n/2", 2048, 1408, 30, 4, 32768),
    Shape("Qwen3-30B-A3B", 2048, 768, 128, 8, 32768),
    Shape("Qwen3-30B-A3B n/2", 2048, 768, 64, 8, 32768),
]
TINY = [Shape("tiny", 64, 48, 5, 2, 37), Shape("tiny, 8 experts", 32, 16, 8, 3, 20)]


class Block:
    """Weights [experts, ...] in bf16, rows, and the routing of each token; slots sorted by expert."""

    def __init__(self, shape, device):
        generator = torch.Generator(device=device).manual_seed(20)

        def normal(*extents, scale=1.0):
            return (torch.randn(*extents, generator=generator, device=device) * scale).to(torch.bfloat16)

        self.shape = shape
        self.gate_up = normal(shape.experts, 2 * shape.intermediate, shape.hidden, scale=0.02)
        self.down = normal(shape.experts, shape.hidden, shape.intermediate, scale=0.02)
        self.x = normal(shape.tokens, shape.hidden)
        logits = torch.randn(shape.tokens, shape.experts, generator=generator, device=device)
        weight, self.expert = logits.softmax(-1).topk(shape.top_k)
        self.weight = weight / weight.sum(-1, keepdim=True)
        flat = self.expert.flatten()
        self.order = flat.argsort(stable=True)
        self.token = self.order // shape.top_k
        self.offset = torch.bincount(flat, minlength=shape.experts).cumsum(0).to(torch.int32)

    def flops(self):
        return 6 * self.shape.tokens * self.shape.top_k * self.shape.hidden * self.shape.intermediate

    def combine(self, rows):
        """Rows in sorted order back to tokens, in f32."""
        slots = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
        slots[self.order] = rows
        slots = slots.view(self.shape.tokens, self.shape.top_k, -1).float()
        return (slots * self.weight[..., None]).sum(1)

    def reference(self, tokens):
        """The first tokens, in f32, expert by expert."""
        out = torch.zeros(tokens, self.shape.hidden, device=self.x.device)
        x = self.x[:tokens].float()
        for slot in range(self.shape.top_k):
            for expert in range(self.shape.experts):
                rows = (self.expert[:tokens, slot] == expert).nonzero().flatten()
                gate, up = (x[rows] @ self.gate_up[expert].float().T).chunk(2, -1)
                y = (F.silu(gate) * up) @ self.down[expert].float().T
                out[rows] += self.weight[rows, slot, None] * y
        return out


def grouped_mm(block):
    product = getattr(F, "grouped_mm", None) or torch._grouped_mm

    def run():
        both = product(block.x[block.token], block.gate_up.transpose(1, 2), offs=block.offset)
        gate, up = both.chunk(2, -1)
        return block.combine(product(F.silu(gate) * up, block.down.transpose(1, 2), offs=block.offset))

    return run


def expert_loop(block):
    """A product an expert, as Hugging Face's eager experts and our cuBLAS baseline run."""
    bounds = [0] + block.offset.tolist()

    def run():
        sorted_x = block.x[block.token]
        out = torch.empty(len(block.order), block.shape.hidden, dtype=torch.bfloat16, device=block.x.device)
        for expert, (begin, end) in enumerate(zip(bounds, bounds[1:])):
            gate, up = (sorted_x[begin:end] @ block.gate_up[expert].T).chunk(2, -1)
            out[begin:end] = (F.silu(gate) * up) @ block.down[expert].T
        return block.combine(out)

    return run


if triton is not None:

    @triton.jit
    def grouped_kernel(x, w, out, row_of, tile_expert, tile_begin, tile_end, n, k,
                       SWIGLU: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                       BLOCK_K: tl.constexpr):
        """out[p, :n] = x[row_of[p]] w[expert]^T for the positions of one tile; SWIGLU: w holds gate, then
        up."""
        tile, column = tl.program_id(1), tl.program_id(0)
        expert = tl.load(tile_expert + tile)
        begin, end = tl.load(tile_begin + tile), tl.load(tile_end + tile)
        position = begin + tl.arange(0, BLOCK_M)
        inside = position < end
        rows = tl.load(row_of + position, mask=inside, other=0).to(tl.int64)
        columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
        depth = tl.arange(0, BLOCK_K)
        here = columns < n
        height = n * 2 if SWIGLU else n
        first = w + expert.to(tl.int64) * height * k + columns[None, :].to(tl.int64) * k
        total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        other = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for at in range(0, k, BLOCK_K):
            in_k = at + depth < k
            a = tl.load(x + rows[:, None] * k + at + depth[None, :], mask=inside[:, None] & in_k[None, :],
                        other=0.0)
            b = tl.load(first + at + depth[:, None], mask=here[None, :] & in_k[:, None], other=0.0)
            total = tl.dot(a, b, total)
            if SWIGLU:
                c = tl.load(first + n.to(tl.int64) * k + at + depth[:, None],
                            mask=here[None, :] & in_k[:, None], other=0.0)
                other = tl.dot(a, c, other)
        if SWIGLU:
            total = total / (1.0 + tl.exp(-total)) * other
        tl.store(out + position[:, None].to(tl.int64) * n + columns[None, :], total.to(out.dtype.element_ty),
                 mask=inside[:, None] & here[None, :])


def fused_triton(block):
    block_m, block_n, block_k = 128, 128, 64
    bounds = [0] + block.offset.tolist()
    tiles = [(expert, at, end) for expert, (begin, end) in enumerate(zip(bounds, bounds[1:]))
             for at in range(begin, end, block_m)]
    device = block.x.device
    experts, begins, ends = (torch.tensor(column, dtype=torch.int32, device=device) for column in zip(*tiles))
    slots = len(block.order)
    hidden, intermediate = block.shape.hidden, block.shape.intermediate
    # Triton's interpreter does not multiply bf16: there the same kernel runs on f32
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    x, gate_up, down = (tensor.to(dtype) for tensor in (block.x, block.gate_up, block.down))
    middle = torch.empty(slots, intermediate, dtype=dtype, device=device)
    out = torch.empty(slots, hidden, dtype=dtype, device=device)
    same = torch.arange(slots, dtype=torch.int32, device=device)
    token = block.token.to(torch.int32)

    def run():
        for a, w, y, rows, n, k, swiglu in ((x, gate_up, middle, token, intermediate, hidden, True),
                                            (middle, down, out, same, hidden, intermediate, False)):
            grouped_kernel[(triton.cdiv(n, block_n), len(tiles))](
                a, w, y, rows, experts, begins, ends, n, k, SWIGLU=swiglu, BLOCK_M=block_m, BLOCK_N=block_n,
                BLOCK_K=block_k, num_warps=8, num_stages=3)
        return block.combine(out)

    return run


def transformers_block(block):
    """The sparse block of transformers' Mixtral with the same weights: router included, so that its routing
    is its own."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    shape = block.shape
    config = MixtralConfig(hidden_size=shape.hidden, intermediate_size=shape.intermediate,
                           num_local_experts=shape.experts, num_experts_per_tok=shape.top_k)
    config._experts_implementation = "grouped_mm"
    with torch.device(block.x.device):
        module = MixtralSparseMoeBlock(config).to(torch.bfloat16).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.02)

    def run():
        with torch.no_grad():
            return module(block.x[None])

    return run


def merge_loop(base, coefficient):
    """As the official code merges: a product rounded, then a sum rounded, for each base expert."""
    def run():
        out = []
        for row in coefficient.tolist():
            merged = base[0] * row[0]
            for expert in range(1, len(row)):
                if row[expert] != 0:
                    merged += base[expert] * row[expert]
            out.append(merged)
        return out

    return run


def merge_product(base, coefficient):
    flat = base.view(base.shape[0], -1)
    return lambda: coefficient.to(base.dtype) @ flat


class Bench:
    def __init__(self, options):
        self.options = options
        self.device = torch.device(options.device)
        self.rows = []
        # 256 MB, more than an L2 cache, overwritten before every sample
        self.evict = torch.empty(1 << (10 if options.tiny else 28), dtype=torch.int8, device=self.device)

    def seconds(self, run):
        self.evict.zero_()
        if self.device.type != "cuda":
            begin = time.perf_counter()
            run()
            return time.perf_counter() - begin
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) * 1e-3

    def time(self, name, shape, make, flops=0, gigabytes=0, check=None):
        if self.options.filter not in f"{name} {shape}":
            return
        try:
            run = make()
            result = run()
            error = check(result) if check else float("nan")
        except Exception as problem:  # a peer that cannot run here is a line of the report, not the end of it
            reason = (str(problem) or type(problem).__name__).splitlines()[0][:120]
            print(f"| {name} | {shape} | not run: {reason} |", flush=True)
            return
        if error > 2e-2:
            sys.exit(f"gpu_moe: {name}, {shape}: relative error {error:.3g} (expected at most 0.02)")
        samples, begin = [], time.perf_counter()
        while len(samples) < (1 if self.options.tiny else 5) or (
                len(samples) < 20 and time.perf_counter() - begin < self.options.seconds
                and not self.options.tiny):
            samples.append(self.seconds(run))
        typical = statistics.median(samples)
        self.rows.append([name, shape, f"{typical * 1e6:.1f}", f"{flops / typical / 1e12:.4g}",
                          f"{gigabytes / typical:.4g}", f"{error:.3g}"])
        print("| " + " | ".join(self.rows[-1]) + " |", flush=True)

    def block(self, shape):
        if self.options.filter and self.options.filter not in shape.name and not any(
                self.options.filter in name for name in ("grouped_mm", "loop", "Triton", "transformers")):
            return
        block = Block(shape, self.device)
        tokens = min(64, shape.tokens)
        expected = block.reference(tokens)

        def check(result):
            return float((result[:tokens].float() - expected).norm() / expected.norm())

        name = f"{shape.name}, {shape.tokens} tokens, top {shape.top_k} of {shape.experts}"
        self.time("torch grouped_mm", name, lambda: grouped_mm(block), block.flops(), check=check)
        self.time("torch loop over experts", name, lambda: expert_loop(block), block.flops(), check=check)
        if triton is not None and (self.device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"):
            self.time("Triton fused", name, lambda: fused_triton(block), block.flops(), check=check)
        elif shape is (TINY if self.options.tiny else SHAPES)[0]:
            print("| Triton fused | | not run: it needs triton and a GPU |")
        self.time("transformers block", name, lambda: transformers_block(block), block.flops())

    def merge(self, name, experts, rows, elements):
        base = torch.randn(experts, elements, device=self.device).to(torch.bfloat16)
        coefficient = torch.rand(rows, experts, device=self.device)
        gigabytes = 2e-9 * elements * (experts + rows)
        exact = coefficient[0].double().cpu() @ base[:, :1000].double().cpu()

        def check(result):
            return float((result[0][:1000].double().cpu() - exact).norm() / exact.norm())

        self.time("merge, loop of the official code", name, lambda: merge_loop(base, coefficient), 0,
                  gigabytes, check)
        self.time("merge, one product", name, lambda: merge_product(base, coefficient), 0, gigabytes, check)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true",
                        help="small extents: the code runs, times mean nothing")
    parser.add_argument("--filter", default="")
    parser.add_argument("--csv", default="")
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    bench = Bench(options)
    where = torch.cuda.get_device_name() if bench.device.type == "cuda" else "cpu"
    print(f"torch {torch.__version__} on {where}\n\n| program | shape | median us | TFLOP/s | GB/s | "
          "relative error |")
    print("|---|---|---|---|---|---|")
    for shape in TINY if options.tiny else SHAPES:
        bench.block(shape)
    if options.tiny:
        bench.merge("5 experts to 2", 5, 2, 3000)
    else:
        bench.merge("Mixtral-8x7B, 8 to 4, a layer", 8, 4, 3 * 4096 * 14336)
        bench.merge("Qwen3-30B-A3B, 128 to 64, a layer", 128, 64, 3 * 2048 * 768)
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["program", "shape", "median_us", "tflop_per_s", "gb_per_s", "relative_error"])
            writer.writerows(bench.rows)


main()
