// Plan files: what is accepted is written and read again to the same plan.
#include "loaders/models/plan_io.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eep::ExpertPlan plan;
  eep::PlanInfo info;
  const std::string text = fuzz::text_of(data, size);
  if (!fuzz::accepts([&] { plan = eep::parse_plan(text, "plan.json", &info); })) return 0;
  const std::string written = eep::format_plan(plan, info);
  fuzz::demand(eep::parse_plan(written, "again") == plan, "a plan changes when read again");

  eep::ModelConfig config;
  config.num_layers = 4;
  config.num_experts = 5;
  config.top_k = 2;
  config.sparse = {1, 0, 1, 1};
  fuzz::accepts([&] {
    eep::check_plan_model(
        plan, info, config, [] { return std::string("xxh3:0"); }, "plan.json");
  });
  return 0;
}
