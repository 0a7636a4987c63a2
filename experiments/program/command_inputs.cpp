#include "experiments/program/command_inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <sstream>

#include "loaders/formats/json.h"
#include "loaders/models/plan_io.h"

namespace eep {

Parity parity_named(const std::string& name) {
  if (name == "hf") return Parity::kHf;
  return name == "eep" ? Parity::kEep : Parity::kNone;
}

std::unique_ptr<ModelContext> open_model(const std::string& path, CommandContext& context,
                                         const std::string& parity, const std::string& precision, int stage,
                                         int stages) {
  const CommonOptions& options = context.options;
  const Ops& ops = options.ops_with(precision);
  auto model = std::make_unique<ModelContext>(path, Backend(ops, options.device), options.memory,
                                              parity_named(parity), stage, stages);
  if (stage == 0 && !model->raw().note.empty()) context.messages.warn(path + ": " + model->raw().note);
  if (stage == 0 && model->dtype() != model->config().dtype) {
    context.messages.info(
        fmt::format("{}: {} weights run as {} with {}", path, dtype_name(model->config().dtype),
                    dtype_name(model->dtype()),
                    ops.host_memory ? "--precision " + precision : std::string("--device ") + ops.name));
  }
  return model;
}

std::unique_ptr<ModelContext> open_model(const std::string& path, CommandContext& context) {
  return open_model(path, context, context.options.parity, context.options.precision);
}

RawModel read_checkpoint(const std::string& path, CommandContext& context) {
  RawModel model = load_checkpoint(path);
  if (!model.note.empty()) context.messages.warn(path + ": " + model.note);
  return model;
}

std::vector<int32_t> parse_ids(const std::string& text) {
  std::string plain = text;
  for (char& c : plain) {
    if (c == ',' || c == '[' || c == ']') c = ' ';
  }
  std::istringstream words(plain);
  std::vector<int32_t> ids;
  for (std::string word; words >> word;) {
    const size_t sign = word[0] == '-' ? 1 : 0;
    if (word.size() == sign || word.find_first_not_of("0123456789", sign) != std::string::npos) {
      throw Error(ExitCode::kUsage, "--ids", "not a token id (got " + word + ")");
    }
    const int64_t id = word.size() > 11 ? INT64_MAX : std::stoll(word);
    if (id > INT32_MAX || id < INT32_MIN) {
      throw Error(ExitCode::kData, "--ids", "id outside the vocabulary of any model (got " + word + ")");
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  if (ids.empty()) throw Error(ExitCode::kUsage, "--ids", "no token ids (expected at least 1)");
  return ids;
}

std::vector<std::vector<int32_t>> read_ids_file(const std::string& path) {
  const JsonDocument document = JsonDocument::read(path);
  const JsonView root = document.root().as_array();
  std::vector<std::vector<int32_t>> lists;
  for (size_t i = 0; i < root.size(); ++i) {
    const JsonView list = root.at(i).as_array();
    std::vector<int32_t> ids;
    for (size_t j = 0; j < list.size(); ++j)
      ids.push_back(static_cast<int32_t>(list.at(j).as_int(INT32_MIN, INT32_MAX)));
    if (ids.empty()) list.fail("no token ids (expected at least 1)");
    lists.push_back(std::move(ids));
  }
  if (lists.empty()) root.fail("no sequences (expected at least 1)");
  return lists;
}

ExpertPlan plan_or_identity(const std::string& path, ModelContext& model) {
  const ModelConfig& config = model.config();
  if (model.raw().plan) {
    if (path.empty()) return *model.raw().plan;
    throw Error(ExitCode::kUsage, "--plan",
                "the model already is the result of a plan (a native export, or counts by layer)",
                "apply plans to the original model");
  }
  if (path.empty()) {
    return identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                         static_cast<int32_t>(config.top_k));
  }
  PlanInfo info;
  const ExpertPlan plan = read_plan(path, &info);
  check_plan_model(
      plan, info, config, [&] { return model.hash(); }, path);
  check_plan(plan, config.sparse, static_cast<int32_t>(config.num_experts), path.c_str());
  return plan;
}

namespace {

std::string zero_rows(const std::vector<float>& matrix, int32_t columns) {
  std::string rows;
  for (size_t begin = 0, row = 0; begin < matrix.size(); begin += static_cast<size_t>(columns), ++row) {
    const auto first = matrix.begin() + static_cast<std::ptrdiff_t>(begin);
    if (std::any_of(first, first + columns, [](float value) { return value != 0; })) continue;
    rows += (rows.empty() ? "" : ", ") + std::to_string(row);
  }
  return rows;
}

}  // namespace

void warn_of_no_change(const ExpertPlan& plan, const ModelConfig& config, const std::string& path,
                       CommandContext& context) {
  if (path.empty()) return;
  for (size_t i = 0; i < plan.groups.size(); ++i) {
    const PlanGroup& group = plan.groups[i];
    const auto warn = [&](const char* matrix, const std::string& rows, const char* meaning) {
      if (!rows.empty())
        context.messages.warn(
            fmt::format("{}: groups[{}].{}: rows {} are zero: {}", path, i, matrix, rows, meaning));
    };
    warn("expert_merging", zero_rows(group.expert_merging, group.experts),
         "these experts put out nothing whatever comes in");
    warn("router_mapping", zero_rows(group.router_mapping, group.experts),
         "these experts get the same router value whatever comes in");
  }
  if (plan.top_k != config.top_k || skips_experts(plan)) return;
  bool in_order = true;
  for (const PlanGroup& group : plan.groups) {
    std::vector<int32_t> own(static_cast<size_t>(group.experts));
    std::iota(own.begin(), own.end(), 0);
    const std::vector<int32_t> gates = one_hot_rows(group.router_mapping, group.kept, group.experts);
    if (group.kept != group.experts ||
        gates != one_hot_rows(group.expert_merging, group.kept, group.experts) ||
        !std::is_permutation(gates.begin(), gates.end(), own.begin(), own.end()))
      return;
    in_order &= gates == own;
  }
  context.messages.warn(
      fmt::format("{}: the plan changes nothing: all {} experts of every layer stay as they are{}", path,
                  config.num_experts, in_order ? "" : ", in another order"));
}

}  // namespace eep
