"""The official EEP procedure in plain PyTorch, on transformers' own model: one candidate at a time.

A candidate (a plan, [kept, experts] matrices a group) is made by a loop over every expert tensor of every
layer: for each kept slot j and each of gate, up, down  acc = W_0 w_j0, then acc += W_i w_ji for every
non-zero w_ji (a product, then a sum), in ascending i; then the whole state is loaded into the model, whose
slots 0 .. kept - 1 it fills. The router maps softmax(gate(x)) (or, in the logits space, gate(x) itself) by
W_RM, takes the top-k and renormalises as the family does.

A candidate is scored by the whole model: left-padded batches of 32 in the data's order, greedy generation of
the full number of new tokens or up to the end of sequence for all of a batch; choices by full logits of every
padded sequence. Computation is in f32, PyTorch's fastest dtype here; merged weights are rounded once to the
checkpoint's dtype, so that the models are the ones that eep scores.
"""

import time
from types import MethodType

import torch
from torch import nn
from transformers import AutoModelForCausalLM

BATCH = 32


def mapped_router(self, hidden_states):
    """Takes the place of the router's forward; self.transfer is W_RM [kept, experts]."""
    z = nn.functional.linear(hidden_states.reshape(-1, self.hidden_dim), self.weight)  # [tokens, experts]
    if self.space == "logits":
        weights = torch.softmax(z.float() @ self.transfer.T, dim=-1)
    else:
        weights = torch.softmax(z.float(), dim=-1) @ self.transfer.T
    values, indices = torch.topk(weights, min(self.candidate_top_k, weights.shape[-1]), dim=-1)
    if self.renormalise:
        values = values / values.sum(dim=-1, keepdim=True)
    return z, values, indices


class OfficialEep:
    def __init__(self, directory, experts_implementation="eager"):
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32,
                                                          attn_implementation="sdpa")
        self.model.set_experts_implementation(experts_implementation)
        self.model.eval()
        config = self.model.config
        self.dtype = AutoModelForCausalLM.from_pretrained(directory, dtype="auto").dtype
        self.renormalise = config.model_type == "mixtral" or bool(config.norm_topk_prob)
        eos = self.model.generation_config.eos_token_id
        if eos is None:
            eos = config.eos_token_id
        self.eos = [] if eos is None else eos if isinstance(eos, list) else [eos]
        self.state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.layers = [index for index,
                       layer in enumerate(self.model.model.layers) if hasattr(layer.mlp, "experts")]
        for index in self.layers:
            gate = self.model.model.layers[index].mlp.gate
            gate.forward = MethodType(mapped_router, gate)
        self.tokens = 0  # positions computed, padding included
        self.base = {index: self.split(index) for index in self.layers}

    def split(self, index):
        """Expert tensors of a layer as the checkpoint names them: (expert, gate | up | down) -> [n, k]."""
        gate_up = self.state[f"model.layers.{index}.mlp.experts.gate_up_proj"]
        down = self.state[f"model.layers.{index}.mlp.experts.down_proj"]
        tensors = {}
        for expert in range(gate_up.shape[0]):
            tensors[expert, "gate"], tensors[expert, "up"] = (half.clone()
                                                              for half in gate_up[expert].chunk(2, 0))
            tensors[expert, "down"] = down[expert].clone()
        return tensors

    def apply(self, plan):
        """Merges, loads the whole state, sets the router maps."""
        state = dict(self.state)
        for group in plan["groups"]:
            w_em = torch.tensor(group["expert_merging"], dtype=torch.float32)
            w_rm = torch.tensor(group["router_mapping"], dtype=torch.float32)
            for index in group["layers"]:
                gate_up = self.state[f"model.layers.{index}.mlp.experts.gate_up_proj"].clone()
                down = self.state[f"model.layers.{index}.mlp.experts.down_proj"].clone()
                for slot, row in enumerate(w_em):
                    gate_up[slot] = torch.cat([self.merge(index, name, row) for name in ("gate", "up")])
                    down[slot] = self.merge(index, "down", row)
                state[f"model.layers.{index}.mlp.experts.gate_up_proj"] = gate_up
                state[f"model.layers.{index}.mlp.experts.down_proj"] = down
                gate = self.model.model.layers[index].mlp.gate
                gate.transfer, gate.space = w_rm, plan["router_space"]
                gate.candidate_top_k, gate.renormalise = plan["top_k"], self.renormalise
        self.model.load_state_dict(state)

    def merge(self, index, name, row):
        base = self.base[index]
        total = base[0, name] * row[0]
        for expert in range(1, len(row)):
            if row[expert] != 0:
                total += base[expert, name] * row[expert]
        return total.to(self.dtype).to(torch.float32)

    @torch.no_grad()
    def generate(self, prompts, max_new):
        """Greedy continuations, end-of-sequence id and what follows it removed."""
        outputs = []
        pad = self.eos[0] if self.eos else 0
        for begin in range(0, len(prompts), BATCH):
            batch = prompts[begin : begin + BATCH]
            width = max(len(ids) for ids in batch)
            ids = torch.tensor([[pad] * (width - len(row)) + row for row in batch])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
            out = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new,
                                      do_sample=False, num_beams=1, pad_token_id=pad,
                                      eos_token_id=self.eos or None)
            new = out[:, width:]
            self.tokens += ids.numel() + (new.shape[1] - 1) * len(batch)
            for row in new.tolist():
                ends = [row.index(token) for token in self.eos if token in row]
                outputs.append(row[: min(ends)] if ends else row)
        return outputs

    @torch.no_grad()
    def logliks(self, pairs):
        """(context ids, continuation ids) -> sum of log-probabilities of the continuation."""
        sums = []
        for begin in range(0, len(pairs), BATCH):
            batch = pairs[begin : begin + BATCH]
            width = max(len(context) + len(answer) for context, answer in batch)
            ids, mask = [], []
            for context, answer in batch:
                fill = width - len(context) - len(answer)
                ids.append([0] * fill + context + answer)
                mask.append([0] * fill + [1] * (len(context) + len(answer)))
            mask = torch.tensor(mask)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            logits = self.model(input_ids=torch.tensor(ids), attention_mask=mask,
                                position_ids=positions).logits
            self.tokens += logits.shape[0] * logits.shape[1]
            table = torch.log_softmax(logits.float(), dim=-1)
            for row, (_, answer) in enumerate(batch):
                targets = torch.tensor(answer)[:, None]
                sums.append(table[row, width - len(answer) - 1 : width - 1].gather(1, targets).sum().item())
        return sums

    def score(self, plan, task):
        """One candidate of the official loop: (result of task.score, seconds to make it, seconds to evaluate
        it)."""
        begin = time.perf_counter()
        self.apply(plan)
        made = time.perf_counter()
        result = task.score(self)
        return result, made - begin, time.perf_counter() - made
