// Plan files: reading checks everything that can be known without the model, check_plan_model the rest.
#include "loaders/models/plan_io.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>

#include "kernels/common/expected.h"

namespace eep {

namespace {

constexpr int64_t kVersion = 1;
constexpr int64_t kMaxLayers = 4096;
constexpr size_t kMaxPlanFile = size_t{256} << 20;

const char* space_name(RouterSpace space) {
  return space == RouterSpace::kProbabilities ? "probabilities" : "logits";
}

bool is_hash(const std::string& text) {
  return text.size() == 37 && text.rfind("xxh3:", 0) == 0 &&
         text.find_first_not_of("0123456789abcdef", 5) == std::string::npos;
}

PlanInfo read_info(const JsonView& root) {
  PlanInfo info;
  if (root.has_value("model")) {
    const JsonView model = root.at("model").as_object();
    model.only_keys({"family", "layers", "experts", "hash"});
    info.family = model.at("family").as_string();
    info.layers = static_cast<int32_t>(model.at("layers").as_int(1, kMaxLayers));
    info.experts = static_cast<int32_t>(model.at("experts").as_int(1, kMaxExperts));
    info.hash = model.string_or("hash", "");
    if (model.has_value("hash") && !is_hash(info.hash)) {
      model.at("hash").fail_expected("\"xxh3:\" and 32 hexadecimal digits");
    }
  }
  if (root.has_value("provenance")) info.provenance = root.at("provenance").as_object().value();
  return info;
}

// [kept, experts], row by row. experts 0: the first row decides.
std::vector<float> read_matrix(const JsonView& matrix, int32_t& kept, int32_t& experts) {
  const Json& rows = matrix.as_array().value();
  if (rows.empty()) matrix.fail_expected("at least one kept expert");
  if (rows.size() > kMaxExperts) matrix.fail_expected("at most " + std::to_string(kMaxExperts) + " rows");
  if (kept == 0) kept = static_cast<int32_t>(rows.size());
  if (rows.size() != static_cast<size_t>(kept)) {
    matrix.fail_expected("as many rows as router_mapping, " + std::to_string(kept));
  }
  std::vector<float> values;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].is_array()) matrix.at(i).fail_expected("a row of numbers");
    if (experts == 0 && !rows[i].empty() && rows[i].size() <= kMaxExperts) {
      experts = static_cast<int32_t>(rows[i].size());
    }
    if (rows[i].size() != static_cast<size_t>(experts)) {
      matrix.at(i).fail("wrong length of a row" +
                        expected_got(std::to_string(experts) + " experts", rows[i].size()));
    }
    for (size_t j = 0; j < rows[i].size(); ++j) {
      const double value = rows[i][j].is_number() ? rows[i][j].get<double>() : HUGE_VAL;
      if (!(std::fabs(value) < 0x1.ffffffp127)) {  // from here on a float is infinite
        matrix.at(i).at(j).fail_expected("a number that a float can hold");
      }
      constexpr double kLargest = std::numeric_limits<float>::max();
      values.push_back(static_cast<float>(std::clamp(value, -kLargest, kLargest)));
    }
  }
  if (kept > experts) {
    matrix.fail("more kept experts than experts" + expected_got("at most " + std::to_string(experts), kept));
  }
  return values;
}

// One a layer of the group, in [0, 1].
std::vector<float> read_thresholds(const JsonView& list, size_t layers) {
  const Json& numbers = list.as_array().value();
  if (numbers.size() != layers) {
    list.fail("wrong number of thresholds" +
              expected_got("one a layer, " + std::to_string(layers), numbers.size()));
  }
  std::vector<float> values;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const double value = numbers[i].is_number() ? numbers[i].get<double>() : -1;
    if (!(value >= 0 && value <= 1)) list.at(i).fail_expected("a number from 0 to 1");
    values.push_back(static_cast<float>(value));
  }
  return values;
}

PlanGroup read_group(const JsonView& view, const PlanInfo& info, int32_t& experts, std::set<int32_t>& seen) {
  view.only_keys({"layers", "router_mapping", "expert_merging", "skip_below"});
  PlanGroup group;
  const JsonView layers = view.at("layers").as_array();
  if (layers.size() == 0) layers.fail_expected("at least one layer");
  for (size_t i = 0; i < layers.size(); ++i) {
    const int64_t layer = layers.at(i).as_int(0, (info.layers > 0 ? info.layers : kMaxLayers) - 1);
    if (!seen.insert(static_cast<int32_t>(layer)).second) {
      layers.at(i).fail("layer " + std::to_string(layer) + " is named twice");
    }
    group.layers.push_back(static_cast<int32_t>(layer));
  }
  group.router_mapping = read_matrix(view.at("router_mapping"), group.kept, experts);
  group.expert_merging = read_matrix(view.at("expert_merging"), group.kept, experts);
  group.experts = experts;
  if (view.has_value("skip_below")) group.skip_below = read_thresholds(view.at("skip_below"), layers.size());
  return group;
}

// The fewest digits that come back as the same float through a double, which is how JSON numbers are read.
void append_number(std::string& text, float value) {
  if (value == 0) {
    text +=
        std::signbit(value) ? "-0.0" : "0";  // "-0" would be read as an integer, which has no sign of zero
    return;
  }
  char digits[32];
  *fmt::format_to(digits, "{}", value) = '\0';
  if (static_cast<float>(std::strtod(digits, nullptr)) != value) {
    *fmt::format_to(digits, "{}", static_cast<double>(value)) = '\0';
  }
  text += digits;
}

