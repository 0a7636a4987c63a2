"""A plan applied to a transformers model, in plain PyTorch: the reference that the engine's plans are
compared with.

Per group of layers W_RM and W_EM are [kept, experts]. With z [tokens, experts] the router's logits in f32:

    logits          g = softmax(W_RM z) over the kept rows, the top-k chosen by W_RM z
    probabilities   g = W_RM softmax(z) over all experts, the top-k chosen by g

Ties go to the lower row. Where the family renormalises, the selected weights are divided by their sum; a sum
below 1e-6 in size gives 1/k each. Merged weights are sum_i W_EM[j, i] W_i by f32 fused multiply-adds in
ascending i, rounded once to the checkpoint's dtype.
"""

import copy
import json

import torch
from torch import nn

TINY_SUM = 1e-6


def fused_merge(coefficients, weights, dtype):
    """[kept, experts] x [experts, n, k] -> [kept, n, k] f32 values of `dtype`. A product of two f32 is exact
    in f64, so rounding the f64 sum to f32 is a fused multiply-add (up to double rounding, 1 in 2^29)."""
    merged = []
    for row in coefficients:
        total = torch.zeros_like(weights[0])
        for coefficient, weight in zip(row, weights):
            if coefficient != 0:
                total = (total.double() + coefficient.double() * weight.double()).float()
        merged.append(total.to(dtype).float())
    return torch.stack(merged)


def grouped(choice, groups, top_groups):
    """Scores with minus infinity outside the top groups, and how clear the choice of the groups is."""
    if groups == 1:
        return choice, []
    parts = choice.reshape(len(choice), groups, -1)
    sums = parts.topk(min(2, parts.shape[-1]), dim=-1).values.sum(-1)
    ordered, order = torch.sort(sums, dim=-1, descending=True, stable=True)
    margins = []
    if top_groups < groups:
        margins = ((ordered[:, top_groups
                            - 1] - ordered[:, top_groups]) / ordered.abs().max(-1).values).tolist()
    open_groups = torch.zeros_like(sums, dtype=torch.bool).scatter_(1, order[:, :top_groups], True)
    return parts.masked_fill(~open_groups[..., None], float("-inf")).reshape(choice.shape), margins


def gate_of(block):
    return block.gate if hasattr(block, "gate") else block.router


