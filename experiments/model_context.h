// A model made ready once per process: mapped, packed, with its tokenizer.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/weights.h"
#include "loaders/checkpoint.h"
#include "loaders/tokenizer.h"

namespace eep {

class ModelContext {
 public:
  ModelContext(const std::string& path, const Ops& ops, const Device& device = {})
      : path_(path), raw_(load_checkpoint(path)), weights_(raw_, ops, device), ops_(ops) {}

  const std::string& path() const { return path_; }
  const RawModel& raw() const { return raw_; }
  const ModelConfig& config() const { return raw_.config; }
  const Weights& weights() const { return weights_; }
  const Ops& ops() const { return ops_; }
  // Loaded on first use: commands that are given token ids need none.
  const Tokenizer& tokenizer() {
    if (!tokenizer_) tokenizer_.emplace(Tokenizer::load(path_));
    return *tokenizer_;
  }
  const std::string& hash();

 private:
  std::string path_;
  RawModel raw_;
  Weights weights_;
  const Ops& ops_;
  std::optional<Tokenizer> tokenizer_;
  std::string hash_;
};

}  // namespace eep
