// Names tell what a tensor is: experts.N. one expert's, experts.NAME all experts' on the first axis, gate the
// router's.
#include "loaders/models/mtp.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "kernels/common/error.h"

namespace eep {

namespace {

// The source's experts that the last layer with experts keeps, in their order; empty where any is mixed.
std::vector<int32_t> kept_experts(const ExpertPlan& plan) {
  const PlanGroup* last = &plan.groups.front();
  int32_t layer = -1;
  for (const PlanGroup& group : plan.groups) {
    const int32_t highest = *std::max_element(group.layers.begin(), group.layers.end());
    if (highest < layer) continue;
    layer = highest;
    last = &group;
  }
  const std::vector<int32_t> rows = one_hot_rows(last->router_mapping, last->kept, last->experts);
  return rows == one_hot_rows(last->expert_merging, last->kept, last->experts) ? rows
                                                                               : std::vector<int32_t>{};
}

// SafetensorsSpec knows the dtypes that are written; what else a file may hold is refused.
SafetensorsSpec spec_of(const ExtraTensor& tensor) {
  const SafetensorsEntry& entry = tensor.entry;
  SafetensorsSpec spec{entry.name, DType::kF32, entry.shape, Code::kNone};
  for (DType known : {DType::kF32, DType::kF16, DType::kBF16, DType::kI32}) {
    spec.dtype = known;
    if (tensor.entry.dtype == dtype_name(known)) return spec;
  }
  for (Code known : {Code::kE4M3, Code::kE8M0}) {
    spec.code = known;
    if (tensor.entry.dtype == code_name(known)) return spec;
  }
  throw Error(ExitCode::kData, tensor.entry.name, "dtype " + tensor.entry.dtype + " cannot be written",
              "--mtp drop leaves it out");
}

void copy(const uint8_t* data, size_t bytes, const ByteSink& sink) {
  constexpr size_t kPart = size_t{1} << 22;
  for (size_t at = 0; at < bytes; at += kPart) sink(data + at, std::min(kPart, bytes - at));
}

class Pruner {
 public:
  Pruner(std::vector<int32_t> kept, int64_t experts) : kept_(std::move(kept)), experts_(experts) {}

  // What is left of a tensor: nothing, itself under another number, or some of its rows.
  void add(const ExtraTensor& tensor, std::vector<StreamedTensor>& out) const {
    SafetensorsSpec spec = spec_of(tensor);
    const std::string marker = ".experts.";
    const size_t found = tensor.entry.name.find(marker);
    const size_t begin = found + marker.size();
    int64_t number = -1;
    if (found != std::string::npos) {
      const auto [end, error] = std::from_chars(tensor.entry.name.data() + begin,
                                                tensor.entry.name.data() + tensor.entry.name.size(), number);
      if (error == std::errc() && *end == '.') {
        const auto place = std::find(kept_.begin(), kept_.end(), number);
        if (place == kept_.end()) return;
        spec.name =
            tensor.entry.name.substr(0, begin) + std::to_string(place - kept_.begin()) + std::string(end);
        return whole(tensor, std::move(spec), out);
      }
    }
    const bool router = tensor.entry.name.find(".gate.") != std::string::npos;
    const bool rows = !tensor.entry.shape.empty() && tensor.entry.shape[0] == experts_;
    if (!rows || (found == std::string::npos && !router)) return whole(tensor, std::move(spec), out);
    spec.shape[0] = static_cast<int64_t>(kept_.size());
    const size_t row_bytes = tensor.entry.bytes / static_cast<size_t>(experts_);
    out.push_back({std::move(spec), [tensor, row_bytes, kept = kept_](const ByteSink& sink) {
                     for (int32_t row : kept)
                       copy(tensor.data + static_cast<size_t>(row) * row_bytes, row_bytes, sink);
                   }});
  }

  static void whole(const ExtraTensor& tensor, SafetensorsSpec spec, std::vector<StreamedTensor>& out) {
    out.push_back(
        {std::move(spec), [tensor](const ByteSink& sink) { copy(tensor.data, tensor.entry.bytes, sink); }});
  }

 private:
  std::vector<int32_t> kept_;
  int64_t experts_;
};

}  // namespace

bool is_mtp(const std::string& name, int64_t first, int64_t past) {
  if (name.starts_with("mtp.") || name.starts_with("model.mtp.")) return true;
  const std::string layers = "model.layers.";
  if (!name.starts_with(layers)) return false;
  int64_t number = -1;
  std::from_chars(name.data() + layers.size(), name.data() + name.size(), number);
  return number >= first && number < past;
}

std::vector<ExtraTensor> mtp_tensors(const RawModel& model) {
  std::vector<ExtraTensor> found;
  for (const MappedFile& file : model.files) {
    for (SafetensorsEntry& entry : parse_safetensors(file.data(), file.size(), file.path()).entries) {
      if (!is_mtp(entry.name, model.config.num_layers, INT64_MAX)) continue;
      const uint8_t* data = file.data() + entry.offset;
      found.push_back({std::move(entry), data});
    }
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.entry.name < b.entry.name; });
  return found;
}

MtpExport mtp_of_export(const RawModel& exported, const RawModel& source) {
  const std::vector<ExtraTensor> left = mtp_tensors(exported), all = mtp_tensors(source);
  if (left.empty()) return MtpExport::kDrop;
  const auto same = [](const ExtraTensor& a, const ExtraTensor& b) {
    return a.entry.name == b.entry.name && a.entry.shape == b.entry.shape;
  };
  return std::equal(left.begin(), left.end(), all.begin(), all.end(), same) ? MtpExport::kKeep
                                                                            : MtpExport::kPrune;
}

std::vector<StreamedTensor> export_mtp(const RawModel& model, const ExpertPlan& plan, MtpExport mtp,
                                       bool coded) {
  const std::vector<ExtraTensor> found = mtp_tensors(model);
  std::vector<StreamedTensor> tensors;
  if (found.empty() || mtp == MtpExport::kDrop) return tensors;
  const std::string& first = found.front().entry.name;
  if (mtp == MtpExport::kRefuse) {
    throw Error(
        ExitCode::kData, first,
        "the checkpoint has layers for multi-token prediction, which a plan says nothing of",
        "eep export --mtp drop leaves them out, keep copies them, prune selects the last layer's experts in "
        "them");
  }
  for (const ExtraTensor& tensor : found) {
    if (coded || tensor.entry.dtype != code_name(Code::kE4M3)) continue;
    throw Error(ExitCode::kData, tensor.entry.name, "in 8 bits, and the export's other matrices are not",
                "use --mtp drop");
  }
  std::vector<int32_t> kept;
  if (mtp == MtpExport::kPrune) {
    kept = kept_experts(plan);
    if (kept.empty()) {
      throw Error(ExitCode::kData, first,
                  "the plan merges experts of the last layer, so none can be selected here",
                  "use --mtp drop or keep");
    }
  }
  const Pruner pruner(std::move(kept), model.config.num_experts);
  for (const ExtraTensor& tensor : found) {
    if (mtp == MtpExport::kPrune) {
      pruner.add(tensor, tensors);
    } else {
      Pruner::whole(tensor, spec_of(tensor), tensors);
    }
  }
  return tensors;
}

}  // namespace eep
