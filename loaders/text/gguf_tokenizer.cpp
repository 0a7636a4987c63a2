#include "loaders/text/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "kernels/common/expected.h"
#include "loaders/text/pretokenizer.h"

namespace eep {

namespace {

enum TokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

constexpr const char* kBlank = "\xe2\x96\x81";  // SentencePiece's mark of a space
// What tokenizer.ggml.pre says of a byte-level tokenizer: how texts are cut before the merges.
struct PreTokenization {
  std::string_view name;
  const char* const* pattern = nullptr;  // else that of GPT-2
  bool nfc = false;
  bool digits = false;         // each alone
  bool ignore_merges = false;  // a piece that is a token is that token
};

constexpr PreTokenization kPreTokenizations[] = {
    {.name = "gpt-2"},
    {.name = "smollm", .digits = true},
    {.name = "qwen2", .pattern = &kQwenRegex, .nfc = true},
    {.name = "olmo", .nfc = true},
    {.name = "glm4", .pattern = &kLlama3Regex, .ignore_merges = true},
    {.name = "gpt-4o", .pattern = &kGpt4oRegex},
    {.name = "llama-bpe", .pattern = &kLlama3Regex, .ignore_merges = true},
};

class Builder {
 public:
  explicit Builder(const GgufFile& file) : file_(file) {}

