#include "loaders/models/export_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "loaders/formats/file.h"

namespace eep {

namespace {

// "a" or "2 to 6" when layers differ.
std::string kept_text(const ExpertPlan& plan) {
  const auto fewer = [](const PlanGroup& a, const PlanGroup& b) { return a.kept < b.kept; };
  const auto [least, most] = std::minmax_element(plan.groups.begin(), plan.groups.end(), fewer);
  return least->kept == most->kept ? std::to_string(least->kept)
                                   : fmt::format("{} to {}", least->kept, most->kept);
}

std::string exactness_of(const ExpertPlan& plan, bool native) {
  if (native) return "the plan itself: experts merged, the router's map kept beside the whole gate";
  if (hf_bit_exact(plan)) return "the plan to the last bit: gate rows selected, experts merged or copied";
  if (plan.router_space == RouterSpace::kProbabilities) {
    return "the plan up to rounding: gate rows selected, the softmax's normaliser cancels";
  }
  return "the plan up to the rounding of the gate: its rows are mixed by the router's map";
}

// Single-line entries of a card's YAML front matter about the licence and the languages.
std::string licence_lines(const std::string& source) {
  const std::string card = join_path(source, "README.md");
  if (!file_exists(card)) return {};
  std::istringstream text(read_file(card));
  std::string line, kept;
  if (!std::getline(text, line) || line != "---") return {};
  while (std::getline(text, line) && line != "---") {
    for (const char* key : {"license: ", "license_name: ", "license_link: ", "language: "}) {
      if (line.rfind(key, 0) == 0 && line.size() < 200) kept += line + "\n";
    }
  }
  return kept;
}

// The name that others know the source by: "org/name" in the layout of the hub's cache
// (models--org--name/snapshots/REVISION), else the directory's.
std::string public_name(const std::string& source) {
  std::error_code ignored;
  std::filesystem::path path = std::filesystem::weakly_canonical(source, ignored);
  if (path.filename().empty()) path = path.parent_path();
  constexpr std::string_view kHub = "models--";
  const std::string cached = path.parent_path().parent_path().filename().string();
  if (path.parent_path().filename() != "snapshots" || !cached.starts_with(kHub))
    return path.filename().string();
  std::string name = cached.substr(kHub.size());
  if (const size_t dashes = name.find("--"); dashes != std::string::npos) name.replace(dashes, 2, "/");
  return name;
}

// The command without the directories of this machine.
std::string public_command(const std::string& command, const std::string& source, const std::string& name) {
  std::istringstream words(command);
  std::string text;
  for (std::string word; words >> word;) {
    const size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
    const std::string option = equals == std::string::npos ? "" : word.substr(0, equals + 1);
    std::string value = word.substr(option.size());
    if (value == source) {
      value = name;
    } else if (value.find('/') != std::string::npos) {
      while (value.size() > 1 && value.ends_with('/')) value.pop_back();
      value = value.substr(value.rfind('/') + 1);
    }
    text += (text.empty() ? "" : " ") + option + value;
  }
  return text;
}

}  // namespace

ExportFacts export_facts(const ModelConfig& config, const std::string& source, const ExpertPlan& plan,
                         const PlanInfo& info, const ExportOptions& options) {
  ExportFacts facts;
  facts.native = options.format == ExportFormat::kNative;
  facts.source_name = public_name(source);
  facts.command = public_command(options.command, source, facts.source_name);
  facts.exactness = exactness_of(plan, facts.native);
  const char* space = plan.router_space == RouterSpace::kLogits ? "logits" : "probabilities";
  facts.provenance = {{"format", "eep-export"},
                      {"version", 1},
                      {"program", options.program},
                      {"layout", facts.native                                  ? "native"
                                 : options.format == ExportFormat::kHfPerLayer ? "hf-per-layer"
                                                                               : "hf"},
                      {"source",
                       {{"name", facts.source_name},
                        {"family", family_name(config.family)},
                        {"experts", config.num_experts},
                        {"top_k", config.top_k},
                        {"hash", options.source_hash}}},
                      {"experts", kept_text(plan)},
                      {"top_k", plan.top_k},
                      {"router_space", space},
                      {"computes", facts.exactness},
                      {"plan", "eep_plan.json"}};
  static constexpr const char* kMtp[] = {"", "kept as it is", "pruned as the last layer", "dropped"};
  if (options.mtp != MtpExport::kRefuse) facts.provenance["mtp"] = kMtp[static_cast<int>(options.mtp)];
  if (!info.provenance.is_null()) facts.provenance["plan_provenance"] = info.provenance;
  return facts;
}

std::string provenance_text(const ExportFacts& facts) {
  return facts.provenance.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string model_card(const ExportFacts& facts, const std::string& source) {
  const Json& p = facts.provenance;
  std::string card = "---\n";
  card +=
      "base_model: " + Json(facts.source_name).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  card += licence_lines(source);
  if (!facts.native) card += "library_name: transformers\npipeline_tag: text-generation\n";
  card += "tags: [mixture-of-experts, expert-pruning, eep]\n---\n\n";
  card += fmt::format("# {} with {} of {} experts a layer\n\n", facts.source_name,
                      p["experts"].get<std::string>(), p["source"]["experts"].get<int64_t>());
  card += fmt::format(
      "Made from {} by pruning and merging experts without gradients (Efficient Expert Pruning). Experts "
      "active per token: {}. Nothing but the routers' gates and the routed experts differs from the "
      "source.\n\n",
      facts.source_name, p["top_k"].get<int64_t>());
  card += "| | |\n| --- | --- |\n";
  card += fmt::format("| family | {} |\n", p["source"]["family"].get<std::string>());
  card += fmt::format("| source hash | `{}` |\n", p["source"]["hash"].get<std::string>());
  card += fmt::format("| router space | {} |\n", p["router_space"].get<std::string>());
  card += fmt::format("| this checkpoint computes | {} |\n", facts.exactness);
  if (p.contains("plan_provenance")) {
    for (const auto& [key, value] : p["plan_provenance"].items()) {
      std::string text = value.is_string() ? value.get<std::string>()
                                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
      if (text.starts_with('/')) text = text.substr(text.rfind('/') + 1);  // a file of this machine
      if (text.size() < 200) card += fmt::format("| {} | {} |\n", printable(key), printable(text));
    }
  }
  card += "\n`eep_plan.json` is the plan: applied to the source it gives this model again.\n";
  if (facts.native) {
    card += "\nThis layout is eep's own (a stock loader cannot express the plan): `eep` commands read it.\n";
  }
  if (p["layout"] == "hf-per-layer") {
    card +=
        "\nLayers hold different numbers of experts: `per_layer_num_experts` of config.json says how many "
        "(also "
        "`num_experts_per_layer`). Loaders that do not read these keys cannot load the tensors; `eep` and "
        "patched ones can.\n";
  }
  if (!facts.command.empty()) card += "\nMade by\n\n    " + printable(facts.command) + "\n";
  return card;
}

}  // namespace eep