class PlannedBlock(nn.Module):
    """Takes the place of a sparse block: mapped router, merged experts, shared expert as it was."""

    def __init__(self, block, group, top_k, space, renormalise, dtype, margins, cancellation):
        super().__init__()
        self.w_rm = torch.tensor(group["router_mapping"], dtype=torch.float32)  # [kept, experts]
        w_em = torch.tensor(group["expert_merging"], dtype=torch.float32)  # [kept, experts]
        gate = gate_of(block)
        self.gate = gate.weight.data  # [experts, hidden]
        self.gate_bias = getattr(gate, "bias", None)  # [experts]: of the logits
        self.bias = getattr(gate, "e_score_correction_bias", None)  # [experts]: sigmoid scores
        self.scale = getattr(gate, "routed_scaling_factor", 1)
        self.groups = getattr(gate, "num_group", 1), getattr(gate, "topk_group", 1)
        self.gate_up = fused_merge(w_em, block.experts.gate_up_proj.data, dtype)  # [kept, 2 * inner, hidden]
        self.down = fused_merge(w_em, block.experts.down_proj.data, dtype)  # [kept, hidden, inner]
        self.gpt_oss = hasattr(block.experts, "gate_up_proj_bias")  # those two with their last axes exchanged
        if self.gpt_oss:
            self.gate_up_bias = fused_merge(w_em, block.experts.gate_up_proj_bias.data, dtype)
            self.down_bias = fused_merge(w_em, block.experts.down_proj_bias.data, dtype)
            self.limit, self.alpha = block.experts.limit, block.experts.alpha
        self.shared_expert = getattr(block, "shared_expert", None)
        self.shared_expert_gate = getattr(block, "shared_expert_gate", None)
        self.shared_experts = getattr(block, "shared_experts", None)
        self.top_k = min(top_k, len(self.w_rm))
        self.space, self.renormalise = space, renormalise
        self.margins, self.cancellation = margins, cancellation

    def route(self, x):
        """[tokens, hidden] -> rows [tokens, k], weights [tokens, k]."""
        z = nn.functional.linear(x, self.gate, self.gate_bias)
        if self.bias is not None:
            return self.route_sigmoid(z)
        source = z if self.space == "logits" else torch.softmax(z, -1)
        # An explicit sum, so that equal rows of W_RM give equal bits.
        mapped = (source[:, None, :].double() * self.w_rm.double()).sum(-1).float()  # [tokens, kept]
        ordered, rows = torch.sort(mapped, dim=-1, descending=True, stable=True)
        k = self.top_k
        if k < mapped.shape[1]:
            gap = ordered[:, k - 1] - ordered[:, k]
            scale = ordered.abs().max(-1).values
            distinct = gap > 0
            self.margins.extend((gap / scale)[distinct].tolist())
        rows = rows[:, :k]
        values = torch.softmax(mapped, -1) if self.space == "logits" else mapped
        weights = torch.gather(values, 1, rows)
        if self.renormalise:
            total = weights.sum(-1, keepdim=True)
            tiny = total.abs() < TINY_SUM
            if self.space == "probabilities":  # what cancels in the sums, per token
                terms = (source[:, None, :] * self.w_rm).abs().sum(-1).gather(1, rows).sum(-1, keepdim=True)
                self.cancellation.extend((total.abs() / terms)[~tiny].tolist())
            weights = torch.where(tiny, torch.full_like(weights, 1 / k),
                                  weights / torch.where(tiny, 1, total))
        return rows, weights

    def route_sigmoid(self, z):
        w_rm = self.w_rm.double()
        score = torch.sigmoid(z.double())
        mapped = torch.sigmoid(z.double() @ w_rm.T) if self.space == "logits" else score @ w_rm.T
        choice, margins = grouped(mapped + self.bias.double() @ w_rm.T, *self.groups)
        ordered, rows = torch.sort(choice, dim=-1, descending=True, stable=True)
        k = self.top_k
        if k < mapped.shape[1]:
            gap, scale = ordered[:, k - 1] - ordered[:, k], ordered[:, :k].abs().max(-1).values
            self.margins.extend((gap / scale)[gap > 0].tolist() + margins)
        rows = rows[:, :k]
        weights = torch.gather(mapped, 1, rows)
        if self.renormalise:
            total = weights.sum(-1, keepdim=True)
            tiny = total.abs() < TINY_SUM
            if self.space == "probabilities":
                terms = (score[:, None, :] * w_rm).abs().sum(-1).gather(1, rows).sum(-1, keepdim=True)
                self.cancellation.extend((total.abs() / terms)[~tiny].tolist())
            weights = torch.where(tiny, torch.full_like(weights, 1 / k),
                                  weights / torch.where(tiny, 1, total))
        return rows, (weights * self.scale).float()

    def forward(self, hidden_states):
        x = hidden_states.reshape(-1, hidden_states.shape[-1])
        rows, weights = self.route(x)
        out = torch.zeros_like(x)
        if self.gpt_oss:
            return self.forward_gpt_oss(x, rows, weights, out).reshape(hidden_states.shape), weights
        for slot in range(self.top_k):
            gate, up = torch.einsum("th,tnh->tn", x, self.gate_up[rows[:, slot]]).chunk(2, -1)
            y = torch.einsum("tn,thn->th", nn.functional.silu(gate) * up, self.down[rows[:, slot]])
            out += weights[:, slot, None] * y
        if self.shared_expert is not None:
            out = out + torch.sigmoid(self.shared_expert_gate(x)) * self.shared_expert(x)
        if self.shared_experts is not None:
            out = out + self.shared_experts(x)
        return out.reshape(hidden_states.shape)

    def forward_gpt_oss(self, x, rows, weights, out):
        for slot in range(self.top_k):
            row = rows[:, slot]
            both = torch.einsum("th,thn->tn", x, self.gate_up[row]) + self.gate_up_bias[row]
            gate, up = both[:, 0::2].clamp(max=self.limit), both[:, 1::2].clamp(-self.limit, self.limit)
            inner = (up + 1) * gate * torch.sigmoid(self.alpha * gate)
            out += weights[:, slot, None] * (torch.einsum("tn,tnh->th", inner,
                                                          self.down[row]) + self.down_bias[row])
        return out


def is_sparse(layer):
    return hasattr(layer.mlp, "experts") or isinstance(layer.mlp, PlannedBlock)


class AppliedPlan:
    """`with AppliedPlan(model, plan, dtype) as (margins, cancellation):` the model computes with the plan.
    margins: the relative distances between the last chosen and the first left-out row, ties apart.
    cancellation: the sums of selected weights relative to the sum of their terms' sizes."""

    def __init__(self, model, plan, dtype):
        self.model, self.plan, self.dtype = model, plan, dtype

    def __enter__(self):
        config = self.model.config
        renormalise = config.model_type in ("mixtral", "gpt_oss") or bool(config.norm_topk_prob)
        self.saved, margins, cancellation = {}, [], []
        for group in self.plan["groups"]:
            for index in group["layers"]:
                layer = self.model.model.layers[index]
                self.saved[index] = layer.mlp
                layer.mlp = PlannedBlock(layer.mlp, group, self.plan["top_k"], self.plan["router_space"],
                                         renormalise, self.dtype, margins, cancellation)
        return margins, cancellation

    def __exit__(self, *_):
        for index, block in self.saved.items():
            self.model.model.layers[index].mlp = block


