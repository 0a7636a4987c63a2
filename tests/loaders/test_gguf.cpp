// GGUF: every number format against values of the gguf package, files refused when damaged, models and
// tokenizers converted.
#include <doctest/doctest.h>

#include "engine/coded_matrix.h"
#include "kernels/common/float8.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/gguf_convert.h"
#include "loaders/text/gguf_tokenizer.h"
#include "loaders/text/tokenizer.h"
#include "tests/loaders/gguf_writer.h"
#include "tests/loaders/scratch.h"

namespace eep {
namespace {

struct BlockCase {
  GgufType type;
  const char* block;  // hexadecimal
  uint32_t crc;       // CRC-32 of the weights as little-endian floats, by gguf 0.19
};

const BlockCase kBlocks[] = {
    {GgufType::kQ4_0, "c028becf931aed15f5d3ef2d059d9f3c36ec", 712959042u},
    {GgufType::kQ4_1, "c028e1b8240786de399208950e0f160a90d01818", 3442604269u},
    {GgufType::kQ5_0, "c0280b553b68e16ee2c9089f1a1ba37a2129c94346a6", 234400898u},
    {GgufType::kQ5_1, "c028e1b8893f0dbcff405e08089c191d9d92be73db872764", 2327318565u},
    {GgufType::kQ8_0, "c02848e3a815498410998c6b50a33d6e2fe594aa616e38964ac13e2ceeefe2bc0ecd", 4041514702u},
    {GgufType::kQ4_K,
     "c028e1b8a06e44c94f68c14858c5ea51943007a695287ea628363bb20d9987de3bbfef4ac19a52f073a76100"
     "b9d2b0134cb134f96d5ea2f1c505644c32f7a623fa62615067c1080b3d2d47e41d5aa4a9093dcd95e712a33e"
     "0ec0a7787351ba306b7bf5c5347b777986c1c4077f5621411daafbb427370b85a171ce5f5ee1ee40991f4217"
     "376dcd9b4c8816a9b8a62c85",
     3259517127u},
    {GgufType::kQ6_K,
     "496a74ee26728dedfa7a0a35d502b09b61974da19dd8773f936a544cf94bc07c0ac4e3bd5fe6e14af9cadfb8"
     "5a875da7ebbbfd37ec2b4963587773d43b94b9d731e55ba87d723501c3e8cbae1d1da139ff7bf0d1e7c9e3e9"
     "2ff4b66d045efcf466853ac2b19f5a53cf13e4e09a0c74626ea3311a2c86ea97f26a8ad95a6409a8f26bd864"
     "61b2f5e6cb90cc7a4fcbbc62af2e762586c76b36a611ccb29df095cc4e1cbf4a0e2cf3a0aef902df3b6dfb25"
     "67ef7e4687772d8600c3d28f49fef265bfde4f66f2170321efa2e79c4fa27beec028",
     2670600914u},
};

uint32_t crc32(const void* data, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; ++i) {
    crc ^= static_cast<const uint8_t*>(data)[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

GgufFile parse(const std::string& bytes) {
  return parse_gguf(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "m.gguf");
}

// Writes a converted model and loads it again.
RawModel load(const ConvertedModel& model, const std::string& directory) {
  std::filesystem::create_directories(directory);
  write_file_atomic(directory + "/config.json", model.config.dump());
  write_shards(directory, "model", model.tensors, 0, {});
  return load_checkpoint(directory);
}

}  // namespace

TEST_CASE("gguf: blocks of every type widen to the reference's bits") {
  for (const BlockCase& each : kBlocks) {
    CAPTURE(gguf_type_name(static_cast<uint32_t>(each.type)));
    std::vector<uint8_t> bytes;
    for (const char* at = each.block; *at != 0; at += 2) {
      bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(at, 2), nullptr, 16)));
    }
    REQUIRE(bytes.size() == gguf_block_bytes(each.type));
    std::vector<float> values(static_cast<size_t>(gguf_block_elements(each.type)));
    gguf_dequantise(each.type, bytes.data(), static_cast<int64_t>(values.size()), values.data());
    CHECK(crc32(values.data(), values.size() * sizeof(float)) == each.crc);
  }
  const uint8_t plain[4] = {0x00, 0x3c, 0x80, 0x3f};
  float value = 0;
  gguf_dequantise(GgufType::kF16, plain, 1, &value);
  CHECK(value == 1);
  gguf_dequantise(GgufType::kBF16, plain + 2, 1, &value);
  CHECK(value == 1);
  CHECK(gguf_type_name(13) == "Q5_K");
  CHECK(!gguf_type(13));
}

