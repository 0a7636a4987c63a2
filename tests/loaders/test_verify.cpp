// Verification: every defect that it must see, one at a time, in an export that is otherwise sound.
#include <doctest/doctest.h>

#include "loaders/formats/file.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/export.h"
#include "loaders/models/export_config.h"
#include "loaders/models/families.h"
#include "loaders/models/model_hash.h"
#include "loaders/models/verify.h"
#include "tests/loaders/tiny_checkpoint.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

// A source, a plan that mixes gates and experts (two rows of three experts), and its export in shards.
class Exported {
 public:
  explicit Exported(const std::string& family = "mixtral", DType dtype = DType::kBF16,
                    ExportFormat format = ExportFormat::kHf) {
    TinyCheckpoint(family, TinyLayout::kPerExpert, dtype).write(source_);
    source_.write("generation_config.json", "{\"eos_token_id\": 2}");
    source_.write("LICENSE", "as is");
    raw_ = load_checkpoint(source_.path());
    plan_ = identity_plan(raw_.config.sparse, 3, 2);
    plan_.router_space = RouterSpace::kLogits;
    for (PlanGroup& group : plan_.groups) {
      group.kept = 2;
      group.router_mapping = {0.5f, 0.25f, 0, 0, 0, 1};
      group.expert_merging = {0, 1, 0, 0.75f, 0, 0.5f};
    }
    ExportOptions options;
    options.format = format;
    options.shard_bytes = 500;
    options.source_hash = model_hash(raw_);
    options.program = "eep test";
    export_checkpoint(raw_, source_.path(), plan_, plan_info(raw_.config), options, path());
  }

  std::string path(const std::string& name = "") const { return target_.path("out/" + name); }
  std::string read(const std::string& name) const { return read_file(path(name)); }
  void write(const std::string& name, const std::string& text) const { target_.write("out/" + name, text); }
  void replace(const std::string& name, const std::string& from, const std::string& to) const {
    std::string text = read(name);
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    write(name, text.replace(at, from.size(), to));
  }

  // The shard that holds a tensor, and its header's text.
  std::string shard_of(const std::string& tensor) const {
    return parse_json(read("model.safetensors.index.json"), "index")["weight_map"][tensor];
  }
  // Changes a tensor's bytes in place.
  void damage(const std::string& tensor, const std::function<void(std::string&)>& change) const {
    const std::string name = shard_of(tensor);
    std::string file = read(name), bytes;
    const SafetensorsFile shard(path(name));
    const SafetensorsEntry* entry = shard.find(tensor);
    REQUIRE(entry != nullptr);
    bytes = file.substr(entry->offset, entry->bytes);
    change(bytes);
    REQUIRE(bytes.size() == entry->bytes);
    write(name, file.replace(entry->offset, entry->bytes, bytes));
  }

  // The name of the first check that fails, and why; "" when all pass.
  std::string first_failure() const {
    std::optional<RawModel> model;
    std::vector<Check> checks = verify_directory(path(), model);
    const auto failed = [&]() -> std::string {
      for (const Check& check : checks) {
        if (!check.passed) return check.name + ": " + check.detail;
      }
      return {};
    };
    if (!failed().empty()) return failed();
    checks = verify_against(path(), *model, source_.path(), raw_, plan_, Device{}, {});
    return failed();
  }
  void expect(const std::string& part) const {
    const std::string failure = first_failure();
    INFO(failure);
    CHECK(failure.find(part) != std::string::npos);
  }

  const Scratch& source() const { return source_; }

 private:
  Scratch source_, target_;
  RawModel raw_;
  ExpertPlan plan_;
};

const std::string kGate = "model.layers.1.block_sparse_moe.gate.weight";
const std::string kExpert = "model.layers.0.block_sparse_moe.experts.1.w2.weight";

}  // namespace

TEST_CASE("verify: a sound export passes, in every family, dtype and format") {
  for (const FamilyRow& row : families()) {
    const std::string family = family_name(row.family);
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (ExportFormat format : {ExportFormat::kHf, ExportFormat::kNative}) {
        CAPTURE(family);
        CAPTURE(dtype_name(dtype));
        CHECK(Exported(family, dtype, format).first_failure() == "");
      }
    }
  }
}

