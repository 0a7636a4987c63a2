// What an export says of itself: eep_provenance.json for programs, README.md (a model card) for people.
#pragma once

#include <string>

#include "loaders/formats/json.h"
#include "loaders/models/export.h"

namespace eep {

struct ExportFacts {
  Json provenance;  // the content of eep_provenance.json
  std::string source_name;
  std::string command;
  std::string exactness;
  bool native = false;
};

ExportFacts export_facts(const ModelConfig& config, const std::string& source, const ExpertPlan& plan,
                         const PlanInfo& info, const ExportOptions& options);
std::string provenance_text(const ExportFacts& facts);

// The licence lines of the source's own card are taken over.
std::string model_card(const ExportFacts& facts, const std::string& source);

}  // namespace eep