def keep_rows(model, plan):
    """The model with the experts of a one-hot plan alone, computed by transformers' own blocks."""
    pruned = copy.deepcopy(model)
    for group in plan["groups"]:
        rows = torch.tensor(group["router_mapping"]).argmax(-1)
        for index in group["layers"]:
            block = pruned.model.layers[index].mlp
            gate = gate_of(block)
            for _, parameter in [*gate.named_parameters(), *block.experts.named_parameters()]:
                parameter.data = parameter.data[rows]
            if hasattr(gate, "e_score_correction_bias"):
                gate.e_score_correction_bias = gate.e_score_correction_bias[rows]
            gate.num_experts = block.experts.num_experts = len(rows)
    return pruned


def make_plans(family, layers, experts, top_k, seed, groups=1):
    """name -> plan: one-hot, dense, negative coefficients, duplicate rows, kept = top_k, top_k above kept,
    unequal groups, a zero map, both router spaces. `layers`: the sparse ones."""
    random = torch.Generator().manual_seed(seed)

    def eye(rows):
        return torch.eye(experts)[rows]

    def pick(kept):
        return sorted(torch.randperm(experts, generator=random)[:kept].tolist())

    def noise(kept, scale):
        return scale * torch.randn(kept, experts, generator=random)

    def short(matrix):
        return [[round(value, 4) for value in row] for row in matrix.tolist()]

    def plan(groups, k, space):
        return {
            "format": "eep-plan",
            "version": 1,
            "model": {"family": family, "layers": layers[-1] + 1, "experts": experts},
            "top_k": k,
            "router_space": space,
            "groups": [{"layers": part, "router_mapping": short(rm), "expert_merging": short(em)}
                       for part, rm, em in groups],
        }

    halves = [layers[: len(layers) // 2], layers[len(layers) // 2 :]] if len(layers) > 1 else [layers]
    kept = -(-max(top_k + 1, experts // 2) // groups) * groups
    plans = {}
    for space in ("logits", "probabilities"):
        rows = [pick(kept) for _ in halves]
        plans[f"one_hot_{space}"] = plan([(part, eye(r), eye(r)) for part, r in zip(halves, rows)], top_k,
                                         space)
        rows = [pick(kept) for _ in halves]
        plans[f"dense_{space}"] = plan(
            [(part, eye(r) + noise(kept, 0.08), eye(r) + noise(kept, 0.08)) for part,
             r in zip(halves, rows)], top_k, space)
    rows = pick(top_k)
    plans["kept_is_top_k"] = plan([(layers, eye(rows) + noise(top_k, 0.05), eye(rows))], top_k,
                                  "probabilities")
    rows = pick(2)
    plans["top_k_above_kept"] = plan([(layers, eye(rows), eye(rows) + noise(2, 0.1))], 4, "logits")
    rows = pick(kept)
    twice = rows[:-1] + [rows[0]]  # the last row repeats the first in the router, not in the weights
    plans["duplicate_rows"] = plan([(layers, eye(twice), eye(rows) + noise(kept, 0.05))], top_k, "logits")
    negative = eye(rows) + noise(kept, 0.3)
    negative[0] = -negative[0]
    plans["negative"] = plan([(layers, negative, eye(rows) - noise(kept, 0.2).abs())], top_k, "probabilities")
    plans["negative_sum"] = plan([(layers, -(eye(rows) + noise(kept, 0.02).abs()), eye(rows))], top_k,
                                 "probabilities")
    plans["zero_map"] = plan([(layers, torch.zeros(kept, experts), eye(rows))], top_k, "probabilities")
    counts = [experts - 1, max(2, top_k)] if len(halves) > 1 else [experts - 1]
    rows = [pick(count) for count in counts]
    plans["unequal_groups"] = plan(
        [(part, eye(r) + noise(len(r), 0.06), eye(r) + noise(len(r), 0.06)) for part,
         r in zip(halves, rows)], top_k,
        "probabilities")
    if top_k > 1:
        rows = pick(experts)
        plans["fewer_active"] = plan([(layers, eye(rows), eye(rows))], top_k - 1, "logits")
    return plans


def write_plan(path, plan):
    """One matrix row a line."""
    text = json.dumps({key: value for key, value in plan.items() if key != "groups"})[:-1] + ', "groups": [\n'
    groups = []
    for group in plan["groups"]:
        matrices = []
        for name in ("router_mapping", "expert_merging"):
            matrices.append(f'  "{name}": [\n   '
                            + ",\n   ".join(json.dumps(row) for row in group[name]) + "]")
        groups.append(f' {{"layers": {json.dumps(group["layers"])},\n' + ",\n".join(matrices) + "}")
    path.write_text(text + ",\n".join(groups) + "]}\n")
