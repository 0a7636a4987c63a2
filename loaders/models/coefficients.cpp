#include "loaders/models/coefficients.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "loaders/formats/json.h"

namespace eep {

namespace {

// "layers." or "transfer." followed by N or [a-b], inclusive.
struct LayerRange {
  int32_t first = 0, last = 0;
};

class Reader {
 public:
  Reader(const PthFile& file, std::string where) : file_(file), where_(std::move(where)) {}

  ExpertPlan plan(int32_t layers, int32_t top_k) {
    for (const PthTensor& tensor : file_.tensors) check_key(tensor);
    ExpertPlan plan;
    plan.top_k = top_k;
    plan.router_space = RouterSpace::kProbabilities;
    std::map<std::pair<const PthTensor*, const PthTensor*>, size_t> groups;
    for (int32_t layer = 0; layer < layers; ++layer) {
      const PthTensor& merging = find("layers.", "others", layer);
      const PthTensor& mapping = find("transfer.", "others_transfer", layer);
      const auto [entry, inserted] = groups.try_emplace({&merging, &mapping}, plan.groups.size());
      if (inserted) plan.groups.push_back(group(merging, mapping));
      plan.groups[entry->second].layers.push_back(layer);
    }
    for (const PthTensor& tensor : file_.tensors) {
      if (used_.count(&tensor) == 0) fail(tensor, fmt::format("names no layer of 0..{}", layers - 1));
    }
    return plan;
  }

 private:
  [[noreturn]] void fail(const PthTensor& tensor, const std::string& what) const {
    throw Error(ExitCode::kData, where_, printable(tensor.name) + ": " + what);
  }

  bool parse(const PthTensor& tensor, const std::string& prefix, LayerRange& range) const {
    if (tensor.name.rfind(prefix, 0) != 0) return false;
    const char* at = tensor.name.data() + prefix.size();
    const char* const end = tensor.name.data() + tensor.name.size();
    const bool bracket = at != end && *at == '[' && end[-1] == ']';
    const char* stop = bracket ? end - 1 : end;
    const auto first = std::from_chars(at + (bracket ? 1 : 0), stop, range.first);
    range.last = range.first;
    std::from_chars_result last = first;
    if (bracket && first.ec == std::errc() && first.ptr != stop && *first.ptr == '-') {
      last = std::from_chars(first.ptr + 1, stop, range.last);
    }
    return first.ec == std::errc() && last.ec == std::errc() && last.ptr == stop && range.first >= 0 &&
           range.first <= range.last;
  }

  void check_key(const PthTensor& tensor) {
    LayerRange range;
    if (tensor.name != "others" && tensor.name != "others_transfer" && !parse(tensor, "layers.", range) &&
        !parse(tensor, "transfer.", range)) {
      fail(tensor, "unknown key (expected layers.N, layers.[a-b], transfer..., others, others_transfer)");
    }
    if (tensor.shape.size() != 2 || tensor.shape[0] < 1 || tensor.shape[0] > tensor.shape[1] ||
        tensor.shape[1] > kMaxExperts) {
      fail(tensor, "wrong shape (expected [kept experts, experts])");
    }
    const std::vector<int64_t>& shape = file_.tensors[0].shape;
    if (tensor.shape[1] != shape[1]) {
      fail(tensor, "wrong number of experts" + expected_got(shape[1], tensor.shape[1]));
    }
    for (float value : tensor.values) {
      if (!std::isfinite(value)) fail(tensor, "an entry is not finite");
    }
  }

  const PthTensor& find(const std::string& prefix, const char* rest, int32_t layer) {
    for (const PthTensor& tensor : file_.tensors) {
      LayerRange range;
      if (!parse(tensor, prefix, range) || layer < range.first || layer > range.last) continue;
      used_.insert(&tensor);
      return tensor;
    }
    for (const PthTensor& tensor : file_.tensors) {
      if (tensor.name != rest) continue;
      used_.insert(&tensor);
      return tensor;
    }
    throw Error(ExitCode::kData, where_,
                fmt::format("no coefficients for layer {} (no {}{} and no {})", layer, prefix, layer, rest));
  }

  PlanGroup group(const PthTensor& merging, const PthTensor& mapping) const {
    if (merging.shape != mapping.shape) {
      fail(mapping, fmt::format("another shape than {} ([{}, {}] and [{}, {}])", printable(merging.name),
                                mapping.shape[0], mapping.shape[1], merging.shape[0], merging.shape[1]));
    }
    PlanGroup group;
    group.kept = static_cast<int32_t>(merging.shape[0]);
    group.experts = static_cast<int32_t>(merging.shape[1]);
    group.expert_merging = merging.values;
    group.router_mapping = mapping.values;
    return group;
  }

  const PthFile& file_;
  std::string where_;
  std::set<const PthTensor*> used_;
};

}  // namespace

ExpertPlan coefficients_plan(const PthFile& file, int32_t layers, int32_t top_k, const std::string& where) {
  if (file.tensors.empty()) throw Error(ExitCode::kData, where, "holds no coefficients");
  return Reader(file, where).plan(layers, top_k);
}

}  // namespace eep