TEST_CASE("gguf: metadata and tensors as stored") {
  GgufWriter writer;
  writer.integer("a", 7);
  writer.boolean("b", true);
  writer.real("c", 0.5f);
  writer.string("d", "text");
  writer.texts("e", {"x", "yz"});
  writer.entry("f", 1, "\xff");
  const auto number = GgufWriter::number;
  writer.entry("g", 9,
               number(9, 4) + number(2, 8) + number(4, 4) + number(2, 8) + number(1, 8) + number(8, 4) +
                   number(1, 8) + GgufWriter::text("q"));  // [[1, 0], ["q"]]
  writer.tensor("t", {3, 2});
  const GgufFile file = parse(writer.bytes());
  CHECK(file.integer("a", 0, 10) == 7);
  CHECK(file.real("c") == 0.5);
  CHECK(file.text("d") == "text");
  CHECK(file.find_value("e")->texts == std::vector<std::string>{"x", "yz"});
  CHECK(file.integer("f", -5, 5) == -1);
  REQUIRE(file.find("t") != nullptr);
  CHECK(file.find("t")->shape == std::vector<int64_t>{3, 2});
  CHECK(file.find("t")->bytes == 24);
  check_error(ExitCode::kData, "z: missing", [&] { file.text("z"); });
  check_error(ExitCode::kData, "g: wrong type", [&] { file.text("g"); });
  check_error(ExitCode::kData, "a: wrong type", [&] { file.text("a"); });
  check_error(ExitCode::kData, "out of range", [&] { file.integer("a", 0, 6); });
}

TEST_CASE("gguf: damaged files are refused") {
  GgufWriter writer;
  writer.integer("a", 7);
  writer.tensor("t", {3, 2});
  const std::string good = writer.bytes();
  for (size_t size = 0; size < good.size() - 8; ++size) CHECK_THROWS_AS(parse(good.substr(0, size)), Error);
  const auto refuse = [](const GgufWriter& wrong, const std::string& part) {
    check_error(ExitCode::kData, part, [&] { parse(wrong.bytes()); });
  };
  GgufWriter twice = writer;
  twice.integer("a", 8);
  refuse(twice, "a: there twice");
  GgufWriter same = writer;
  same.tensor("t", {1});
  refuse(same, "t: there twice");
  GgufWriter type;
  type.stored_tensor("t", {32}, 13, std::string(64, '\0'));
  refuse(type, "got Q5_K");
  GgufWriter block;
  block.stored_tensor("t", {2, 16}, 2, std::string(64, '\0'));
  refuse(block, "no whole blocks");
  GgufWriter large;
  large.stored_tensor("t", {int64_t{1} << 40, int64_t{1} << 40}, 0, "");
  refuse(large, "no room");
  GgufWriter outside;
  outside.stored_tensor("t", {100}, 0, std::string(64, '\0'));
  refuse(outside, "outside the file");
  GgufWriter nested;
  std::string deep = GgufWriter::number(9, 4);
  for (int i = 0; i < 9; ++i) deep += GgufWriter::number(1, 8) + GgufWriter::number(9, 4);
  nested.entry("n", 9, deep);
  refuse(nested, "nested too deeply");
  std::string version = good;
  version[4] = 1;
  check_error(ExitCode::kData, "version", [&] { parse(version); });
}

