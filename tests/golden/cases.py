"""The golden checkpoints: every variant of the families in some odd size. `layout`: per_expert, fused
([experts, 2 * inner, hidden]) or fused_transposed. `spelling`: the transformers generation whose config keys are used.
`fp8`: rows and columns of the blocks in which projections are stored as E4M3 numbers. `mxfp4`: experts are stored so.
`prompts`: lengths of prompts to continue greedily. `drop`, `extra`: config keys removed and added after writing."""


def default_rope(theta):
    return {"rope_type": "default", "rope_theta": theta}


def yarn(theta, factor, original, **more):
    return {"rope_type": "yarn", "rope_theta": theta, "factor": factor, "original_max_position_embeddings": original,
            **more}


CASES = [
    {   # f32, GQA 4:1, five experts, plans
        "name": "mixtral_f32", "family": "mixtral", "dtype": "f32", "spelling": "v4", "plans": True, "prompts": [3, 11],
        "config": dict(vocab_size=61, hidden_size=24, intermediate_size=14, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=1, num_local_experts=5, num_experts_per_tok=2, max_position_embeddings=512,
                       rope_parameters=default_rope(1e6)),
    },
    {   # bf16, sliding window, top-1, tied embeddings, head_dim apart from hidden / heads, sharded
        "name": "mixtral_window", "family": "mixtral", "dtype": "bf16", "spelling": "v5", "shard_size": "20KB",
        "prompts": [9],
        "config": dict(vocab_size=67, hidden_size=28, intermediate_size=17, num_hidden_layers=3, num_attention_heads=3,
                       num_key_value_heads=3, head_dim=10, num_local_experts=4, num_experts_per_tok=1, sliding_window=5,
                       max_position_embeddings=256, tie_word_embeddings=True, rms_norm_eps=1e-5,
                       rope_parameters=default_rope(10000.0)),
    },
    {   # bf16, three layers, eight experts, plans
        "name": "mixtral_bf16", "family": "mixtral", "dtype": "bf16", "spelling": "v5", "plans": True, "prompts": [4],
        "config": dict(vocab_size=71, hidden_size=32, intermediate_size=19, num_hidden_layers=3, num_attention_heads=4,
                       num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2, max_position_embeddings=512,
                       rope_parameters=default_rope(1e6)),
    },
    {   # f16, fused experts, top-3, window longer than the sequences, head_dim null
        "name": "mixtral_fused", "family": "mixtral", "dtype": "f16", "spelling": "v5", "layout": "fused",
        "config": dict(vocab_size=73, hidden_size=30, intermediate_size=13, num_hidden_layers=2, num_attention_heads=5,
                       num_key_value_heads=5, num_local_experts=7, num_experts_per_tok=3, sliding_window=4096,
                       max_position_embeddings=512, rope_parameters=default_rope(1e6)),
        "extra": {"head_dim": None},
    },
    {   # bf16, alternating sparse layers, a dense one by list, four of eleven experts, tied, plans
        "name": "qwen2_bf16", "family": "qwen2_moe", "dtype": "bf16", "spelling": "v4", "plans": True, "prompts": [6],
        "config": dict(vocab_size=79, hidden_size=24, intermediate_size=35, num_hidden_layers=4, num_attention_heads=4,
                       num_key_value_heads=2, num_experts=11, num_experts_per_tok=4, moe_intermediate_size=9,
                       shared_expert_intermediate_size=21, norm_topk_prob=False, mlp_only_layers=[1],
                       tie_word_embeddings=True, max_position_embeddings=512, rope_parameters=default_rope(1e6)),
    },
    {   # f32, renormalised, every second layer sparse
        "name": "qwen2_step_f32", "family": "qwen2_moe", "dtype": "f32", "spelling": "v5", "prompts": [5],
        "config": dict(vocab_size=61, hidden_size=20, intermediate_size=27, num_hidden_layers=3, num_attention_heads=2,
                       num_key_value_heads=1, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=11,
                       shared_expert_intermediate_size=13, norm_topk_prob=True, decoder_sparse_step=2,
                       max_position_embeddings=512, rope_parameters=default_rope(10000.0)),
    },
    {   # f16, sharded, fused, released keys only
        "name": "qwen2_fused", "family": "qwen2_moe", "dtype": "f16", "spelling": "v4", "layout": "fused",
        "shard_size": "25KB",
        "config": dict(vocab_size=67, hidden_size=24, intermediate_size=31, num_hidden_layers=2, num_attention_heads=3,
                       num_key_value_heads=3, num_experts=9, num_experts_per_tok=3, moe_intermediate_size=7,
                       shared_expert_intermediate_size=10, max_position_embeddings=512,
                       rope_parameters=default_rope(1e6)),
        "drop": ["qkv_bias", "mlp_only_layers", "use_sliding_window", "norm_topk_prob"],
        "extra": {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 1},
    },
    {   # f32, explicit head_dim, renormalised, plans
        "name": "qwen3_f32", "family": "qwen3_moe", "dtype": "f32", "spelling": "v4", "plans": True, "prompts": [2, 13],
        "config": dict(vocab_size=61, hidden_size=20, intermediate_size=29, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=2, head_dim=8, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=11,
                       norm_topk_prob=True, max_position_embeddings=512, rope_parameters=default_rope(1e6)),
    },
    {   # bf16, yarn in the v4 spelling, a dense first layer, plans
        "name": "qwen3_yarn", "family": "qwen3_moe", "dtype": "bf16", "spelling": "v4", "rope_key": "type", "plans": True,
        "prompts": [7],
        "config": dict(vocab_size=83, hidden_size=28, intermediate_size=33, num_hidden_layers=3, num_attention_heads=4,
                       num_key_value_heads=2, head_dim=16, num_experts=9, num_experts_per_tok=3, moe_intermediate_size=9,
                       norm_topk_prob=True, mlp_only_layers=[0], max_position_embeddings=16384,
                       rope_parameters=yarn(10000.0, 4.0, 4096)),
    },
    {   # f16, yarn in the v5 spelling with every option, not renormalised, num_local_experts, tied, sharded
        "name": "qwen3_yarn_options", "family": "qwen3_moe", "dtype": "f16", "spelling": "v5", "shard_size": "30KB",
        "config": dict(vocab_size=61, hidden_size=26, intermediate_size=33, num_hidden_layers=2, num_attention_heads=2,
                       num_key_value_heads=1, head_dim=14, num_experts=7, num_experts_per_tok=4, moe_intermediate_size=12,
                       norm_topk_prob=False, tie_word_embeddings=True, max_position_embeddings=4096,
                       rope_parameters=yarn(5000.0, 8.0, 512, beta_fast=24.0, beta_slow=2.0, attention_factor=1.3,
                                            truncate=False)),
    },
    {   # bf16, fused experts stored transposed
        "name": "qwen3_transposed", "family": "qwen3_moe", "dtype": "bf16", "spelling": "v5", "layout": "fused_transposed",
        "config": dict(vocab_size=67, hidden_size=24, intermediate_size=33, num_hidden_layers=2, num_attention_heads=2,
                       num_key_value_heads=2, head_dim=12, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=10,
                       norm_topk_prob=True, max_position_embeddings=512, rope_parameters=default_rope(1e6)),
    },
    {   # f32, GQA, norms of whole rows, no clip, plans
        "name": "olmoe_f32", "family": "olmoe", "dtype": "f32", "spelling": "v4", "plans": True, "prompts": [3, 12],
        "config": dict(vocab_size=61, hidden_size=24, intermediate_size=11, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=2, num_experts=6, num_experts_per_tok=2, norm_topk_prob=False,
                       max_position_embeddings=512, rope_parameters=default_rope(10000.0)),
    },
    {   # bf16, clipped, renormalised, tied, plans
        "name": "olmoe_clip", "family": "olmoe", "dtype": "bf16", "spelling": "v5", "plans": True, "prompts": [5],
        "config": dict(vocab_size=67, hidden_size=30, intermediate_size=13, num_hidden_layers=3, num_attention_heads=3,
                       num_key_value_heads=3, num_experts=9, num_experts_per_tok=4, norm_topk_prob=True, clip_qkv=0.9,
                       tie_word_embeddings=True, max_position_embeddings=512, rope_parameters=default_rope(10000.0)),
    },
    {   # f16, released keys only, sharded, one head of keys, fused experts
        "name": "olmoe_fused", "family": "olmoe", "dtype": "f16", "spelling": "v4", "layout": "fused", "shard_size": "25KB",
        "config": dict(vocab_size=71, hidden_size=28, intermediate_size=9, num_hidden_layers=2, num_attention_heads=2,
                       num_key_value_heads=1, num_experts=8, num_experts_per_tok=3, clip_qkv=1.3,
                       max_position_embeddings=512, rope_parameters=default_rope(10000.0)),
        "drop": ["norm_topk_prob"],
    },
    {   # projections in 8 bits, blocks that divide nothing, plans
        "name": "qwen3_fp8", "family": "qwen3_moe", "dtype": "bf16", "spelling": "v4", "fp8": [8, 5], "plans": True,
        "prompts": [6],
        "config": dict(vocab_size=61, hidden_size=24, intermediate_size=29, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=2, head_dim=6, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=11,
                       norm_topk_prob=True, max_position_embeddings=512, rope_parameters=default_rope(1e6)),
    },
    {   # a shared and a dense expert in 8 bits, blocks larger than every matrix
        "name": "qwen2_fp8", "family": "qwen2_moe", "dtype": "bf16", "spelling": "v5", "fp8": [128, 128], "prompts": [4],
        "config": dict(vocab_size=61, hidden_size=20, intermediate_size=27, num_hidden_layers=3, num_attention_heads=2,
                       num_key_value_heads=1, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=11,
                       shared_expert_intermediate_size=13, norm_topk_prob=False, mlp_only_layers=[1],
                       max_position_embeddings=512, rope_parameters=default_rope(10000.0)),
    },
    {   # GLM-4.5-Air's settings: biases, half of each head turns, a dense layer, one shared expert, scaled, plans
        "name": "glm4_f32", "family": "glm4_moe", "dtype": "f32", "spelling": "v4", "plans": True, "prompts": [3, 10],
        "config": dict(vocab_size=61, hidden_size=24, intermediate_size=29, num_hidden_layers=3, num_attention_heads=4,
                       num_key_value_heads=2, head_dim=8, n_routed_experts=6, num_experts_per_tok=2,
                       moe_intermediate_size=9, n_shared_experts=1, first_k_dense_replace=1, routed_scaling_factor=1.5,
                       attention_bias=True, use_qk_norm=False, num_mtp_layers=0, max_position_embeddings=512,
                       rope_parameters={**default_rope(1e6), "partial_rotary_factor": 0.5}),
    },
    {   # bf16, norms of q and k, groups, two shared experts, not renormalised, no dense layer, no bias of q, k, v
        "name": "glm4_groups", "family": "glm4_moe", "dtype": "bf16", "spelling": "v5", "prompts": [5],
        "config": dict(vocab_size=67, hidden_size=28, intermediate_size=23, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=1, head_dim=12, n_routed_experts=12, num_experts_per_tok=3, n_group=4,
                       topk_group=2, moe_intermediate_size=11, n_shared_experts=2, first_k_dense_replace=0,
                       norm_topk_prob=False, routed_scaling_factor=2.5, attention_bias=False, use_qk_norm=True,
                       num_mtp_layers=0, max_position_embeddings=512,
                       rope_parameters={**default_rope(10000.0), "partial_rotary_factor": 0.34}),
    },
    {   # projections in 8 bits, plans
        "name": "glm4_fp8", "family": "glm4_moe", "dtype": "bf16", "spelling": "v4", "fp8": [7, 16], "plans": True,
        "prompts": [4],
        "config": dict(vocab_size=61, hidden_size=24, intermediate_size=29, num_hidden_layers=2, num_attention_heads=2,
                       num_key_value_heads=1, head_dim=16, n_routed_experts=8, num_experts_per_tok=3,
                       moe_intermediate_size=10, n_shared_experts=1, first_k_dense_replace=1, attention_bias=True,
                       use_qk_norm=True, num_mtp_layers=0, max_position_embeddings=512,
                       rope_parameters={**default_rope(1e6), "partial_rotary_factor": 0.5}),
    },
    {   # f32, windows by default in the even layers, yarn, a limit and a slope of its own, plans
        "name": "gptoss_f32", "family": "gpt_oss", "dtype": "f32", "spelling": "v4", "plans": True, "prompts": [3, 12],
        "config": dict(vocab_size=61, hidden_size=24, intermediate_size=11, num_hidden_layers=3, num_attention_heads=4,
                       num_key_value_heads=2, head_dim=8, num_local_experts=6, num_experts_per_tok=2, sliding_window=5,
                       swiglu_limit=1.5, swiglu_alpha=1.4, max_position_embeddings=512,
                       rope_parameters=yarn(150000.0, 4.0, 128, truncate=False)),
        "drop": ["layer_types"],
    },
    {   # MXFP4 with two and three blocks a row, released keys, one head of keys, plans
        "name": "gptoss_mxfp4", "family": "gpt_oss", "dtype": "bf16", "spelling": "v4", "mxfp4": True, "plans": True,
        "prompts": [5],
        "config": dict(vocab_size=67, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3,
                       num_key_value_heads=1, head_dim=10, num_local_experts=8, num_experts_per_tok=4, sliding_window=7,
                       max_position_embeddings=512, rope_parameters=yarn(150000.0, 32.0, 64, truncate=False)),
        "drop": ["swiglu_alpha"], "extra": {"experts_per_token": 4, "initial_context_length": 64},
    },
    {   # bf16, no biases of attention, windows in the odd layers, top-1, tied, sharded, no scaling of positions
        "name": "gptoss_plain", "family": "gpt_oss", "dtype": "bf16", "spelling": "v5", "shard_size": "25KB", "prompts": [6],
        "config": dict(vocab_size=71, hidden_size=28, intermediate_size=13, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=4, head_dim=14, num_local_experts=5, num_experts_per_tok=1, sliding_window=3,
                       layer_types=["full_attention", "sliding_attention"], attention_bias=False,
                       tie_word_embeddings=True, max_position_embeddings=512, rope_parameters=default_rope(10000.0)),
    },
]