  GgufTokenizer build() {
    tokens_ = &array("tokens", GgufValue::Kind::kText).texts;
    types_ = &array("token_type", GgufValue::Kind::kInteger).integers;
    if (types_->size() != tokens_->size()) fail("tokenizer.ggml.token_type: not one entry a token");
    const std::string& model = file_.text("tokenizer.ggml.model");
    if (model != "gpt2" && model != "llama") {
      fail("tokenizer.ggml.model: not supported" + expected_got("gpt2 or llama", printable(model)));
    }
    const bool sentencepiece = model == "llama";
    Json tokenizer{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    tokenizer["added_tokens"] = added_tokens(sentencepiece);
    sentencepiece ? sentencepiece_parts(tokenizer) : byte_level_parts(tokenizer);
    if (adds("add_bos_token", sentencepiece)) add_bos(tokenizer);
    tokenizer["model"] = bpe(sentencepiece);
    return {std::move(tokenizer), config()};
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(ExitCode::kData, file_.where, what); }

  const GgufValue& array(const std::string& name, GgufValue::Kind kind) const {
    const std::string key = "tokenizer.ggml." + name;
    const GgufValue* value = file_.find_value(key);
    if (value == nullptr) fail(key + ": missing");
    if (!value->array || value->kind != kind) fail(key + ": wrong type");
    return *value;
  }

  bool adds(const std::string& name, bool fallback) const {
    const GgufValue* value = file_.find_value("tokenizer.ggml." + name);
    return value == nullptr || value->kind != GgufValue::Kind::kBool || value->array
               ? fallback
               : value->integers[0] != 0;
  }

  // The text of tokenizer.ggml.<name>_token_id, "" if there is none.
  std::string special(const std::string& name) const {
    const std::string key = "tokenizer.ggml." + name + "_token_id";
    if (file_.find_value(key) == nullptr) return {};
    const int64_t id = file_.integer(key, -1, static_cast<int64_t>(tokens_->size()) - 1);
    return id < 0 ? std::string() : (*tokens_)[static_cast<size_t>(id)];
  }

  Json added_tokens(bool sentencepiece) const {
    Json added = Json::array();
    for (size_t id = 0; id < tokens_->size(); ++id) {
      const int64_t type = (*types_)[id];
      if (type != kControl && type != kUserDefined && !(type == kUnknown && sentencepiece)) continue;
      added.push_back({{"id", id},
                       {"content", (*tokens_)[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", type != kUserDefined}});
    }
    return added;
  }

  const PreTokenization& pre_tokenization() const {
    const std::string key = "tokenizer.ggml.pre";
    const std::string pre = file_.find_value(key) == nullptr ? "gpt-2" : file_.text(key);
    std::vector<std::string_view> known;
    for (const PreTokenization& each : kPreTokenizations) {
      if (each.name == pre) return each;
      known.push_back(each.name);
    }
    fail(fmt::format("{}: pre-tokenizer not supported", key) +
         expected_got(fmt::format("one of {}", fmt::join(known, ", ")), printable(pre)));
  }

  void byte_level_parts(Json& tokenizer) const {
    const PreTokenization& pre = pre_tokenization();
    const Json bytes{{"type", "ByteLevel"},
                     {"add_prefix_space", false},
                     {"trim_offsets", true},
                     {"use_regex", pre.pattern == nullptr}};
    tokenizer["normalizer"] = pre.nfc ? Json{{"type", "NFC"}} : Json();
    Json first;
    if (pre.digits) first = {{"type", "Digits"}, {"individual_digits", true}};
    if (pre.pattern != nullptr) {
      first = {{"type", "Split"},
               {"pattern", {{"Regex", *pre.pattern}}},
               {"behavior", "Isolated"},
               {"invert", false}};
    }
    tokenizer["pre_tokenizer"] = bytes;
    if (!first.is_null())
      tokenizer["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {first, bytes}}};
    const Json decoder{
        {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
    tokenizer["post_processor"] = decoder;
    tokenizer["decoder"] = decoder;
  }

  void sentencepiece_parts(Json& tokenizer) const {
    Json normalizers = Json::array();
    if (adds("add_space_prefix", true)) normalizers.push_back({{"type", "Prepend"}, {"prepend", kBlank}});
    normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kBlank}});
    tokenizer["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
    tokenizer["pre_tokenizer"] = nullptr;
    tokenizer["post_processor"] = nullptr;
    Json decoders = Json::array();
    decoders.push_back({{"type", "Replace"}, {"pattern", {{"String", kBlank}}}, {"content", " "}});
    decoders.push_back({{"type", "ByteFallback"}});
    decoders.push_back({{"type", "Fuse"}});
    if (adds("add_space_prefix", true)) {
      decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    }
    tokenizer["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  }

  void add_bos(Json& tokenizer) const {
    const std::string bos = special("bos");
    if (bos.empty()) fail("tokenizer.ggml.bos_token_id: missing, and add_bos_token is true");
    const int64_t id =
        file_.integer("tokenizer.ggml.bos_token_id", 0, static_cast<int64_t>(tokens_->size()) - 1);
    const Json first{{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
    const auto sequence = [](const char* name, int type) {
      return Json{{"Sequence", {{"id", name}, {"type_id", type}}}};
    };
    const Json second{{"SpecialToken", {{"id", bos}, {"type_id", 1}}}};
    Json special_tokens = Json::object();
    special_tokens[bos] = {{"id", bos}, {"ids", {id}}, {"tokens", {bos}}};
    tokenizer["post_processor"] = {{"type", "TemplateProcessing"},
                                   {"single", {first, sequence("A", 0)}},
                                   {"pair", {first, sequence("A", 0), second, sequence("B", 1)}},
                                   {"special_tokens", special_tokens}};
  }

  Json bpe(bool sentencepiece) const {
    Json vocabulary = Json::object();
    auto& members = vocabulary.get_ref<Json::object_t&>();  // no search for each of the names
    std::unordered_map<std::string, size_t> ids;
    for (size_t id = 0; id < tokens_->size(); ++id) {
      if (!ids.emplace((*tokens_)[id], id).second) {
        fail(fmt::format("tokenizer.ggml.tokens: token {} is there twice ({})", id,
                         printable((*tokens_)[id])));
      }
      members.emplace_back((*tokens_)[id], id);
    }
    const std::string unknown = special("unknown");
    Json model{{"type", "BPE"},
               {"dropout", nullptr},
               {"unk_token", sentencepiece && !unknown.empty() ? Json(unknown) : Json()},
               {"continuing_subword_prefix", nullptr},
               {"end_of_word_suffix", nullptr},
               {"fuse_unk", sentencepiece},
               {"byte_fallback", sentencepiece},
               {"ignore_merges", !sentencepiece && pre_tokenization().ignore_merges},
               {"vocab", std::move(vocabulary)}};
    model["merges"] = sentencepiece ? derived_merges(ids) : stored_merges(ids);
    return model;
  }

  Json stored_merges(const std::unordered_map<std::string, size_t>& ids) const {
    Json merges = Json::array();
    for (const std::string& merge : array("merges", GgufValue::Kind::kText).texts) {
      const size_t blank = merge.find(' ', 1);
      if (blank == std::string::npos) fail("tokenizer.ggml.merges: no pair: " + printable(merge));
      const std::string left = merge.substr(0, blank), right = merge.substr(blank + 1);
      if (ids.count(left) == 0 || ids.count(right) == 0 || ids.count(left + right) == 0) {
        fail("tokenizer.ggml.merges: a part or the whole is no token: " + printable(merge));
      }
      merges.push_back({left, right});
    }
    return merges;
  }

  // All splits of every piece into two pieces, by the piece's score; those of one piece by the ids of the
  // two.
  Json derived_merges(const std::unordered_map<std::string, size_t>& ids) const {
    const std::vector<double>& scores = array("scores", GgufValue::Kind::kReal).reals;
    if (scores.size() != tokens_->size()) fail("tokenizer.ggml.scores: not one entry a token");
    struct Merge {
      double score;
      size_t left, right;
    };
    std::vector<Merge> merges;
    for (size_t id = 0; id < tokens_->size(); ++id) {
      if ((*types_)[id] != kNormal && (*types_)[id] != kUserDefined) continue;
      const std::string& piece = (*tokens_)[id];
      if (piece.size() > 512) fail("tokenizer.ggml.tokens: token too long: " + printable(piece));
      const size_t begin = merges.size();
      for (size_t cut = 1; cut < piece.size(); ++cut) {
        const auto left = ids.find(piece.substr(0, cut)), right = ids.find(piece.substr(cut));
        if (left == ids.end() || right == ids.end()) continue;
        merges.push_back({scores[id], left->second, right->second});
      }
      std::sort(merges.begin() + static_cast<int64_t>(begin), merges.end(),
                [](const Merge& a, const Merge& b) {
                  return a.left != b.left ? a.left < b.left : a.right < b.right;
                });
    }
    std::stable_sort(merges.begin(), merges.end(),
                     [](const Merge& a, const Merge& b) { return a.score > b.score; });
    Json list = Json::array();
    for (const Merge& merge : merges) list.push_back({(*tokens_)[merge.left], (*tokens_)[merge.right]});
    return list;
  }

  Json config() const {
    Json config = Json::object();
    for (const auto& [name, key] : {std::pair{"bos", "bos_token"},
                                    {"eos", "eos_token"},
                                    {"unknown", "unk_token"},
                                    {"padding", "pad_token"}}) {
      if (const std::string token = special(name); !token.empty()) config[key] = token;
    }
    config["clean_up_tokenization_spaces"] = false;
    config["tokenizer_class"] = "PreTrainedTokenizerFast";
    if (file_.find_value("tokenizer.chat_template") != nullptr) {
      config["chat_template"] = file_.text("tokenizer.chat_template");
    }
    return config;
  }

  const GgufFile& file_;
  const std::vector<std::string>* tokens_ = nullptr;
  const std::vector<int64_t>* types_ = nullptr;
};

}  // namespace

GgufTokenizer gguf_tokenizer(const GgufFile& file) { return Builder(file).build(); }

}  // namespace eep
