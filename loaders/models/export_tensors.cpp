// One StreamedTensor per tensor of the architecture. A part is a block of rows: what is held at once does not
// grow with the model.
#include "loaders/models/export_tensors.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "engine/coded_matrix.h"
#include "kernels/expert_merge.h"
#include "loaders/models/families.h"

namespace eep {

namespace {

constexpr int64_t kPartElements = int64_t{1} << 22;

int64_t rows_of_part(int64_t n, int64_t k) {
  return std::clamp<int64_t>(kPartElements / std::max<int64_t>(k, 1), 1, n);
}

// Rows begin..end, row-major and aligned: where they lie, or gathered into `buffer`.
const void* contiguous_rows(const StoredMatrix& matrix, int64_t begin, int64_t end,
                            std::vector<uint8_t>& buffer) {
  const size_t element = matrix.element;
  const uint8_t* first = matrix.data + static_cast<size_t>(begin * matrix.row_stride) * element;
  const bool row_major = matrix.column_stride == 1 && matrix.row_stride == matrix.k;
  if (row_major && reinterpret_cast<uintptr_t>(first) % element == 0) return first;
  buffer.resize(static_cast<size_t>((end - begin) * matrix.k) * element);
  if (row_major) {
    std::memcpy(buffer.data(), first, buffer.size());
    return buffer.data();
  }
  uint8_t* out = buffer.data();
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t column = 0; column < matrix.k; ++column, out += element) {
      const int64_t offset = row * matrix.row_stride + column * matrix.column_stride;
      std::memcpy(out, matrix.data + static_cast<size_t>(offset) * element, element);
    }
  }
  return buffer.data();
}

// The same of a matrix's values.
const void* contiguous_rows(const RawMatrix& matrix, int64_t begin, int64_t end,
                            std::vector<uint8_t>& buffer) {
  if (!matrix.coded()) return contiguous_rows(stored_values(matrix), begin, end, buffer);
  buffer.resize(static_cast<size_t>((end - begin) * matrix.k) * dtype_size(matrix.dtype));
  decode_rows(matrix, begin, end, buffer.data());
  return buffer.data();
}

// Of values (RawMatrix), or of what is stored.
template <typename Matrix>
void copy_matrix(const Matrix& matrix, size_t element, const ByteSink& sink) {
  std::vector<uint8_t> buffer;
  const int64_t step = rows_of_part(matrix.n, matrix.k);
  for (int64_t begin = 0; begin < matrix.n; begin += step) {
    const int64_t end = std::min(begin + step, matrix.n);
    sink(contiguous_rows(matrix, begin, end, buffer),
         static_cast<size_t>((end - begin) * matrix.k) * element);
  }
}

// sum_i coefficient[i] * base[i], the same arithmetic as the merge of a plan in memory.
void merge_matrix(const std::vector<RawMatrix>& base,
                  const float* coefficient,  // [base.size()]
                  bool eep_rounding, const Device& device, const ByteSink& sink) {
  const RawMatrix& shape = base[0];
  std::vector<std::vector<uint8_t>> gathered(base.size());
  std::vector<const void*> parts(base.size());
  // All experts' parts may be held at once, however many experts there are.
  constexpr int64_t kExperts = 8;
  const int64_t shrink = std::max<int64_t>(static_cast<int64_t>(base.size()) / kExperts, 1);
  const int64_t step = std::max<int64_t>(rows_of_part(shape.n, shape.k) / shrink, 1);
  Buffer merged(static_cast<size_t>(step * shape.k) * dtype_size(shape.dtype));
  void* const target = merged.data();
  for (int64_t begin = 0; begin < shape.n; begin += step) {
    const int64_t end = std::min(begin + step, shape.n);
    for (size_t expert = 0; expert < base.size(); ++expert) {
      if (coefficient[expert] == 0.0f) continue;  // skipped by the kernel too
      parts[expert] = contiguous_rows(base[expert], begin, end, gathered[expert]);
    }
    ExpertMergeArgs args;
    args.base = parts.data();
    args.experts = static_cast<int32_t>(base.size());
    args.elements = (end - begin) * shape.k;
    args.dtype = shape.dtype;
    args.coefficient = coefficient;
    args.rows = 1;
    args.merged = &target;
    args.eep_rounding = eep_rounding;
    expert_merge_cpu(args, device);
    sink(merged.data(), static_cast<size_t>(args.elements) * dtype_size(shape.dtype));
  }
}

// The base row of a one-hot row of coefficients, -1 if it is not one-hot.
int32_t one_hot_row(const float* row, int32_t experts) {
  const std::vector<int32_t> hot = one_hot_rows({row, row + experts}, 1, experts);
  return hot.empty() ? -1 : hot[0];
}

