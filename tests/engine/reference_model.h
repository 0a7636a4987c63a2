// The whole model in double precision, one sequence, plain loops: the judge of the engine. Formulas:
// docs/method.md and the model families' papers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/raw_model.h"
#include "kernels/common/float16.h"

namespace eep::test {

using Vec = std::vector<double>;

inline double element(const void* data, DType dtype, int64_t index) {
  if (dtype == DType::kF32) return static_cast<double>(static_cast<const float*>(data)[index]);
  const uint16_t bits = static_cast<const uint16_t*>(data)[index];
  return static_cast<double>(dtype == DType::kBF16 ? bf16_to_f32(bits) : f16_to_f32(bits));
}

inline double at(const RawMatrix& m, int64_t i, int64_t j) {
  return element(m.data, m.dtype, i * m.row_stride + j * m.column_stride);
}

// sum_i coefficient[i] * matrix_i, rounded once to the dtype of the matrices when more than a copy.
struct MergedMatrix {
  int64_t n, k;
  Vec values;
};

inline MergedMatrix merge(const std::vector<const RawMatrix*>& base, const float* coefficient) {
  MergedMatrix out{base[0]->n, base[0]->k, {}};
  out.values.reserve(static_cast<size_t>(out.n * out.k));
  for (int64_t i = 0; i < out.n; ++i) {
    for (int64_t j = 0; j < out.k; ++j) {
      double sum = 0;
      for (size_t e = 0; e < base.size(); ++e)
        sum += static_cast<double>(coefficient[e]) * at(*base[e], i, j);
      if (base[0]->dtype == DType::kBF16)
        sum = static_cast<double>(bf16_to_f32(f32_to_bf16(static_cast<float>(sum))));
      if (base[0]->dtype == DType::kF16)
        sum = static_cast<double>(f16_to_f32(f32_to_f16(static_cast<float>(sum))));
      out.values.push_back(sum);
    }
  }
  return out;
}

inline MergedMatrix plain(const RawMatrix& m) {
  const float one = 1.0f;
  return merge({&m}, &one);
}

// By pointers: sanitizers' builds spend a good part of these tests here.
inline Vec multiply(const MergedMatrix& m, const Vec& x) {
  Vec out;
  const double *w = m.values.data(), *in = x.data();
  for (int64_t i = 0; i < m.n; ++i, w += m.k) {
    double sum = 0;
    for (int64_t j = 0; j < m.k; ++j) sum += w[j] * in[j];
    out.push_back(sum);
  }
  return out;
}

inline Vec multiply(const RawMatrix& m, const Vec& x) {
  Vec out;
  for (int64_t i = 0; i < m.n; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < m.k; ++j) sum += at(m, i, j) * x[static_cast<size_t>(j)];
    out.push_back(sum);
  }
  return out;
}