TEST_CASE("gguf: models of every architecture load after conversion") {
  const std::pair<const char*, Family> known[] = {
      {"llama", Family::kMixtral}, {"qwen2moe", Family::kQwen2Moe}, {"qwen3moe", Family::kQwen3Moe},
      {"olmoe", Family::kOlmoe},   {"glm4moe", Family::kGlm4Moe},   {"gpt-oss", Family::kGptOss}};
  for (const auto& pair : known) {
    const char* const architecture = pair.first;  // CAPTURE's lambda may not capture a structured binding
    const Family family = pair.second;
    CAPTURE(architecture);
    const Scratch scratch;
    GgufWriter writer;
    writer.model(architecture, 3);
    const std::string bytes = writer.bytes();
    const GgufFile file = parse(bytes);
    CHECK(gguf_natural_dtype(file) == DType::kF32);
    const RawModel raw = load(convert_gguf(file, DType::kF32), scratch.path("m"));
    CHECK(raw.config.family == family);
    CHECK(raw.config.num_experts == 3);
    CHECK(raw.config.top_k == 2);
    CHECK(raw.config.tie_word_embeddings);
    CHECK(raw.config.rms_norm_eps == 1e-5f);
    CHECK(raw.config.norm_topk_prob == (family != Family::kQwen2Moe && family != Family::kOlmoe));
    // Expert 2, row 1, column 3 of gate [3, 4, 8]; row 5, column 1 of down [3, 8, 4].
    const RawFfn& expert = raw.layers[1].experts[2];
    CHECK(element_of(expert.gate, 1, 3) == GgufWriter::element("blk.1.ffn_gate_exps.weight", 2 * 32 + 8 + 3));
    CHECK(element_of(expert.up, 1, 3) == GgufWriter::element("blk.1.ffn_up_exps.weight", 2 * 32 + 8 + 3));
    CHECK(element_of(expert.down, 5, 1) ==
          GgufWriter::element("blk.1.ffn_down_exps.weight", 2 * 32 + 5 * 4 + 1));
    // Architecture llama stores the pairs of a head side by side: row 1 of a head of 4 lies in row 2.
    const int64_t stored = family == Family::kMixtral ? 2 : 1;
    CHECK(static_cast<const float*>(raw.layers[0].q.data)[(4 + 1) * 8 + 6] ==
          GgufWriter::element("blk.0.attn_q.weight", (4 + stored) * 8 + 6));
    CHECK(static_cast<const float*>(raw.layers[0].v.data)[8] ==
          GgufWriter::element("blk.0.attn_v.weight", 8));
    const RawModel half = load(convert_gguf(file, DType::kBF16), scratch.path("h"));
    CHECK(half.config.dtype == DType::kBF16);
  }
}