RawMatrix row_of(const RawMatrix& matrix, int64_t row) {
  RawMatrix single = matrix;
  single.data =
      static_cast<const uint8_t*>(matrix.data) +
      static_cast<size_t>(row * matrix.row_stride) * (matrix.coded() ? 1 : dtype_size(matrix.dtype));
  single.scales.first_row += row;
  single.n = 1;
  return single;
}

class Lister {
 public:
  Lister(const RawModel& model, const ExpertPlan& plan, ExportFormat format, const Device& device)
      : model_(model),
        plan_(plan),
        format_(format),
        device_(device),
        keeps_codes_(stays_coded(model, plan)) {}

  std::vector<StreamedTensor> list() {
    vector("model.embed_tokens.weight", model_.embedding);
    for (size_t index = 0; index < model_.layers.size(); ++index) {
      layer("model.layers." + std::to_string(index) + ".", static_cast<int32_t>(index), model_.layers[index]);
    }
    vector("model.norm.weight", model_.final_norm);
    if (!model_.config.tie_word_embeddings) matrix("lm_head.weight", model_.lm_head);
    return std::move(tensors_);
  }

 private:
  void add(std::string name, DType dtype, std::vector<int64_t> shape,
           std::function<void(const ByteSink&)> produce, Code code = Code::kNone) {
    tensors_.push_back({{std::move(name), dtype, std::move(shape), code}, std::move(produce)});
  }

  void vector(const std::string& name, const Tensor& tensor) {
    if (!tensor) return;
    std::vector<int64_t> shape(tensor.shape.begin(), tensor.shape.begin() + tensor.rank);
    add(name, tensor.dtype, std::move(shape), [tensor](const ByteSink& sink) {
      constexpr size_t kPart = static_cast<size_t>(kPartElements);
      const auto* bytes = tensor.as<uint8_t>();
      for (size_t at = 0; at < tensor.bytes(); at += kPart) {
        sink(bytes + at, std::min(kPart, tensor.bytes() - at));
      }
    });
  }

  void matrix(const std::string& name, const RawMatrix& matrix) {
    if (!matrix) return;
    if (matrix.coded() && keeps_codes_) return coded(name, matrix);
    add(name, matrix.dtype, {matrix.n, matrix.k},
        [matrix](const ByteSink& sink) { copy_matrix(matrix, dtype_size(matrix.dtype), sink); });
  }

  // Numbers and scales as they are stored.
  void coded(const std::string& name, const RawMatrix& matrix) {
    const BlockScales& blocks = matrix.scales;
    const StoredMatrix scales = stored_scales(matrix);
    std::vector<int64_t> shape{scales.n, scales.k};
    shape.resize(static_cast<size_t>(blocks.rank));
    add(name, matrix.dtype, {matrix.n, matrix.k}, copying(stored_codes(matrix)), Code::kE4M3);
    add(name + "_scale_inv", blocks.dtype, std::move(shape), copying(scales), blocks.code);
  }

  static std::function<void(const ByteSink&)> copying(const StoredMatrix& matrix) {
    return [matrix](const ByteSink& sink) { copy_matrix(matrix, matrix.element, sink); };
  }

  void layer(const std::string& prefix, int32_t index, const RawLayer& layer) {
    const std::string attention = prefix + "self_attn.";
    vector(prefix + "input_layernorm.weight", layer.input_norm);
    for (const auto& [letter, weight, bias] : {std::tuple{"q", &layer.q, &layer.q_bias},
                                               {"k", &layer.k, &layer.k_bias},
                                               {"v", &layer.v, &layer.v_bias}}) {
      matrix(attention + letter + "_proj.weight", *weight);
      vector(attention + letter + "_proj.bias", *bias);
    }
    matrix(attention + "o_proj.weight", layer.o);
    vector(attention + "q_norm.weight", layer.q_norm);
    vector(attention + "k_norm.weight", layer.k_norm);
    vector(prefix + "post_attention_layernorm.weight", layer.post_norm);
    const std::string mlp = prefix + family_row(model_.config.family).mlp;
    if (model_.config.sparse[static_cast<size_t>(index)] == 0) return ffn(mlp, layer.dense);
    const PlanGroup& group = group_of(index);
    router(mlp + "gate.weight", layer.router, group);
    router_bias(mlp + "gate.e_score_correction_bias", layer.router_bias, group);
    for (int32_t row = 0; row < group.kept; ++row) {
      expert(mlp + "experts." + std::to_string(row) + ".", layer.experts, group, row);
    }
    ffn(mlp + family_row(model_.config.family).shared, layer.shared);
    matrix(mlp + "shared_expert_gate.weight", layer.shared_gate);
  }

  const PlanGroup& group_of(int32_t layer) const {
    return *std::find_if(plan_.groups.begin(), plan_.groups.end(), [&](const PlanGroup& group) {
      return std::find(group.layers.begin(), group.layers.end(), layer) != group.layers.end();
    });
  }

