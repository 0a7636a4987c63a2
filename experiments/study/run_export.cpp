#include "experiments/study/run_export.h"

#include "experiments/study/version.h"
#include "loaders/formats/file.h"
#include "loaders/models/export.h"

namespace eep {

void export_run_model(ModelContext& model, const ExpertPlan& plan, const Json& provenance,
                      const Device& device, const std::string& directory,
                      const std::function<void(const std::string&)>& say) {
  if (directory_exists(directory)) return;
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

}  // namespace eep