TEST_CASE("gguf: what GLM-4.5 and gpt-oss have besides") {
  const Scratch scratch;
  GgufWriter glm_writer, oss_writer;
  glm_writer.model("glm4moe", 3);
  oss_writer.model("gpt-oss", 3);
  const std::string glm_bytes = glm_writer.bytes(), oss_bytes = oss_writer.bytes();
  const GgufFile glm_file = parse(glm_bytes), oss_file = parse(oss_bytes);
  const RawModel glm = load(convert_gguf(glm_file, DType::kBF16), scratch.path("glm"));
  CHECK(glm.config.num_layers == 2);
  CHECK(glm.config.sparse == std::vector<uint8_t>{0, 1});
  CHECK(glm.config.dense_intermediate_size == 12);
  CHECK(glm.config.shared_intermediate_size == 8);
  CHECK(glm.config.router_scale == 1.5f);
  CHECK(glm.config.rotary_dim == 2);
  CHECK(glm.config.qkv_bias);
  CHECK(glm.config.qk_norm == QkNorm::kNone);
  CHECK(glm.layers[1].router_bias.dtype == DType::kF32);
  CHECK(static_cast<const float*>(glm.layers[1].router_bias.data)[2] ==
        GgufWriter::element("blk.1.exp_probs_b.bias", 2));

  const RawModel oss = load(convert_gguf(oss_file, DType::kF32), scratch.path("oss"));
  CHECK(oss.config.sliding_window == 5);
  CHECK(oss.config.windowed == std::vector<uint8_t>{1, 0});
  CHECK(oss.config.rope_scaling.factor == 4);
  CHECK_FALSE(oss.config.rope_scaling.truncate);
  CHECK(static_cast<const float*>(oss.layers[1].sinks.data)[1] ==
        GgufWriter::element("blk.1.attn_sinks.weight", 1));
  const RawFfn& expert = oss.layers[1].experts[2];
  CHECK(element_of(expert.gate_bias, 3, 0) == GgufWriter::element("blk.1.ffn_gate_exps.bias", 2 * 4 + 3));
  CHECK(element_of(expert.up_bias, 3, 0) == GgufWriter::element("blk.1.ffn_up_exps.bias", 2 * 4 + 3));
  CHECK(element_of(expert.down_bias, 5, 0) == GgufWriter::element("blk.1.ffn_down_exps.bias", 2 * 8 + 5));

  GgufWriter softmax;
  softmax.model("glm4moe", 3);
  std::string bytes = softmax.bytes();
  bytes[bytes.find("expert_gating_func") + 18 + 4] = 1;
  check_error(ExitCode::kData, "glm4moe.expert_gating_func: not sigmoid",
              [&] { convert_gguf(parse(bytes), DType::kF32); });
}

TEST_CASE("gguf: MXFP4 blocks are the numbers of the checkpoint, in another order") {
  // Weight j lies in the low half of byte j, j + 16 in the high half.
  uint8_t block[17] = {126};
  for (int j = 0; j < 16; ++j) block[1 + j] = static_cast<uint8_t>(j | (15 - j) << 4);
  float values[32];
  gguf_dequantise(GgufType::kMXFP4, block, 32, values);
  for (int j = 0; j < 16; ++j) {
    CHECK(values[j] == e2m1_to_f32(static_cast<uint8_t>(j)) / 2);
    CHECK(values[j + 16] == e2m1_to_f32(static_cast<uint8_t>(15 - j)) / 2);
  }
}

TEST_CASE("gguf: Mixtral with one tensor an expert") {
  const Scratch scratch;
  GgufWriter writer;
  writer.model("llama", 3, true);
  const std::string bytes = writer.bytes();
  const GgufFile file = parse(bytes);
  const RawModel raw = load(convert_gguf(file, DType::kF32), scratch.path("m"));
  CHECK(raw.config.num_experts == 3);
  CHECK(raw.config.expert_intermediate_size == 4);
  for (size_t expert = 0; expert < 3; ++expert) {
    const std::string number = "." + std::to_string(expert) + ".weight";
    const RawFfn& ffn = raw.layers[1].experts[expert];
    for (const auto& [part, matrix] :
         {std::pair{"gate", &ffn.gate}, std::pair{"up", &ffn.up}, std::pair{"down", &ffn.down}}) {
      CHECK(static_cast<const float*>(matrix->data)[9] ==
            GgufWriter::element(std::string("blk.1.ffn_") + part + number, 9));
    }
  }
  writer.tensor("blk.0.ffn_gate.3.weight", {4, 8});  // an expert more than the router knows
  const std::string more = writer.bytes();
  check_error(ExitCode::kData, "blk.0.ffn_gate.3.weight: tensor that is not known",
              [&] { convert_gguf(parse(more), DType::kF32); });
}

