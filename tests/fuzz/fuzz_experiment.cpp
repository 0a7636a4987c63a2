// Experiment files: what is accepted resolves to a file that reads back as the same experiment.
#include "experiments/study/experiment.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string directory = EEP_SOURCE_DIR "/experiments/demo";
  const std::string text = fuzz::text_of(data, size);
  eep::Experiment experiment;
  if (!fuzz::accepts([&] { experiment = eep::parse_experiment(text, "fuzz.yaml", directory); })) return 0;
  std::string resolved;  // refused where the task's file does not exist
  if (!fuzz::accepts([&] { resolved = eep::resolved_yaml(experiment); })) return 0;
  const eep::Experiment again = eep::parse_experiment(resolved, "config.resolved.yaml", directory);
  fuzz::demand(eep::resolved_yaml(again) == resolved, "a resolved experiment changes when read again");
  return 0;
}