void append_matrix(std::string& text, const std::vector<float>& matrix, int32_t experts) {
  text += '[';
  for (size_t i = 0; i < matrix.size(); ++i) {
    const bool row_begins = i % static_cast<size_t>(experts) == 0;
    if (row_begins) text += i == 0 ? "\n   [" : "],\n   [";
    if (!row_begins) text += ", ";
    append_number(text, matrix[i]);
  }
  text += "]]";
}

}  // namespace

PlanInfo plan_info(const ModelConfig& config, std::string hash, Json provenance) {
  return {family_name(config.family), static_cast<int32_t>(config.num_layers),
          static_cast<int32_t>(config.num_experts), std::move(hash), std::move(provenance)};
}

ExpertPlan parse_plan(std::string text, const std::string& where, PlanInfo* info) {
  const JsonDocument document(std::move(text), where);
  const JsonView root = document.root().as_object();
  const JsonView format = root.at("format");
  if (format.as_string() != "eep-plan") format.fail_expected("\"eep-plan\"");
  const JsonView version = root.at("version");
  if (version.as_int(INT64_MIN, INT64_MAX) != kVersion) version.fail_expected(std::to_string(kVersion));
  root.only_keys({"format", "version", "model", "top_k", "router_space", "groups", "provenance"});

  PlanInfo own = read_info(root);
  ExpertPlan plan;
  plan.top_k = static_cast<int32_t>(root.at("top_k").as_int(1, kMaxTopK));
  const JsonView space = root.at("router_space");
  if (space.as_string() != space_name(RouterSpace::kProbabilities) &&
      space.as_string() != space_name(RouterSpace::kLogits)) {
    space.fail_expected("\"probabilities\" or \"logits\"");
  }
  plan.router_space = space.as_string() == "logits" ? RouterSpace::kLogits : RouterSpace::kProbabilities;

  const JsonView groups = root.at("groups").as_array();
  if (groups.size() == 0) groups.fail_expected("at least one group");
  std::set<int32_t> seen;
  int32_t experts = own.experts;
  for (size_t i = 0; i < groups.size(); ++i) {
    plan.groups.push_back(read_group(groups.at(i).as_object(), own, experts, seen));
  }
  if (info != nullptr) *info = std::move(own);
  return plan;
}

ExpertPlan read_plan(const std::string& path, PlanInfo* info) {
  return parse_plan(read_file(path, kMaxPlanFile), path, info);
}

std::string format_plan(const ExpertPlan& plan, const PlanInfo& info) {
  std::string text = fmt::format("{{\"format\": \"eep-plan\", \"version\": {},\n", kVersion);
  if (!info.family.empty()) {
    Json model = {{"family", info.family}, {"layers", info.layers}, {"experts", info.experts}};
    if (!info.hash.empty()) model["hash"] = info.hash;
    text += " \"model\": " + model.dump() + ",\n";
  }
  text += fmt::format(" \"top_k\": {}, \"router_space\": \"{}\",\n \"groups\": [", plan.top_k,
                      space_name(plan.router_space));
  for (size_t i = 0; i < plan.groups.size(); ++i) {
    const PlanGroup& group = plan.groups[i];
    text += i == 0 ? "\n" : ",\n";
    text += fmt::format("  {{\"layers\": {},\n   \"router_mapping\": ", Json(group.layers).dump());
    append_matrix(text, group.router_mapping, group.experts);
    text += ",\n   \"expert_merging\": ";
    append_matrix(text, group.expert_merging, group.experts);
    if (!group.skip_below.empty()) {
      text += ",\n   \"skip_below\": [";
      for (size_t layer = 0; layer < group.skip_below.size(); ++layer) {
        if (layer > 0) text += ", ";
        append_number(text, group.skip_below[layer]);
      }
      text += ']';
    }
    text += '}';
  }
  text += "]";
  if (!info.provenance.is_null()) {
    text += ",\n \"provenance\": " + info.provenance.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  return text + "}\n";
}

void write_plan(const std::string& path, const ExpertPlan& plan, const PlanInfo& info) {
  write_file_atomic(path, format_plan(plan, info));
}

void check_plan_model(const ExpertPlan& plan, const PlanInfo& info, const ModelConfig& config,
                      const std::function<std::string()>& model_hash, const std::string& where) {
  const auto differs = [&](const std::string& what, const std::string& plan_has,
                           const std::string& model_has) {
    throw Error(ExitCode::kData, where,
                "made for another model: " + what + expected_got(model_has, plan_has));
  };
  if (!info.family.empty()) {
    if (info.family != family_name(config.family)) {
      differs("family", printable(info.family), family_name(config.family));
    }
    if (info.layers != config.num_layers) {
      differs("layers", std::to_string(info.layers), std::to_string(config.num_layers));
    }
    if (info.experts != config.num_experts) {
      differs("experts", std::to_string(info.experts), std::to_string(config.num_experts));
    }
  }
  check_plan(plan, config.sparse, static_cast<int32_t>(config.num_experts), where.c_str());
  if (!info.hash.empty()) {
    const std::string hash = model_hash();
    if (hash != info.hash) differs("hash", info.hash, hash);
  }
}

}  // namespace eep