  void ffn(const std::string& prefix, const RawFfn& ffn) {
    matrix(prefix + "gate_proj.weight", ffn.gate);
    matrix(prefix + "up_proj.weight", ffn.up);
    matrix(prefix + "down_proj.weight", ffn.down);
  }

  void router(const std::string& name, const RawMatrix& gate, const PlanGroup& group) {
    if (format_ == ExportFormat::kNative) return matrix(name, gate);
    add(name, gate.dtype, {group.kept, gate.k}, mapped_rows(gate, group));
  }

  // W_RM gate: rows selected or summed.
  std::function<void(const ByteSink&)> mapped_rows(const RawMatrix& gate, const PlanGroup& group) const {
    return [device = device_, gate, &group](const ByteSink& sink) {
      std::vector<RawMatrix> rows;
      for (int32_t expert = 0; expert < group.experts; ++expert) rows.push_back(row_of(gate, expert));
      for (int32_t row = 0; row < group.kept; ++row) {
        const float* coefficient = group.router_mapping.data() + int64_t{row} * group.experts;
        const int32_t hot = one_hot_row(coefficient, group.experts);
        if (hot >= 0) {
          copy_matrix(rows[static_cast<size_t>(hot)], dtype_size(gate.dtype), sink);
        } else {
          merge_matrix(rows, coefficient, /*eep_rounding=*/false, device, sink);
        }
      }
    };
  }

  // A column of the gate as far as a map goes.
  void router_bias(const std::string& name, const Tensor& bias, const PlanGroup& group) {
    if (!bias || format_ == ExportFormat::kNative) return vector(name, bias);
    const RawMatrix column{bias.data, bias.dtype, group.experts, 1, 1, 1};
    add(name, bias.dtype, {group.kept}, mapped_rows(column, group));
  }

  void expert(const std::string& prefix, const std::vector<RawFfn>& experts, const PlanGroup& group,
              int32_t row) {
    const FamilyRow& names = family_row(model_.config.family);
    const float* coefficient = group.expert_merging.data() + int64_t{row} * group.experts;
    const int32_t hot = one_hot_row(coefficient, group.experts);
    for (const auto& [name, member] :
         {std::pair{names.gate, &RawFfn::gate}, {names.up, &RawFfn::up}, {names.down, &RawFfn::down}}) {
      if (hot >= 0) {
        matrix(prefix + name, experts[static_cast<size_t>(hot)].*member);
        continue;
      }
      const RawMatrix& shape = experts[0].*member;
      add(prefix + name, shape.dtype, {shape.n, shape.k},
          [rounding = model_.config.parity == Parity::kEep, device = device_, member = member, &experts,
           coefficient](const ByteSink& sink) {
            std::vector<RawMatrix> base;
            for (const RawFfn& each : experts) base.push_back(each.*member);
            merge_matrix(base, coefficient, rounding, device, sink);
          });
    }
  }

  const RawModel& model_;
  const ExpertPlan& plan_;
  ExportFormat format_;
  Device device_;
  bool keeps_codes_;
  std::vector<StreamedTensor> tensors_;
};

// The blocks of a part of a fused tensor may begin elsewhere than those of a tensor of its own.
bool has_own_blocks(const RawMatrix& matrix, const Fp8Blocks& fp8) {
  const BlockScales& scales = matrix.scales;
  if (!matrix.coded() || fp8.rows == 0) return true;
  return scales.block_rows == fp8.rows && scales.block_columns == fp8.columns &&
         scales.first_row % scales.block_rows == 0 && scales.first_column % scales.block_columns == 0;
}

bool selects_experts(const PlanGroup& group) {
  return !one_hot_rows(group.expert_merging, group.kept, group.experts).empty();
}

}  // namespace

bool stays_coded(const RawModel& model, const ExpertPlan& plan) {
  if (!model.config.fp8.there || model.config.fp8.names_experts) return false;
  if (!std::all_of(plan.groups.begin(), plan.groups.end(), selects_experts)) return false;
  for (const RawLayer& layer : model.layers) {
    if (layer.router.coded()) return false;  // its rows are selected or mixed one by one
    for (const RawFfn& expert : layer.experts) {
      for (const RawMatrix* matrix : {&expert.gate, &expert.up, &expert.down}) {
        if (!has_own_blocks(*matrix, model.config.fp8)) return false;
      }
    }
  }
  return true;
}

std::vector<StreamedTensor> export_tensors(const RawModel& model, const ExpertPlan& plan, ExportFormat format,
                                           const Device& device, MtpExport mtp) {
  std::vector<StreamedTensor> extra = export_mtp(model, plan, mtp, stays_coded(model, plan));
  std::vector<StreamedTensor> tensors = Lister(model, plan, format, device).list();
  std::move(extra.begin(), extra.end(), std::back_inserter(tensors));
  return tensors;
}

}  // namespace eep
