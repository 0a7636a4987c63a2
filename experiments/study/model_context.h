// A model made ready once per process: mapped, packed, with its tokenizer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/stages.h"
#include "engine/weights.h"
#include "loaders/models/checkpoint.h"
#include "loaders/text/tokenizer.h"

namespace eep {

class ModelContext {
 public:
  // memory: bytes, 0: unlimited; layers that do not fit are streamed (engine/weight_plan.h). parity:
  // engine/config.h. stage, of so many: which part of the layers is packed; the weights of the others are not
  // read, but by the first, which looks for values that are no numbers.
  ModelContext(const std::string& path, const Backend& backend, size_t memory = 0,
               Parity parity = Parity::kNone, int stage = 0, int stages = 1)
      : path_(path),
        raw_(load(path, parity, stage == 0)),
        stages_(divide_layers(raw_.config, *backend.ops, stages)),
        weights_(raw_, backend,
                 plan_weights(raw_.config, *backend.ops, memory, stages_[static_cast<size_t>(stage)])) {}

  const std::string& path() const { return path_; }
  const RawModel& raw() const { return raw_; }
  const ModelConfig& config() const { return raw_.config; }
  const Weights& weights() const { return weights_; }
  const std::vector<LayerRange>& stages() const { return stages_; }
  void set_link(StageLink* link) { weights_.set_link(link); }
  const Ops& ops() const { return weights_.ops(); }
  // What the weights are while they compute: a GPU has no f32 ones.
  DType dtype() const { return ops().weight_dtype(raw_.config.dtype); }
  // Of the matrix products: "f32", "bf16", "f16".
  std::string precision() const;
  // Loaded on first use: commands that are given token ids need none.
  const Tokenizer& tokenizer() {
    if (!tokenizer_) tokenizer_.emplace(Tokenizer::load(path_));
    return *tokenizer_;
  }
  // progress: of the bytes that are read for it, the first time; may be empty.
  const std::string& hash(const std::function<void(size_t done, size_t total)>& progress = {});

 private:
  static RawModel load(const std::string& path, Parity parity, bool look_at_values);

  std::string path_;
  RawModel raw_;
  std::vector<LayerRange> stages_;
  Weights weights_;
  std::optional<Tokenizer> tokenizer_;
  std::string hash_;
};

// Throws Error(kUsage) if the model is a native export: its router belongs to one plan.
void require_original(const RawModel& model, const std::string& path);

}  // namespace eep