inline Vec norm(const Vec& x, const Tensor& weight, double eps) {
  double squares = 0;
  for (double value : x) squares += value * value;
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  Vec out(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    out[i] = x[i] * scale * element(weight.data, weight.dtype, static_cast<int64_t>(i));
  return out;
}

struct ReferenceFfn {
  MergedMatrix gate, up, down;
  MergedMatrix gate_bias = {}, up_bias = {}, down_bias = {};  // a column, or nothing
  double limit = 0, alpha = 1;

  static void shift(Vec& y, const MergedMatrix& bias) {
    for (size_t i = 0; i < bias.values.size(); ++i) y[i] += bias.values[i];
  }
  Vec operator()(const Vec& x) const {
    Vec g = multiply(gate, x);
    Vec u = multiply(up, x);
    shift(g, gate_bias);
    shift(u, up_bias);
    for (size_t i = 0; i < g.size(); ++i) {
      if (limit > 0) {
        g[i] = std::min(g[i], limit);
        u[i] = std::clamp(u[i], -limit, limit) + 1.0;
      }
      g[i] = g[i] / (1.0 + std::exp(-alpha * g[i])) * u[i];
    }
    Vec y = multiply(down, g);
    shift(y, down_bias);
    return y;
  }
};

class ReferenceModel {
 public:
  ReferenceModel(const RawModel& raw, const ExpertPlan& plan) : raw_(raw), config_(raw.config), plan_(plan) {}

  // Smallest gap at a top-k boundary seen so far: below rounding error, two implementations may part.
  double smallest_margin = INFINITY;
  // The same between neighbours in the order of those chosen too.
  double smallest_gap = INFINITY;

  // [tokens][vocab]
  std::vector<Vec> logits(const std::vector<int32_t>& tokens) {
    std::vector<Vec> h;
    for (int32_t token : tokens) {
      Vec row;
      for (int64_t i = 0; i < config_.hidden_size; ++i) {
        row.push_back(element(raw_.embedding.data, raw_.embedding.dtype, token * config_.hidden_size + i));
      }
      h.push_back(row);
    }
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      attention(raw_.layers[static_cast<size_t>(layer)], config_.window_of(layer), h);
      feed_forward(layer, h);
    }
    std::vector<Vec> out;
    const MergedMatrix head = plain(raw_.lm_head);
    for (const Vec& row : h) out.push_back(multiply(head, norm(row, raw_.final_norm, config_.rms_norm_eps)));
    return out;
  }

 private:
  Vec project(const RawMatrix& w, const Tensor& bias, const Vec& x) const {
    Vec out = multiply(w, x);
    if (bias) {
      for (size_t i = 0; i < out.size(); ++i)
        out[i] += element(bias.data, bias.dtype, static_cast<int64_t>(i));
    }
    return out;
  }

  void clip(Vec& x) const {
    const double limit = double{config_.clip_qkv};
    if (limit == 0) return;
    for (double& value : x) value = std::clamp(value, -limit, limit);
  }

  void finish_heads(Vec& x, const Tensor& head_norm, int64_t heads, int64_t position) const {
    const int64_t d = config_.head_dim;
    if (head_norm && config_.qk_norm == QkNorm::kWhole) x = norm(x, head_norm, config_.rms_norm_eps);
    clip(x);
    for (int64_t head = 0; head < heads; ++head) {
      Vec part(x.begin() + head * d, x.begin() + (head + 1) * d);
      if (head_norm && config_.qk_norm == QkNorm::kHead) part = norm(part, head_norm, config_.rms_norm_eps);
      const int64_t turning = config_.rotary();
      std::copy(part.begin(), part.end(), x.begin() + head * d);
      for (int64_t i = 0; i < turning / 2; ++i) {
        const double angle =
            static_cast<double>(position) *
            std::pow(config_.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(turning));
        const double a = part[static_cast<size_t>(i)], b = part[static_cast<size_t>(i + turning / 2)];
        x[static_cast<size_t>(head * d + i)] = a * std::cos(angle) - b * std::sin(angle);
        x[static_cast<size_t>(head * d + i + turning / 2)] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }

  void attention(const RawLayer& layer, int64_t window, std::vector<Vec>& h) const {
    const int64_t d = config_.head_dim, heads = config_.num_heads, share = heads / config_.num_kv_heads;
    std::vector<Vec> q, k, v;
    for (size_t t = 0; t < h.size(); ++t) {
      const Vec x = norm(h[t], layer.input_norm, config_.rms_norm_eps);
      q.push_back(project(layer.q, layer.q_bias, x));
      k.push_back(project(layer.k, layer.k_bias, x));
      v.push_back(project(layer.v, layer.v_bias, x));
      clip(v.back());
      finish_heads(q[t], layer.q_norm, heads, static_cast<int64_t>(t));
      finish_heads(k[t], layer.k_norm, config_.num_kv_heads, static_cast<int64_t>(t));
    }
    const MergedMatrix o = plain(layer.o);
    for (size_t t = 0; t < h.size(); ++t) {
      Vec out(static_cast<size_t>(heads * d), 0.0);
      const size_t seen = static_cast<size_t>(window);
      const size_t first = window > 0 && t + 1 > seen ? t + 1 - seen : 0;
      for (int64_t head = 0; head < heads; ++head) {
        Vec p;
        double largest = -INFINITY, sum = 0;
        for (size_t s = first; s <= t; ++s) {
          double dot = 0;
          for (int64_t i = 0; i < d; ++i) {
            dot += q[t][static_cast<size_t>(head * d + i)] * k[s][static_cast<size_t>(head / share * d + i)];
          }
          p.push_back(dot / std::sqrt(static_cast<double>(d)));
          largest = std::max(largest, p.back());
        }
        if (layer.sinks) {
          const double sink = element(layer.sinks.data, layer.sinks.dtype, head);
          largest = std::max(largest, sink);
          sum = std::exp(sink - largest);
        }
        for (double& value : p) sum += value = std::exp(value - largest);
        for (size_t s = first; s <= t; ++s) {
          for (int64_t i = 0; i < d; ++i) {
            out[static_cast<size_t>(head * d + i)] +=
                p[s - first] / sum * v[s][static_cast<size_t>(head / share * d + i)];
          }
        }
      }
      Vec added = multiply(o, out);
      if (layer.o_bias) {
        for (size_t i = 0; i < added.size(); ++i)
          added[i] += element(layer.o_bias.data, layer.o_bias.dtype, static_cast<int64_t>(i));
      }
      for (size_t i = 0; i < h[t].size(); ++i) h[t][i] += added[i];
    }
  }

  const PlanGroup& group_of(int64_t layer) const {
    for (const PlanGroup& group : plan_.groups) {
      for (int32_t member : group.layers) {
        if (member == layer) return group;
      }
    }
    throw std::logic_error("layer in no group");
  }

  void feed_forward(int64_t index, std::vector<Vec>& h) {
    const RawLayer& layer = raw_.layers[static_cast<size_t>(index)];
    if (config_.sparse[static_cast<size_t>(index)] == 0) {
      const ReferenceFfn dense{plain(layer.dense.gate), plain(layer.dense.up), plain(layer.dense.down)};
      for (Vec& row : h) add(row, dense(norm(row, layer.post_norm, config_.rms_norm_eps)), 1.0);
      return;
    }
    const PlanGroup& group = group_of(index);
    const auto each = [&](RawMatrix RawFfn::*member) {
      std::vector<const RawMatrix*> all;
      for (const RawFfn& expert : layer.experts) all.push_back(&(expert.*member));
      return all;
    };
    std::vector<ReferenceFfn> experts;
    for (int32_t row = 0; row < group.kept; ++row) {
      const float* w = group.expert_merging.data() + row * group.experts;
      experts.push_back(
          {merge(each(&RawFfn::gate), w), merge(each(&RawFfn::up), w), merge(each(&RawFfn::down), w)});
      if (!config_.expert_bias) continue;
      ReferenceFfn& expert = experts.back();
      expert.gate_bias = merge(each(&RawFfn::gate_bias), w);
      expert.up_bias = merge(each(&RawFfn::up_bias), w);
      expert.down_bias = merge(each(&RawFfn::down_bias), w);
      expert.limit = static_cast<double>(config_.expert_limit);
      expert.alpha = static_cast<double>(config_.expert_alpha);
    }
    const MergedMatrix gate = plain(layer.router);
    for (Vec& row : h) {
      const Vec x = norm(row, layer.post_norm, config_.rms_norm_eps);
      const std::vector<std::pair<int32_t, double>> chosen =
          route(group, skip_below_of(group, place_of(group, index)), multiply(gate, x), layer.router_bias);
      Vec out(row.size(), 0.0);
      for (const auto& [expert, weight] : chosen) add(out, experts[static_cast<size_t>(expert)](x), weight);
      if (layer.shared.gate) {
        const ReferenceFfn shared{plain(layer.shared.gate), plain(layer.shared.up), plain(layer.shared.down)};
        double share = 1;
        if (layer.shared_gate) share = sigmoid(multiply(layer.shared_gate, x)[0]);
        add(out, shared(x), share);
      }
      add(row, out, 1.0);
    }
  }

  static size_t place_of(const PlanGroup& group, int64_t layer) {
    const auto at = std::find(group.layers.begin(), group.layers.end(), static_cast<int32_t>(layer));
    return static_cast<size_t>(at - group.layers.begin());
  }

  std::vector<std::pair<int32_t, double>> route(const PlanGroup& group, float skip_below,
                                                const Vec& gate_logits, const Tensor& bias) {
    const bool in_logits = plan_.router_space == RouterSpace::kLogits;
    const bool sigmoids = config_.router_score == RouterScore::kSigmoid;
    Vec logits = gate_logits;
    for (size_t e = 0; e < logits.size() && bias && !sigmoids; ++e)
      logits[e] += element(bias.data, bias.dtype, static_cast<int64_t>(e));
    const Vec source = in_logits ? logits : sigmoids ? each_sigmoid(logits) : softmax(logits);
    Vec values, mapped;  // what weights come from, and what is compared
    for (int32_t row = 0; row < group.kept; ++row) {
      double sum = 0, shift = 0;
      for (int32_t e = 0; e < group.experts; ++e) {
        const double w =
            static_cast<double>(group.router_mapping[static_cast<size_t>(row * group.experts + e)]);
        sum += w * source[static_cast<size_t>(e)];
        if (sigmoids) shift += w * element(bias.data, bias.dtype, e);
      }
      values.push_back(sigmoids && in_logits ? sigmoid(sum) : sum);
      mapped.push_back(values.back() + shift);
    }
    std::vector<int32_t> order;
    for (int32_t row = 0; row < group.kept; ++row) order.push_back(row);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return mapped[static_cast<size_t>(a)] > mapped[static_cast<size_t>(b)];
    });
    int32_t k = std::min(plan_.top_k, group.kept);
    for (int32_t i = 0; i < k && i + 1 < group.kept; ++i) {
      const double gap = mapped[static_cast<size_t>(order[static_cast<size_t>(i)])] -
                         mapped[static_cast<size_t>(order[static_cast<size_t>(i + 1)])];
      if (gap > 0) smallest_gap = std::min(smallest_gap, gap);
    }
    if (k < group.kept) {
      const double gap = mapped[static_cast<size_t>(order[static_cast<size_t>(k - 1)])] -
                         mapped[static_cast<size_t>(order[static_cast<size_t>(k)])];
      if (gap > 0) smallest_margin = std::min(smallest_margin, gap);
    }
    const Vec weights = sigmoids ? values : in_logits ? softmax(mapped) : mapped;
    const auto weight_of = [&](int32_t slot) {
      return weights[static_cast<size_t>(order[static_cast<size_t>(slot)])];
    };
    const double least = static_cast<double>(skip_below) * weight_of(0);
    for (int32_t i = 1; i < k && skip_below > 0; ++i)
      smallest_margin = std::min(smallest_margin, std::fabs(weight_of(i) - least));
    while (k > 1 && skip_below > 0 && weight_of(k - 1) < least) --k;
    double sum = 0;
    for (int32_t i = 0; i < k; ++i) sum += weight_of(i);
    std::vector<std::pair<int32_t, double>> chosen;
    for (int32_t i = 0; i < k; ++i) {
      const int32_t row = order[static_cast<size_t>(i)];
      chosen.emplace_back(row, config_.norm_topk_prob ? weights[static_cast<size_t>(row)] / sum
                                                      : weights[static_cast<size_t>(row)]);
      chosen.back().second *= static_cast<double>(config_.router_scale);
    }
    return chosen;
  }

  static double sigmoid(double z) { return 1.0 / (1.0 + std::exp(-z)); }
  static Vec each_sigmoid(Vec values) {
    for (double& value : values) value = sigmoid(value);
    return values;
  }
  static Vec softmax(Vec values) {
    const double largest = *std::max_element(values.begin(), values.end());
    double sum = 0;
    for (double& value : values) sum += value = std::exp(value - largest);
    for (double& value : values) value /= sum;
    return values;
  }
  static void add(Vec& to, const Vec& what, double scale) {
    for (size_t i = 0; i < to.size(); ++i) to[i] += scale * what[i];
  }

  const RawModel& raw_;
  const ModelConfig& config_;
  const ExpertPlan& plan_;
};

}  // namespace eep::test
