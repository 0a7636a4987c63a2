#include "experiments/study/rank_messages.h"

#include "engine/stages.h"
#include "es/bytes.h"

namespace eep {
namespace {

constexpr const char* kWhere = "message";

void put_string(const std::string& text, std::string& out) {
  put(static_cast<uint64_t>(text.size()), out);
  out += text;
}
std::string take_string(std::string_view& bytes) {
  const auto size = take<uint64_t>(bytes, kWhere);
  return std::string(take_bytes(bytes, static_cast<size_t>(size), kWhere));
}

template <typename T>
void put_list(const std::vector<T>& values, std::string& out) {
  put(static_cast<uint64_t>(values.size()), out);
  for (const T value : values) put(value, out);
}
template <typename T>
std::vector<T> take_list(std::string_view& bytes) {
  const auto size = take<uint64_t>(bytes, kWhere);
  if (size > bytes.size() / sizeof(T)) throw Error(ExitCode::kData, kWhere, "truncated");
  std::vector<T> values(static_cast<size_t>(size));
  for (T& value : values) value = take<T>(bytes, kWhere);
  return values;
}

// Structured bindings of all members: a new one does not compile before it is sent as well.
void put_plan(const ExpertPlan& plan, std::string& out) {
  const auto& [groups, top_k, router_space] = plan;
  put(top_k, out);
  put(static_cast<uint8_t>(router_space), out);
  put(static_cast<uint64_t>(groups.size()), out);
  for (const PlanGroup& group : groups) {
    const auto& [layers, kept, experts, router_mapping, expert_merging, skip_below] = group;
    put_list(layers, out);
    put(kept, out);
    put(experts, out);
    put_list(router_mapping, out);
    put_list(expert_merging, out);
    put_list(skip_below, out);
  }
}

ExpertPlan take_plan(std::string_view& bytes) {
  ExpertPlan plan;
  plan.top_k = take<int32_t>(bytes, kWhere);
  plan.router_space = static_cast<RouterSpace>(take<uint8_t>(bytes, kWhere));
  for (auto groups = take<uint64_t>(bytes, kWhere); groups > 0; --groups) {
    PlanGroup group;
    group.layers = take_list<int32_t>(bytes);
    group.kept = take<int32_t>(bytes, kWhere);
    group.experts = take<int32_t>(bytes, kWhere);
    group.router_mapping = take_list<float>(bytes);
    group.expert_merging = take_list<float>(bytes);
    group.skip_below = take_list<float>(bytes);
    plan.groups.push_back(std::move(group));
  }
  return plan;
}

// Of values without pointers.
template <typename T>
void put_values(const std::vector<T>& values, std::string& out) {
  put(static_cast<uint64_t>(values.size()), out);
  out += bytes_of(std::span<const T>(values));
}
template <typename T>
std::vector<T> take_values(std::string_view& bytes) {
  const auto size = take<uint64_t>(bytes, kWhere);
  if (size > bytes.size() / sizeof(T)) throw Error(ExitCode::kData, kWhere, "truncated");
  return values_of<T>(take_bytes(bytes, static_cast<size_t>(size) * sizeof(T), kWhere));
}

void put_prompts(const Prompts& prompts, std::string& out) {
  const auto& [tokens, positions, nodes, node_of_row, scores, tokens_without_sharing] = prompts;
  put_values(tokens, out);
  put_values(positions, out);
  put_values(nodes, out);
  put_values(node_of_row, out);
  put_values(scores, out);
  put(tokens_without_sharing, out);
}

Prompts take_prompts(std::string_view& bytes) {
  Prompts prompts;
  prompts.tokens = take_values<int32_t>(bytes);
  prompts.positions = take_values<int32_t>(bytes);
  prompts.nodes = take_values<PromptNode>(bytes);
  prompts.node_of_row = take_values<int32_t>(bytes);
  prompts.scores = take_values<ScorePosition>(bytes);
  prompts.tokens_without_sharing = take<int64_t>(bytes, kWhere);
  return prompts;
}

void put_calibration(const CalibrationRequest& request, std::string& out) {
  const CalibrationSums& sums = request.sums;
  put_list(sums.subset_kept, out);
  for (const int64_t value : {sums.subset_tokens, sums.subset_batch, sums.max_exhaustive}) put(value, out);
  for (const bool flag : {sums.details, sums.every_expert}) put(static_cast<uint8_t>(flag), out);
  put(static_cast<uint64_t>(request.subsets.size()), out);
  for (const auto& layer : request.subsets) {
    put(static_cast<uint64_t>(layer.size()), out);
    for (const auto& subsets : layer) {
      put(static_cast<uint64_t>(subsets.size()), out);
      for (const std::vector<int32_t>& subset : subsets) put_values(subset, out);
    }
  }
}

CalibrationRequest take_calibration(std::string_view& bytes) {
  CalibrationRequest request;
  CalibrationSums& sums = request.sums;
  sums.subset_kept = take_list<int32_t>(bytes);
  for (int64_t* value : {&sums.subset_tokens, &sums.subset_batch, &sums.max_exhaustive})
    *value = take<int64_t>(bytes, kWhere);
  for (bool* flag : {&sums.details, &sums.every_expert}) *flag = take<uint8_t>(bytes, kWhere) != 0;
  for (auto layers = take<uint64_t>(bytes, kWhere); layers > 0; --layers) {
    auto& layer = request.subsets.emplace_back();
    for (auto counts = take<uint64_t>(bytes, kWhere); counts > 0; --counts) {
      auto& subsets = layer.emplace_back();
      for (auto number = take<uint64_t>(bytes, kWhere); number > 0; --number)
        subsets.push_back(take_values<int32_t>(bytes));
    }
  }
  return request;
}

void put_item(const ItemScore& item, std::string& out) {
  const auto& [metric, more, right_loglik, prediction, output, log_probabilities, right, decided] = item;
  put(metric, out);
  put_list(more, out);
  put(right_loglik, out);
  put(prediction, out);
  put_list(output, out);
  put_list(log_probabilities, out);
  put(right, out);
  put(static_cast<uint8_t>(decided), out);
}

ItemScore take_item(std::string_view& bytes) {
  ItemScore item;
  item.metric = take<double>(bytes, kWhere);
  item.more = take_list<double>(bytes);
  item.right_loglik = take<double>(bytes, kWhere);
  item.prediction = take<int32_t>(bytes, kWhere);
  item.output = take_list<int32_t>(bytes);
  item.log_probabilities = take_list<float>(bytes);
  item.right = take<int32_t>(bytes, kWhere);
  item.decided = take<uint8_t>(bytes, kWhere) != 0;
  return item;
}

}  // namespace

std::string stage_request_bytes(const StageRequest& request) {
  std::string out;
  put(static_cast<uint8_t>(request.kind), out);
  put(request.combination, out);
  put(request.room, out);
  put(static_cast<uint64_t>(request.plans.size()), out);
  for (const ExpertPlan& plan : request.plans) put_plan(plan, out);
  put_prompts(request.prompts, out);
  put_calibration(request.calibration, out);
  return out;
}

StageRequest stage_request_of(std::string_view bytes) {
  StageRequest request;
  request.kind = static_cast<StageRequest::Kind>(take<uint8_t>(bytes, kWhere));
  request.combination = take<int32_t>(bytes, kWhere);
  request.room = take<uint64_t>(bytes, kWhere);
  for (auto plans = take<uint64_t>(bytes, kWhere); plans > 0; --plans)
    request.plans.push_back(take_plan(bytes));
  request.prompts = take_prompts(bytes);
  request.calibration = take_calibration(bytes);
  return request;
}

std::string calibration_work_bytes(const CalibrationWork& work) {
  std::string out;
  put(work.combination, out);
  put_string(work.model, out);
  put_calibration(work.request, out);
  return out;
}

CalibrationWork calibration_work_of(std::string_view bytes) {
  CalibrationWork work;
  work.combination = take<int32_t>(bytes, kWhere);
  work.model = take_string(bytes);
  work.request = take_calibration(bytes);
  return work;
}

std::string calibration_part_bytes(const CalibrationPart& part) {
  std::string out;
  put(part.number, out);
  put(part.next, out);
  put(static_cast<uint8_t>(part.here), out);
  put_prompts(part.prompts, out);
  return out;
}

CalibrationPart calibration_part_of(std::string_view bytes) {
  CalibrationPart part;
  part.number = take<int64_t>(bytes, kWhere);
  part.next = take<int32_t>(bytes, kWhere);
  part.here = take<uint8_t>(bytes, kWhere) != 0;
  part.prompts = take_prompts(bytes);
  return part;
}

std::string ratios_work_bytes(const RatiosWork& work) {
  std::string out;
  put(work.combination, out);
  put_string(work.model, out);
  put_plan(work.plan, out);
  put_prompts(work.prompts, out);
  return out;
}

RatiosWork ratios_work_of(std::string_view bytes) {
  RatiosWork work;
  work.combination = take<int32_t>(bytes, kWhere);
  work.model = take_string(bytes);
  work.plan = take_plan(bytes);
  work.prompts = take_prompts(bytes);
  return work;
}

std::string ratios_bytes(const WeightRatios& ratios) {
  std::string out;
  put(static_cast<uint64_t>(ratios.size()), out);
  for (const std::vector<float>& layer : ratios) put_values(layer, out);
  return out;
}

WeightRatios ratios_of(std::string_view bytes) {
  WeightRatios ratios;
  for (auto layers = take<uint64_t>(bytes, kWhere); layers > 0; --layers)
    ratios.push_back(take_values<float>(bytes));
  return ratios;
}

std::string layer_sums_bytes(const LayerSums& sums) {
  std::string out;
  put(sums.part, out);
  put(sums.layer, out);
  out += sums.bytes;
  return out;
}

LayerSums layer_sums_of(std::string_view bytes) {
  LayerSums sums;
  sums.part = take<int64_t>(bytes, kWhere);
  sums.layer = take<int32_t>(bytes, kWhere);
  sums.bytes = bytes;
  return sums;
}

std::string progress_bytes(const RankProgress& progress) {
  std::string out;
  put(progress.number, out);
  for (const int64_t count : {progress.scored, progress.decoded, progress.open}) put(count, out);
  return out;
}

RankProgress progress_of(std::string_view bytes) {
  RankProgress progress;
  progress.number = take<int32_t>(bytes, kWhere);
  for (int64_t* count : {&progress.scored, &progress.decoded, &progress.open})
    *count = take<int64_t>(bytes, kWhere);
  return progress;
}

std::string work_bytes(const RankWork& work) {
  std::string out;
  put(work.number, out);
  put(work.combination, out);
  put(work.set, out);
  for (const std::string* text : {&work.model, &work.data, &work.known}) put_string(*text, out);
  put(static_cast<uint64_t>(work.parts.size()), out);
  for (const RankWorkPart& part : work.parts) {
    put(static_cast<uint64_t>(part.plans.size()), out);
    for (const ExpertPlan& plan : part.plans) put_plan(plan, out);
    put_list(part.items, out);
  }
  return out;
}

RankWork work_of(std::string_view bytes) {
  RankWork work;
  work.number = take<int32_t>(bytes, kWhere);
  work.combination = take<int32_t>(bytes, kWhere);
  work.set = take<uint8_t>(bytes, kWhere);
  for (std::string* text : {&work.model, &work.data, &work.known}) *text = take_string(bytes);
  for (auto parts = take<uint64_t>(bytes, kWhere); parts > 0; --parts) {
    RankWorkPart part;
    for (auto plans = take<uint64_t>(bytes, kWhere); plans > 0; --plans)
      part.plans.push_back(take_plan(bytes));
    part.items = take_list<int32_t>(bytes);
    work.parts.push_back(std::move(part));
  }
  return work;
}

std::string result_bytes(const RankResult& result) {
  std::string out;
  put(result.number, out);
  put(result.seconds, out);
  const auto& [computed, asked, merged, merge_bytes, expert_bytes, kept, steps, drafted, accepted, router] =
      result.work;
  for (const int64_t count : {computed, asked, merged, merge_bytes, expert_bytes, kept, steps, drafted,
                              accepted, int64_t{router.tiny_sums}, int64_t{router.negative_sums}})
    put(count, out);
  put(static_cast<uint64_t>(result.items.size()), out);
  for (const auto& part : result.items) {
    put(static_cast<uint64_t>(part.size()), out);
    for (const std::vector<ItemScore>& items : part) {
      put(static_cast<uint64_t>(items.size()), out);
      for (const ItemScore& item : items) put_item(item, out);
    }
  }
  return out;
}

RankResult result_of(std::string_view bytes) {
  RankResult result;
  result.number = take<int32_t>(bytes, kWhere);
  result.seconds = take<double>(bytes, kWhere);
  WorkCounts& work = result.work;
  for (int64_t* count :
       {&work.tokens_computed, &work.tokens_asked, &work.merged_experts, &work.merge_bytes,
        &work.expert_bytes, &work.tokens_kept, &work.decode_steps, &work.drafted, &work.accepted})
    *count = take<int64_t>(bytes, kWhere);
  work.router.tiny_sums = take<int64_t>(bytes, kWhere);
  work.router.negative_sums = take<int64_t>(bytes, kWhere);
  for (auto parts = take<uint64_t>(bytes, kWhere); parts > 0; --parts) {
    std::vector<std::vector<ItemScore>>& part = result.items.emplace_back();
    for (auto plans = take<uint64_t>(bytes, kWhere); plans > 0; --plans) {
      std::vector<ItemScore>& list = part.emplace_back();
      for (auto items = take<uint64_t>(bytes, kWhere); items > 0; --items) list.push_back(take_item(bytes));
    }
  }
  return result;
}

}  // namespace eep
