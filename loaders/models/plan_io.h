// Plan files ("format": "eep-plan", version 1) in and out. Coefficients are written with the fewest digits
// that read back to the same float; reading is strict.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "engine/config.h"
#include "engine/expert_plan.h"
#include "loaders/formats/json.h"

namespace eep {

// What a plan file says besides the plan. Empty, 0 or null: not stated.
struct PlanInfo {
  std::string family;
  int32_t layers = 0;
  int32_t experts = 0;
  std::string hash;  // "xxh3:..." of the model it was made for
  Json provenance;   // an object
};

PlanInfo plan_info(const ModelConfig& config, std::string hash = {}, Json provenance = {});

ExpertPlan parse_plan(std::string text, const std::string& where, PlanInfo* info = nullptr);
ExpertPlan read_plan(const std::string& path, PlanInfo* info = nullptr);

std::string format_plan(const ExpertPlan& plan, const PlanInfo& info);
void write_plan(const std::string& path, const ExpertPlan& plan, const PlanInfo& info);

// Throws kData unless the plan fits the model: family, counts, every sparse layer in exactly one group, and,
// when the file states one, the model's hash (computed only then).
void check_plan_model(const ExpertPlan& plan, const PlanInfo& info, const ModelConfig& config,
                      const std::function<std::string()>& model_hash, const std::string& where);

}  // namespace eep
