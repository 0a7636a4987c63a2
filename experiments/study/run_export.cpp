#include "experiments/study/run_export.h"

#include "experiments/study/version.h"
#include "loaders/formats/file.h"
#include "loaders/models/export.h"
#include "loaders/models/verify.h"

namespace eep {
namespace {

void write_checks(const std::string& directory, const std::function<void(const std::string&)>& say) {
  std::optional<RawModel> exported;
  Json checks = Json::array();
  bool passed = true;
  for (const Check& check : verify_directory(directory, exported)) {
    checks.push_back({{"check", check.name}, {"passed", check.passed}, {"detail", check.detail}});
    passed = passed && check.passed;
    if (!check.passed) say("the export fails a check: " + check.name + ": " + check.detail);
  }
  const Json json{{"passed", passed}, {"checks", checks}};
  const std::string file = directory.substr(0, directory.rfind('/') + 1) + "export_check.json";
  write_file_atomic(file, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void write_model(ModelContext& model, const ExpertPlan& plan, const Json& provenance, const Device& device,
                 const std::string& directory, const std::function<void(const std::string&)>& say) {
  ExportOptions options;
  options.source_hash = model.hash();
  options.program = std::string("eep ") + kVersion;
  options.device = device;
  const std::string obstacle = hf_obstacle(model.config(), plan);
  if (obstacle.empty()) {
    say("export to " + directory);
    for (const std::string& tie : router_ties(model.raw(), plan, device)) say("warning: " + tie);
  } else {
    say("export to " + directory +
        " in eep's own layout: a stock checkpoint cannot express the plan: " + obstacle);
    options.format = ExportFormat::kNative;
  }
  export_checkpoint(model.raw(), model.path(), plan,
                    plan_info(model.config(), options.source_hash, provenance), options, directory);
}

}  // namespace

void export_run_model(ModelContext& model, const ExpertPlan& plan, const Json& provenance,
                      const Device& device, const std::string& directory,
                      const std::function<void(const std::string&)>& say) {
  if (!directory_exists(directory)) write_model(model, plan, provenance, device, directory, say);
  write_checks(directory, say);
}

}  // namespace eep