TEST_CASE("gguf: what a conversion cannot express is refused by name") {
  const auto refuse = [](const GgufWriter& wrong, const std::string& part) {
    const std::string bytes = wrong.bytes();
    check_error(ExitCode::kData, part, [&] { convert_gguf(parse(bytes), DType::kF32); });
  };
  GgufWriter gemma;
  gemma.string("general.architecture", "gemma");
  refuse(gemma, "got gemma");
  GgufWriter model;
  model.model("llama", 0);
  GgufWriter extra = model;
  extra.tensor("rope_freqs.weight", {2});
  refuse(extra, "rope_freqs.weight");
  GgufWriter scaled = model;
  scaled.string("llama.rope.scaling.type", "yarn");
  refuse(scaled, "rotary scaling");
  GgufWriter part = model;
  part.integer("llama.rope.dimension_count", 2);
  refuse(part, "whole heads");
  GgufWriter empty;  // every layer is one of those before the first with experts
  empty.model("glm4moe", 3, false, true);
  refuse(empty, "expert_count: no layer has experts");
  GgufWriter one_of_two = model;
  one_of_two.integer("split.count", 2);
  refuse(one_of_two, "one of several files");
  GgufWriter few;
  few.string("general.architecture", "llama");
  refuse(few, "llama.block_count: missing");
}

TEST_CASE("gguf: a byte-level tokenizer") {
  GgufWriter writer;
  writer.string("tokenizer.ggml.model", "gpt2");
  writer.string("tokenizer.ggml.pre", "smollm");
  std::vector<std::string> tokens{"<|im_start|>",
                                  "<|im_end|>",
                                  "a",
                                  "b",
                                  "1",
                                  "\xc4\xa0",
                                  "ab",
                                  "\xc4\xa0"
                                  "ab"};
  writer.texts("tokenizer.ggml.tokens", tokens);
  writer.integers("tokenizer.ggml.token_type", {3, 3, 1, 1, 1, 1, 1, 1});
  writer.texts("tokenizer.ggml.merges", {"a b", "\xc4\xa0 ab"});
  writer.integer("tokenizer.ggml.bos_token_id", 0);
  writer.integer("tokenizer.ggml.eos_token_id", 1);
  writer.string("tokenizer.chat_template", "{{ bos_token }}");
  const std::string bytes = writer.bytes();
  const GgufTokenizer made = gguf_tokenizer(parse(bytes));
  CHECK(made.config["eos_token"] == "<|im_end|>");
  CHECK(made.config["chat_template"] == "{{ bos_token }}");
  const Scratch scratch;
  scratch.write("tokenizer.json", made.tokenizer.dump());
  const Tokenizer tokenizer = Tokenizer::load(scratch.path());
  CHECK(tokenizer.encode("ab ab11<|im_end|>", true) == std::vector<int32_t>{6, 7, 4, 4, 1});
  CHECK(tokenizer.decode(std::vector<int32_t>{6, 7, 4}, true) == "ab ab1");
}

