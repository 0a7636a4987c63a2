#include "experiments/program/model_doctor.h"

#include <fmt/format.h>

#include "engine/weights.h"
#include "experiments/study/model_context.h"
#include "kernels/common/error.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/config_json.h"
#include "loaders/models/support.h"
#include "loaders/text/chat_template.h"
#include "loaders/text/tokenizer.h"

namespace eep {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

std::string tokenizer_state(const std::string& path) {
  if (!Tokenizer::exists(path)) return "none: eep works on token ids alone (--ids), not on tasks";
  try {
    return Tokenizer::load(path).description();
  } catch (const Error& error) {
    return std::string("unusable: ") + error.what();
  }
}

std::string template_state(const std::string& path) {
  try {
    if (find_chat_template(path)) return "found: --chat, chat_template: true";
  } catch (const Error&) {  // one that cannot be read is as good as none
  }
  return "none: --template names one (mistral-v1, chatml)";
}

// What the weights need, packed, against what there is.
std::string memory_state(const ModelConfig& config, double physical, const CommandContext& context) {
  const auto bytes =
      static_cast<double>(Weights::packed_bytes(config, cpu_ops(precision_named(context.options.precision))));
  std::string text = fmt::format("{:.3g} GiB of weights", bytes / kGiB);
  if (bytes > 0.9 * physical) {
    return text +
           fmt::format(": more than this machine has ({:.3g} GiB); a GPU streams layers from host memory",
                       physical / kGiB);
  }
  return text + fmt::format(" of {:.3g} GiB here; a search adds what `eep inspect` and --dry-run say",
                            physical / kGiB);
}

// What the engine would have to compute besides, as far as config.json says.
std::vector<std::string> missing_parts(const std::string& path) {
  try {
    return model_support(path).missing;
  } catch (const Error&) {
    return {};  // it cannot be read, which is the reason given
  }
}

std::vector<std::string> next_steps(const std::string& path, const RawModel& raw, bool tokenizer) {
  if (raw.plan) return {"eep eval " + path + " --task NAME --split test", "eep verify " + path};
  if (!tokenizer) return {"eep logits " + path + " --ids \"1 2 3\" --out logits.safetensors"};
  return {"eep eval " + path + " --task NAME --split dev",
          "eep calibrate " + path + " --task NAME --out scores.json",  // says how redundant the experts are
          "eep init " + path + " --task NAME --out search.yaml", "eep run search.yaml --dry-run"};
}

}  // namespace

ModelDiagnosis diagnose_model(const std::string& path, double physical, const CommandContext& context) {
  ModelDiagnosis diagnosis;
  const auto say = [&](const char* name, const std::string& value) {
    diagnosis.lines.emplace_back(name, value);
  };
  say("model", path);
  try {
    read_config(path);  // the architecture is said before the weights that it would need are missed
    const RawModel raw = load_checkpoint(path);
    const ModelConfig& config = raw.config;
    if (!raw.note.empty()) say("weights", raw.note);
    const std::string tokenizer = tokenizer_state(path), chat = template_state(path);
    const std::string memory = memory_state(config, physical, context);
    const bool usable = Tokenizer::exists(path) && !tokenizer.starts_with("unusable");
    diagnosis.next = next_steps(path, raw, usable);
    say("family", fmt::format("{}: supported{}", family_name(config.family),
                              raw.plan ? ", the result of a plan (a native export)" : ""));
    say("experts", fmt::format("{} in {} of {} layers, {} active{}", config.num_experts,
                               config.sparse_layers(), config.num_layers, config.top_k,
                               config.shared_intermediate_size > 0 ? ", one shared" : ""));
    say("tokenizer", tokenizer);
    say("template", chat);
    say("needs", memory);
    diagnosis.json = {{"path", path},      {"supported", true},      {"family", family_name(config.family)},
                      {"reason", nullptr}, {"tokenizer", tokenizer}, {"chat_template", chat},
                      {"memory", memory},  {"next", diagnosis.next}};
  } catch (const Error& error) {
    if (error.code() == ExitCode::kNoInput) throw;
    say("family", std::string("not supported: ") + error.what());
    const std::vector<std::string> missing = missing_parts(path);
    for (const std::string& part : missing) say("missing", part);
    diagnosis.next = {"eep list", "eep convert --help"};
    diagnosis.json = {{"path", path},           {"supported", false}, {"family", nullptr},
                      {"reason", error.what()}, {"missing", missing}, {"next", diagnosis.next}};
  }
  for (const std::string& command : diagnosis.next) say("next", command);
  return diagnosis;
}

}  // namespace eep