TEST_CASE("verify: config and counts") {
  SUBCASE("no config") {
    const Exported made;
    fs::remove(made.path("config.json"));
    made.expect("config: ");
  }
  SUBCASE("another number of experts than stored") {
    const Exported made;
    made.replace("config.json", "\"num_local_experts\": 2", "\"num_local_experts\": 3");
    made.expect("gate.weight: wrong shape");
  }
  SUBCASE("fewer experts than stored") {
    const Exported made;
    made.replace("config.json", "\"num_local_experts\": 2", "\"num_local_experts\": 1");
    made.expect("config: ");
  }
  SUBCASE("more active than the plan says") {
    const Exported made;
    made.replace("config.json", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 1");
    made.expect("wrong num_experts_per_tok (expected 2");
  }
  SUBCASE("anything else changed") {
    const Exported made;
    made.replace("config.json", "\"rope_theta\": 10000.0", "\"rope_theta\": 10001.0");
    made.expect("source config: config.json: differs from the source's");
  }
}

TEST_CASE("verify: names, shapes and dtypes") {
  SUBCASE("a tensor missing from shard and index") {
    const Exported made;
    Json index = parse_json(made.read("model.safetensors.index.json"), "index");
    const std::string name = made.shard_of(kExpert);
    std::vector<NamedTensor> kept;
    const SafetensorsFile shard(made.path(name));
    for (const SafetensorsEntry& entry : shard.header.entries) {
      if (entry.name != kExpert) {
        kept.push_back({{entry.name, DType::kBF16, entry.shape}, shard.data(entry)});
      }
    }
    index["weight_map"].erase(kExpert);
    made.write("model.safetensors.index.json", index.dump());
    if (kept.empty()) {
      fs::remove(made.path(name));
    } else {
      write_safetensors(made.path(name), kept);
    }
    made.expect(kExpert + ": missing tensor");
  }
  SUBCASE("a tensor under another name") {
    const Exported made;
    made.replace(made.shard_of(kExpert), "experts.1.w2", "experts.7.w2");
    made.replace("model.safetensors.index.json", "layers.0.block_sparse_moe.experts.1.w2",
                 "layers.0.block_sparse_moe.experts.7.w2");
    made.expect(kExpert + ": missing tensor");
  }
  SUBCASE("another shape of the same size") {
    const Exported made;
    made.replace(made.shard_of(kGate), "[2,6]", "[6,2]");
    made.expect("wrong shape (expected [2, 6], got [6, 2])");
  }
  SUBCASE("another dtype of the same size") {
    const Exported made;
    const std::string name = made.shard_of(kGate), text = made.read(name);
    const size_t at = text.find("BF16", text.find(kGate));
    REQUIRE(at != std::string::npos);
    made.write(name, std::string(text).replace(at, 6, "F16\" "));
    made.expect("dtypes");
  }
}

TEST_CASE("verify: files and index") {
  SUBCASE("a shard that no index names") {
    const Exported made;
    made.write("model-00099-of-00099.safetensors", "");
    made.expect("files and index: model-00099-of-00099.safetensors: stale file");
  }
  SUBCASE("a shard missing") {
    const Exported made;
    fs::remove(made.path(made.shard_of(kGate)));
    made.expect("cannot open");
  }
  SUBCASE("a shard cut short") {
    const Exported made;
    const std::string name = made.shard_of(kGate), text = made.read(name);
    made.write(name, text.substr(0, text.size() - 1));
    made.expect("names, shapes, dtypes: ");
  }
  SUBCASE("a tensor that the index does not list") {
    const Exported made;
    Json index = parse_json(made.read("model.safetensors.index.json"), "index");
    index["weight_map"].erase(kGate);
    made.write("model.safetensors.index.json", index.dump());
    made.expect("names, shapes, dtypes: ");
  }
  SUBCASE("a tensor in another shard than the index says") {
    const Exported made;
    Json index = parse_json(made.read("model.safetensors.index.json"), "index");
    index["weight_map"][kGate] = made.shard_of("model.embed_tokens.weight");
    made.write("model.safetensors.index.json", index.dump());
    made.expect("not in its shard");
  }
  SUBCASE("another total size") {
    const Exported made;
    made.replace("model.safetensors.index.json", "\"total_size\": ", "\"total_size\": 1");
    made.expect("files and index: ");
  }
  SUBCASE("a file of the other layout") {
    const Exported made("mixtral", DType::kF32, ExportFormat::kNative);
    made.write("model.safetensors", "");
    made.expect("stale file");
  }
  SUBCASE("no format in a file's metadata") {
    const Exported made;
    made.replace(made.shard_of(kGate), "\"pt\"", "\"xx\"");
    made.expect("tensors: ");
  }
}

TEST_CASE("verify: values") {
  const auto set_first = [](char low, char high) {
    return [=](std::string& bytes) {
      bytes[0] = low;
      bytes[1] = high;
    };
  };
  SUBCASE("not a number") {
    const Exported made;
    made.damage(kExpert, set_first('\x80', '\x7f'));  // bf16 infinity
    made.expect(kExpert + ": element 0 is not finite");
  }
  SUBCASE("an expert's bit") {
    const Exported made;
    made.damage(kExpert, [](std::string& bytes) { bytes[4] = static_cast<char>(bytes[4] ^ 1); });
    made.expect("tensor bytes: " + kExpert + ": bytes differ");
  }
  SUBCASE("two units in a gate's last place are more than its rounding") {
    const Exported made;
    made.damage(kGate, [](std::string& bytes) { bytes[0] = static_cast<char>(bytes[0] + 2); });
    made.expect("gate rows: layer 1: gate row 0, column 0");
  }
  SUBCASE("gate rows exchanged") {
    const Exported made;
    made.damage(kGate, [](std::string& bytes) { bytes = bytes.substr(12) + bytes.substr(0, 12); });
    made.expect("gate rows: layer 1: gate row 0");
  }
}

TEST_CASE("verify: side files, tokenizer and plan") {
  SUBCASE("missing") {
    const Exported made;
    fs::remove(made.path("LICENSE"));
    made.expect("side files: LICENSE: missing");
  }
  SUBCASE("changed") {
    const Exported made;
    made.write("generation_config.json", "{\"eos_token_id\": 3}");
    made.expect("side files: generation_config.json: differs");
  }
  SUBCASE("a tokenizer that does not load") {
    const Exported made;
    made.write("tokenizer.json", "{");
    made.expect("tokenizer: ");
  }
  SUBCASE("a named template is missing") {
    const Exported made;
    made.write("LICENSE.md", "one file more than the source is none of its concern");
    fs::remove(made.path("generation_config.json"));
    made.expect("side files: generation_config.json: missing");
  }
  SUBCASE("a plan of other counts") {
    const Exported made;
    Json config = parse_json(made.read("eep_plan.json"), "plan");
    made.write("eep_plan.json", "{}");
    made.expect("plan: ");
  }
  SUBCASE("a native plan that is not the plan's") {
    const Exported made("mixtral", DType::kF32, ExportFormat::kNative);
    made.replace("plan.json", "0.25", "0.125");
    made.expect("plan: plan.json: is not the plan of eep_plan.json");
  }
}

}  // namespace eep
