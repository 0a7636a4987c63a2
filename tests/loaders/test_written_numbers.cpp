// A number that is refused is shown with the digits that stand in the file, whichever reader refuses it: a
// double would say 1.2345678901234568e+29.
#include <doctest/doctest.h>

#include <functional>

#include "loaders/formats/json.h"
#include "loaders/formats/yaml.h"
#include "loaders/models/config_json.h"
#include "loaders/models/keep_list.h"
#include "loaders/models/plan_io.h"
#include "loaders/tasks/task.h"
#include "loaders/text/tokenizer.h"
#include "tests/loaders/scratch.h"
#include "tests/loaders/tiny_checkpoint.h"

namespace eep {
namespace {

// Beyond 2^63 and beyond 2^64, 30 digits, and such as a double's shortest spelling is another.
const std::vector<std::string> kNumbers{"123456789012345678901234567890",
                                        "-123456789012345678901234567890",
                                        "18446744073709551616",
                                        "9223372036854775808",
                                        "1234567890123.50",
                                        "12345678901E+20"};

// `read` refuses each of the numbers and shows it whole.
void shows(const char* reader, const std::function<void(const std::string&)>& read) {
  for (const std::string& number : kNumbers) {
    CAPTURE(reader);
    check_error(ExitCode::kData, "got " + number + ")", [&] { read(number); });
  }
}

ModelConfig small_config() {
  ModelConfig config;
  config.num_layers = 2;
  config.num_experts = 4;
  config.top_k = 2;
  config.sparse = {1, 1};
  return config;
}

}  // namespace

TEST_CASE("written numbers: a value in JSON, behind others and in lists") {
  shows("a view", [](const std::string& number) {
    const JsonDocument document("{\"a\": [1, {\"b]\\\"\": [ 7 ,\n " + number + " ]}]}", "f.json");
    document.root().at("a").at(1).at("b]\"").at(1).as_int(0, 10);
  });
  CHECK(written_json("{\"a\" : [ 1.50 , \"b \\\" c\" ] }", {"a"}) == "[1.50,\"b \\\" c\"]");
  CHECK(written_json(" -0.0 ", {}) == "-0.0");
}

TEST_CASE("written numbers: plans, keep lists and configurations") {
  shows("a plan's top_k", [](const std::string& number) {
    parse_plan("{\"format\": \"eep-plan\", \"version\": 1, \"top_k\": " + number + ", \"groups\": []}", "p");
  });
  shows("a plan's layer", [](const std::string& number) {
    parse_plan(R"({"format": "eep-plan", "version": 1, "top_k": 1, "router_space": "logits", "groups": [)"
               R"({"layers": [)" +
                   number + "], \"router_mapping\": [[1]], \"expert_merging\": [[1]]}]}",
               "p");
  });
  shows("a plan's threshold", [](const std::string& number) {
    parse_plan(R"({"format": "eep-plan", "version": 1, "top_k": 1, "router_space": "logits", "groups": [)"
               R"({"layers": [0], "router_mapping": [[1]], "expert_merging": [[1]], "skip_below": [)" +
                   number + "]}]}",
               "p");
  });
  shows("a keep list", [](const std::string& number) {
    parse_keep_list("{\"0\": [1, " + number + "], \"1\": [0, 2]}", "kept.json", small_config());
  });
  for (const char* key : {"hidden_size", "num_local_experts", "vocab_size", "num_attention_heads"}) {
    CAPTURE(key);
    shows("config.json", [&](const std::string& number) {
      Json config = TinyCheckpoint("mixtral").config;
      config[key] = "HERE";
      std::string text = config.dump();
      text.replace(text.find("\"HERE\""), 6, number);
      parse_config(JsonDocument(text, "config.json"));
    });
  }
}

TEST_CASE("written numbers: vocabularies and the files beside them") {
  const std::string json = read_file(std::string(EEP_SOURCE_DIR) + "/tests/loaders/data/smol/tokenizer.json");
  const Json fixture = parse_json(json, "tokenizer.json");
  const auto with = [&](const std::function<void(Json&)>& change, const std::string& number) {
    Json changed = fixture;
    change(changed);
    std::string text = changed.dump();
    text.replace(text.find("\"HERE\""), 6, number);
    const Scratch scratch;
    scratch.write("tokenizer.json", text);
    Tokenizer::load(scratch.path());
  };
  shows("a vocabulary", [&](const std::string& number) {
    with([](Json& changed) { changed["model"]["vocab"].begin().value() = "HERE"; }, number);
  });
  shows("added tokens", [&](const std::string& number) {
    with([](Json& changed) { changed["added_tokens"][0]["id"] = "HERE"; }, number);
  });
  shows("added_tokens.json", [&](const std::string& number) {
    const Scratch scratch;
    scratch.write("tokenizer.json", json);
    scratch.write("added_tokens.json", "{\"<x>\": " + number + "}");
    Tokenizer::load(scratch.path());
  });
}

TEST_CASE("written numbers: YAML and the items of tasks") {
  shows("YAML", [](const std::string& number) {
    const YamlValue root = parse_yaml("a: [1, " + number + "]\n", "f.yaml");
    YamlView(root, "", ExitCode::kData).at("a").sequence()[1].as_int(0, 10);
  });
  shows("YAML, a number with a fraction", [](const std::string& number) {
    const YamlValue root = parse_yaml("a: " + number + "\n", "f.yaml");
    YamlView(root, "", ExitCode::kData).at("a").as_number(0, 10);
  });
  const std::string task =
      "name: q\nkind: multiple_choice\ndata: {train: train.jsonl}\nprompt: \"{q}\"\n"
      "choices: [\" no\", \" yes\"]\ntarget: label\nmetric: acc\n";
  for (const std::string& number : kNumbers) {
    const Scratch scratch;
    scratch.write("train.jsonl", "{\"q\": \"a\", \"label\": " + number + "}\n");
    const Task loaded = load_task(scratch.write("task.yaml", task), "harness");
    check_error(ExitCode::kData, number, [&] { load_items(loaded, "train"); });
  }
}

}  // namespace eep
