// A dense model as a mixture: the same function while every expert is active, balanced groups, a router that
// finds the experts that matter.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/forward.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/gguf_convert.h"
#include "loaders/models/moefy.h"
#include "tests/loaders/gguf_writer.h"
#include "tests/loaders/scratch.h"

namespace eep {
namespace {

std::vector<float> logits_of(const RawModel& raw) {
  const Weights weights(raw, cpu_ops());
  PopulationForward forward(weights, 0);
  const std::vector<int32_t> tokens{1, 4, 2, 0, 6, 3, 15, 5};
  return forward.logits(identity_plan(raw.config.sparse, static_cast<int32_t>(raw.config.num_experts),
                                      static_cast<int32_t>(raw.config.top_k)),
                        tokens);
}

RawModel write_and_load(const Json& config, const std::vector<StreamedTensor>& tensors,
                        const std::string& directory) {
  std::filesystem::create_directories(directory);
  write_file_atomic(directory + "/config.json", config.dump());
  write_shards(directory, "model", tensors, 0, {});
  return load_checkpoint(directory);
}

}  // namespace

TEST_CASE("moefy: with every expert active the mixture is the dense model") {
  GgufWriter writer;
  writer.model("llama", 0);
  const std::string bytes = writer.bytes();
  const GgufFile file = parse_gguf(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "m");
  ConvertedModel model = convert_gguf(file, DType::kF32);
  CHECK(model.dense_llama);
  CHECK(model.config["model_type"] == "llama");
  make_one_expert(model);
  const Scratch scratch;
  const RawModel dense = write_and_load(model.config, model.tensors, scratch.path("dense"));
  const std::vector<float> expected = logits_of(dense);
  for (int32_t experts : {2, 4, 6}) {
    for (bool with_text : {false, true}) {
      CAPTURE(experts);
      MoefyOptions options;
      options.experts = options.top_k = experts;
      std::vector<std::vector<int32_t>> text;
      if (with_text) text = {{1, 2, 3, 4, 5, 6, 7}, {3, 2, 1, 8, 9, 14}};
      const std::vector<MoefyLayer> layers = split_neurons(dense, cpu_ops(), text, options);
      Json config = model.config;
      config["num_local_experts"] = config["num_experts_per_tok"] = experts;
      config["intermediate_size"] = 12 / experts;
      const RawModel mixture =
          write_and_load(config, moefy_tensors(dense, layers, options),
                         scratch.path("m" + std::to_string(experts) + (with_text ? "t" : "")));
      const std::vector<float> got = logits_of(mixture);
      double difference = 0, scale = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        difference = std::max(difference, std::fabs(double{got[i]} - double{expected[i]}));
        scale = std::max(scale, std::fabs(double{expected[i]}));
      }
      // Two layers whose sums of 12 terms are grouped otherwise; 1/6 and 6 are not exact.
      CHECK(difference <= 64 * 0x1p-24 * scale);
    }
  }
  MoefyOptions wrong;
  wrong.experts = wrong.top_k = 5;
  check_error(ExitCode::kUsage, "divisor of 12", [&] { split_neurons(dense, cpu_ops(), {}, wrong); });
  wrong.experts = 4;
  check_error(ExitCode::kUsage, "--top-k", [&] { split_neurons(dense, cpu_ops(), {}, wrong); });
  wrong.top_k = 2;
  check_error(ExitCode::kUsage, "--calibration", [&] { split_neurons(dense, cpu_ops(), {}, wrong); });
  const std::vector<MoefyLayer> layers = split_neurons(dense, cpu_ops(), {{1, 2, 3, 4, 5, 6, 7}}, wrong);
  for (const MoefyLayer& layer : layers) {
    std::vector<int32_t> sorted = layer.neurons;
    std::sort(sorted.begin(), sorted.end());
    for (int32_t neuron = 0; neuron < 12; ++neuron) CHECK(sorted[static_cast<size_t>(neuron)] == neuron);
    CHECK(layer.router.size() == 4 * 8);
  }
}

TEST_CASE("moefy: neurons that fire together end in one group, groups are equal") {
  // Column c fires in the rows of its class c % 3.
  const int64_t rows = 30, columns = 12;
  std::vector<float> activity(static_cast<size_t>(rows * columns));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const float noise = static_cast<float>((row * 7 + column * 5) % 11) / 100;
      activity[static_cast<size_t>(row * columns + column)] = (row % 3 == column % 3 ? 1.0f : 0.0f) + noise;
    }
  }
  const std::vector<int32_t> owner = balanced_clusters(activity, rows, columns, 3);
  for (int64_t column = 0; column < columns; ++column) {
    CHECK(owner[static_cast<size_t>(column)] == owner[static_cast<size_t>(column % 3)]);
  }
  const std::vector<int32_t> halves = balanced_clusters(activity, rows, columns, 2);
  CHECK(std::count(halves.begin(), halves.end(), 0) == 6);
  CHECK(balanced_clusters(std::vector<float>(24, 0.0f), 2, 12, 4).size() == 12);  // silent neurons
}

TEST_CASE("moefy: ridge regression finds a linear map") {
  const int64_t rows = 40, inputs = 3, outputs = 2;
  const float truth[2][3] = {{1, -2, 0.5f}, {0, 3, 1}};
  std::vector<float> x, y;
  for (int64_t row = 0; row < rows; ++row) {
    const float features[3] = {static_cast<float>(row % 5) - 2, static_cast<float>(row % 7) - 3,
                               static_cast<float>(row % 3) - 1};
    x.insert(x.end(), features, features + 3);
    for (const auto& weights : truth) {
      y.push_back(weights[0] * features[0] + weights[1] * features[1] + weights[2] * features[2]);
    }
  }
  const std::vector<float> weights = ridge_regression(x, y, rows, inputs, outputs, 1e-9);
  for (size_t i = 0; i < 6; ++i) CHECK(std::fabs(weights[i] - truth[i / 3][i % 3]) < 1e-5f);
  for (float weight :
       ridge_regression(std::vector<float>(30, 0.0f), std::vector<float>(20, 0.0f), 10, 3, 2, 1e-3)) {
    CHECK(weight == 0);
  }
}

}  // namespace eep