TEST_CASE("gguf: each pre-tokenizer cuts texts as its name says") {
  struct Cut {
    const char* pre;
    const char* text;
    std::vector<std::string> pieces;
  };
  // Every piece is a token, so that what is cut apart stays apart; the blank is written as tokens are.
  for (const Cut& cut :
       {Cut{"gpt-2", "ab1234's", {"ab", "1234", "'s"}}, Cut{"olmo", "ab1234's", {"ab", "1234", "'s"}},
        Cut{"smollm", "ab12", {"ab", "1", "2"}}, Cut{"qwen2", "ab12'S", {"ab", "1", "2", "'S"}},
        Cut{"glm4", "ab1234'S", {"ab", "123", "4", "'S"}},
        Cut{"gpt-4o", "abCd1234'S/", {"ab", "Cd", "123", "4", "'S", "/"}}, Cut{"gpt-4o", "ab'S", {"ab'S"}}}) {
    CAPTURE(cut.pre);
    CAPTURE(cut.text);
    GgufWriter writer;
    writer.string("tokenizer.ggml.model", "gpt2");
    writer.string("tokenizer.ggml.pre", cut.pre);
    std::vector<std::string> tokens, merges;
    for (const char* c = "abCdS1234'/"; *c != 0; ++c) tokens.push_back(std::string(1, *c));
    for (const std::string whole : {"ab", "Cd", "12", "123", "1234", "'s", "'S", "ab'S", "S/"}) {
      tokens.push_back(whole);
      merges.push_back(whole.substr(0, whole.size() - 1) + " " + whole.substr(whole.size() - 1));
    }
    tokens.insert(tokens.end(), {"s", "ab'"});
    merges.insert(merges.begin() + 1, "ab '");
    writer.texts("tokenizer.ggml.tokens", tokens);
    writer.integers("tokenizer.ggml.token_type", std::vector<int32_t>(tokens.size(), 1));
    writer.texts("tokenizer.ggml.merges", merges);
    const std::string bytes = writer.bytes();
    const Scratch scratch;
    scratch.write("tokenizer.json", gguf_tokenizer(parse(bytes)).tokenizer.dump());
    const Tokenizer tokenizer = Tokenizer::load(scratch.path());
    std::vector<std::string> pieces;
    for (const int32_t id : tokenizer.encode(cut.text, false))
      pieces.push_back(tokens[static_cast<size_t>(id)]);
    CHECK(pieces == cut.pieces);
  }
  GgufWriter writer;
  writer.string("tokenizer.ggml.model", "gpt2");
  writer.string("tokenizer.ggml.pre", "tekken");
  writer.texts("tokenizer.ggml.tokens", {"a"});
  writer.integers("tokenizer.ggml.token_type", {1});
  writer.texts("tokenizer.ggml.merges", {});
  const std::string bytes = writer.bytes();
  check_error(ExitCode::kData,
              "pre-tokenizer not supported (expected one of gpt-2, smollm, qwen2, olmo, glm4, gpt-4o, "
              "llama-bpe, got tekken)",
              [&] { gguf_tokenizer(parse(bytes)); });
}

TEST_CASE("gguf: a SentencePiece tokenizer: merges from the scores") {
  GgufWriter writer;
  writer.string("tokenizer.ggml.model", "llama");
  std::vector<std::string> tokens{"<unk>",
                                  "<s>",
                                  "</s>",
                                  "\xe2\x96\x81",
                                  "a",
                                  "b",
                                  "ab",
                                  "\xe2\x96\x81"
                                  "ab",
                                  "ba"};
  std::vector<int32_t> types{2, 3, 3, 1, 1, 1, 1, 1, 1};
  std::vector<float> scores{0, 0, 0, -6, -7, -8, -1, -2, 0};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    tokens.push_back(name);
    types.push_back(6);
    scores.push_back(0);
  }
  writer.texts("tokenizer.ggml.tokens", tokens);
  writer.integers("tokenizer.ggml.token_type", types);
  writer.reals("tokenizer.ggml.scores", scores);
  writer.integer("tokenizer.ggml.bos_token_id", 1);
  writer.integer("tokenizer.ggml.eos_token_id", 2);
  writer.integer("tokenizer.ggml.unknown_token_id", 0);
  const std::string bytes = writer.bytes();
  const Scratch scratch;
  scratch.write("tokenizer.json", gguf_tokenizer(parse(bytes)).tokenizer.dump());
  const Tokenizer tokenizer = Tokenizer::load(scratch.path());
  CHECK(tokenizer.encode("ab", true) == std::vector<int32_t>{1, 7});
  CHECK(tokenizer.encode("aba", false) == std::vector<int32_t>{3, 4, 8});  // "ba" comes first
  CHECK(tokenizer.encode("c", false) == std::vector<int32_t>{3, 9 + 'c'});
  CHECK(tokenizer.decode(std::vector<int32_t>{7, 9 + 'c'}, true) == "abc");
}

}  // namespace eep
