// A config.json beside matrices in 8 or 4 bits, whose blocks it describes: what is accepted can be widened
// and exported.
#include <string_view>

#include "engine/coded_matrix.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/export_tensors.h"
#include "tests/fuzz/small_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::SmallCheckpoint bytes("glm4_fp8", 2, 8, 2), halves("gptoss_mxfp4", 2, 8, 2);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const fuzz::SmallCheckpoint& scratch = text.find("gpt_oss") != text.npos ? halves : bytes;
  scratch.write("config.json", data, size);
  fuzz::accepts([&] {
    const eep::RawModel model = eep::load_checkpoint(scratch.path());
    if (model.plan) return;
    const eep::ModelConfig& config = model.config;
    const auto experts = static_cast<int32_t>(config.num_experts);
    const eep::ExpertPlan plan =
        eep::identity_plan(config.sparse, experts, static_cast<int32_t>(config.top_k));
    eep::Buffer values;
    for (const eep::RawLayer& layer : model.layers) {
      for (const eep::RawMatrix* matrix : {&layer.q, &layer.o, &layer.dense.gate, &layer.shared.down}) {
        if (*matrix) eep::decoded(*matrix, values);
      }
      for (const eep::RawFfn& expert : layer.experts) {
        if (config.mxfp4) eep::decoded(expert.up, values);
      }
    }
    for (const eep::StreamedTensor& tensor :
         eep::export_tensors(model, plan, eep::ExportFormat::kHf, eep::Device{}, eep::MtpExport::kDrop)) {
      size_t produced = 0;
      tensor.produce([&](const void*, size_t part) { produced += part; });
      fuzz::demand(produced == eep::tensor_bytes(tensor.spec), "a tensor has another size");
    }
  });
  return 0;
}
