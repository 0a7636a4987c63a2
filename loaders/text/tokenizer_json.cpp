// tokenizer.json of Hugging Face `tokenizers`: the parts that the supported families use. Everything else is
// refused by name at its line.
#include <algorithm>
#include <filesystem>

#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/formats/unicode.h"
#include "loaders/text/tokenizer_data.h"

namespace eep {

namespace {

constexpr size_t kMaxTokenizerFile = size_t{256} << 20;

std::string type_of(const JsonView& view) { return view.as_object().at("type").as_string(); }

[[noreturn]] void refuse(const JsonView& view, const char* what) {
  view.at("type").fail(std::string(what) + " not supported: " + printable(view.at("type").as_string()));
}

// {"String": "..."} of a replacement.
std::string string_pattern(const JsonView& view) {
  const JsonView pattern = view.at("pattern").as_object();
  if (!pattern.has("String")) pattern.fail("only patterns of the form {\"String\": ...} are supported here");
  const std::string& text = pattern.at("String").as_string();
  if (text.empty()) pattern.fail("empty pattern");
  return text;
}

void read_normalizer(const JsonView& view, std::vector<Normalizer>& normalizers) {
  const std::string type = type_of(view);
  if (type == "Sequence") {
    const JsonView parts = view.at("normalizers").as_array();
    for (size_t i = 0; i < parts.size(); ++i) read_normalizer(parts.at(i), normalizers);
  } else if (type == "NFC") {
    normalizers.push_back({Normalizer::Kind::kNfc, "", ""});
  } else if (type == "Prepend") {
    normalizers.push_back({Normalizer::Kind::kPrepend, "", view.at("prepend").as_string()});
  } else if (type == "Replace") {
    normalizers.push_back({Normalizer::Kind::kReplace, string_pattern(view), view.at("content").as_string()});
  } else {
    refuse(view, "normalizer");
  }
}

PreTokenizer::Prepend read_prepend(const JsonView& view) {
  const std::string scheme =
      view.string_or("prepend_scheme", view.bool_or("add_prefix_space", true) ? "always" : "never");
  if (scheme == "first") return PreTokenizer::Prepend::kFirst;
  if (scheme == "always") return PreTokenizer::Prepend::kAlways;
  if (scheme != "never") view.at("prepend_scheme").fail_expected("\"first\", \"always\" or \"never\"");
  return PreTokenizer::Prepend::kNever;
}

std::string read_replacement(const JsonView& view) {
  const std::string replacement = view.string_or("replacement", "\xe2\x96\x81");
  if (replacement.empty() || decode_utf8(replacement, 0).bytes != replacement.size()) {
    view.at("replacement").fail_expected("one character");
  }
  return replacement;
}

void read_split(const JsonView& view, std::vector<PreTokenizer>& stages) {
  const JsonView pattern = view.at("pattern").as_object();
  PreTokenizer stage;
  if (!pattern.has("Regex")) pattern.fail("only splits by a regular expression are supported");
  const JsonView regex = pattern.at("Regex");
  if (!split_kind(regex.as_string(), stage.kind)) {
    regex.fail("regular expression not supported: " + printable(regex.as_string()));
  }
  const std::string behavior = view.at("behavior").as_string();
  const bool invert = view.bool_or("invert", false);
  // The expressions match everywhere, so keeping the matches and removing what lies between is the same.
  if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert)) {
    view.at("behavior").fail_expected("\"Isolated\"");
  }
  stages.push_back(stage);
}

void read_pre_tokenizer(const JsonView& view, TokenizerData& data) {
  std::vector<PreTokenizer>& stages = data.pre_tokenizers;
  const std::string type = type_of(view);
  if (data.byte_level) view.fail("nothing can follow the pre-tokenizer ByteLevel");
  if (stages.size() >= 8) view.fail("too many pre-tokenizers (expected at most 8)");
  PreTokenizer stage;
  if (type == "Sequence") {
    const JsonView parts = view.at("pretokenizers").as_array();
    for (size_t i = 0; i < parts.size(); ++i) read_pre_tokenizer(parts.at(i), data);
  } else if (type == "Split") {
    read_split(view, stages);
  } else if (type == "Digits") {
    stage.kind = view.bool_or("individual_digits", false) ? PreTokenizer::Kind::kDigits
                                                          : PreTokenizer::Kind::kDigitRuns;
    stages.push_back(stage);
  } else if (type == "Metaspace") {
    stage.kind =
        view.bool_or("split", true) ? PreTokenizer::Kind::kMetaspaceSplit : PreTokenizer::Kind::kMetaspace;
    stage.prepend = read_prepend(view);
    stage.replacement = read_replacement(view);
    stages.push_back(stage);
  } else if (type == "ByteLevel") {
    stage.kind = PreTokenizer::Kind::kPrefixSpace;
    if (view.bool_or("add_prefix_space", true)) stages.push_back(stage);
    stage.kind = PreTokenizer::Kind::kGpt2;
    if (view.bool_or("use_regex", true)) stages.push_back(stage);
    data.byte_level = true;
  } else {
    refuse(view, "pre-tokenizer");
  }
}

// The ids that a template puts before and after the text.
void read_template(const JsonView& view, TokenizerData& data) {
  const JsonView parts = view.at("single").as_array();
  const JsonView special = view.at("special_tokens").as_object();
  std::vector<int32_t> before, after;
  bool seen = false;
  for (size_t i = 0; i < parts.size(); ++i) {
    const JsonView part = parts.at(i).as_object();
    if (part.has("Sequence")) {
      if (seen || part.at("Sequence").at("id").as_string() != "A") part.fail("expected sequence A once");
      seen = true;
      continue;
    }
    const JsonView ids = special.at(part.at("SpecialToken").at("id").as_string()).at("ids").as_array();
    for (size_t j = 0; j < ids.size(); ++j) {
      const auto id = static_cast<int32_t>(ids.at(j).as_int(0, kMaxVocabulary - 1));
      (seen ? after : before).push_back(id);
    }
  }
  if (!seen) parts.fail("expected sequence A once");
  data.prefix.insert(data.prefix.begin(), before.begin(), before.end());
  data.suffix.insert(data.suffix.end(), after.begin(), after.end());
}

void read_post_processor(const JsonView& view, TokenizerData& data) {
  const std::string type = type_of(view);
  if (type == "Sequence") {
    const JsonView parts = view.at("processors").as_array();
    for (size_t i = 0; i < parts.size(); ++i) read_post_processor(parts.at(i), data);
  } else if (type == "TemplateProcessing") {
    read_template(view, data);
  } else if (type != "ByteLevel") {  // which moves offsets, not ids
    refuse(view, "post-processor");
  }
}

void read_decoder(const JsonView& view, std::vector<DecoderStep>& steps) {
  const std::string type = type_of(view);
  if (steps.size() >= 16) view.fail("too many decoders (expected at most 16)");
  DecoderStep step;
  if (type == "Sequence") {
    const JsonView parts = view.at("decoders").as_array();
    for (size_t i = 0; i < parts.size(); ++i) read_decoder(parts.at(i), steps);
    return;
  }
  if (type == "ByteLevel") {
    step.kind = DecoderStep::Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = DecoderStep::Kind::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = DecoderStep::Kind::kFuse;
  } else if (type == "Replace") {
    step.kind = DecoderStep::Kind::kReplace;
    step.pattern = string_pattern(view);
    step.content = view.at("content").as_string();
  } else if (type == "Strip") {
    step.kind = DecoderStep::Kind::kStrip;
    step.content = view.at("content").as_string();
    if (step.content.empty()) view.at("content").fail_expected("one character");
    step.start = view.at("start").as_int(0, INT32_MAX);
    step.stop = view.at("stop").as_int(0, INT32_MAX);
  } else if (type == "Metaspace") {
    step.kind = DecoderStep::Kind::kMetaspace;
    step.pattern = read_replacement(view);
    step.drop_first = read_prepend(view) != PreTokenizer::Prepend::kNever;
  } else {
    refuse(view, "decoder");
  }
  steps.push_back(step);
}

void read_vocabulary(const JsonView& model, TokenizerData& data, int64_t largest_id,
                     const std::string& where) {
  const JsonView vocabulary = model.at("vocab").as_object();
  std::string key;
  for (const auto& [spelling, value] : vocabulary.value().items()) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(largest_id)) {
      vocabulary.at(spelling).fail_expected("a token id from 0 to " + std::to_string(largest_id));
    }
    const auto id = static_cast<int32_t>(value.get<uint64_t>());
    register_token(data, id, spelling, where);
    if (!data.byte_level) {
      data.bpe.add_token(spelling, id);
    } else if (to_bytes(spelling, key)) {
      data.bpe.add_token(key, id);
    }
  }
}

void add_byte_fallback(TokenizerData& data) {
  static const char* digits = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    const std::string token = {'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'};
    data.bpe.add_byte_token(static_cast<uint8_t>(byte), data.by_spelling.find(token));
  }
}

// "a b" or ["a", "b"], in order of rank.
void read_merges(const JsonView& model, TokenizerData& data) {
  const JsonView merges = model.at("merges").as_array();
  int32_t rank = 0;
  for (size_t i = 0; i < merges.size(); ++i) {
    const Json& merge = merges.value()[i];
    std::string left, right;
    if (merge.is_string()) {
      const std::string& text = merge.get_ref<const std::string&>();
      if (text.rfind("#version", 0) == 0) continue;
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        merges.at(i).fail_expected("two tokens with a space between them");
      }
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      merges.at(i).fail_expected("\"a b\" or [\"a\", \"b\"]");
    }
    const int32_t left_id = data.by_spelling.find(left), right_id = data.by_spelling.find(right);
    const int32_t result = data.by_spelling.find(left + right);
    if (left_id < 0 || right_id < 0 || result < 0) {
      merges.at(i).fail("not in the vocabulary: " + printable(left_id < 0    ? left
                                                              : right_id < 0 ? right
                                                                             : left + right));
    }
    data.bpe.add_merge(left_id, right_id, result, rank++);
  }
}

void read_model(const JsonView& model, TokenizerData& data, size_t added, const std::string& where) {
  if (model.has_value("type") && type_of(model) != "BPE") refuse(model, "tokenizer model");
  if (model.has_value("dropout")) model.at("dropout").fail("dropout not supported (expected null)");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.string_or(key, "").empty()) model.at(key).fail("not supported (expected null)");
  }
  const size_t count = model.at("vocab").as_object().size();
  if (count > static_cast<size_t>(kMaxVocabulary)) {
    model.at("vocab").fail("too many tokens" +
                           expected_got("at most " + std::to_string(kMaxVocabulary), count));
  }
  BpeOptions options;
  options.byte_level = data.byte_level;
  options.byte_fallback = model.bool_or("byte_fallback", false);
  options.fuse_unknown = model.bool_or("fuse_unk", false);
  options.ignore_merges = model.bool_or("ignore_merges", false);
  if (options.byte_level && options.byte_fallback) {
    model.at("byte_fallback").fail("not supported together with ByteLevel (expected false)");
  }
  const std::string unknown = model.string_or("unk_token", "");
  if (!unknown.empty()) {
    const JsonView vocabulary = model.at("vocab");
    options.unknown_id = vocabulary.has(unknown)
                             ? static_cast<int32_t>(vocabulary.at(unknown).as_int(0, kMaxVocabulary - 1))
                             : kUnknownMissing;
  }
  data.bpe = Bpe(options);
  // Ids may have gaps, but small ones: memory goes with the largest.
  const auto largest_id =
      static_cast<int64_t>(std::min(2 * (count + added) + 65536, size_t{kMaxVocabulary} - 1));
  read_vocabulary(model, data, largest_id, where);
  if (options.byte_fallback) add_byte_fallback(data);
  read_merges(model, data);
}

// vocabulary: the number of its tokens. A token that it does not hold must have the next id: other loaders
// give it that one, whatever the file says. (A vocabulary with gaps has been cut by hand: its ids count as
// they stand.)
void read_added_tokens(const JsonView& tokens, TokenizerData& data, int64_t vocabulary,
                       const std::string& where) {
  int64_t next = vocabulary;
  const bool whole = std::ssize(data.spelling) == vocabulary;
  const auto largest_id = static_cast<int64_t>(2 * (data.spelling.size() + tokens.size()) + 65536);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const JsonView view = tokens.at(i).as_object();
    AddedToken token;
    token.id = static_cast<int32_t>(view.at("id").as_int(0, std::min(largest_id, kMaxVocabulary - 1)));
    token.content = view.at("content").as_string();
    if (whole && data.by_spelling.find(token.content) < 0 && token.id != next) {
      view.at("id").fail("not the id that loaders give this token" +
                         expected_got(std::to_string(next) + ", the next one", token.id));
    }
    next = std::max<int64_t>(next, token.id + 1);
    token.single_word = view.bool_or("single_word", false);
    token.lstrip = view.bool_or("lstrip", false);
    token.rstrip = view.bool_or("rstrip", false);
    token.normalized = view.bool_or("normalized", false);
    token.special = view.bool_or("special", false);
    register_added_token(data, token, where);
  }
}

// A token of a side file: what the vocabulary does not have gets the id behind it.
void add_token(AddedToken token, TokenizerData& data, const std::string& where) {
  if (token.content.empty()) return;
  const int32_t known = data.by_spelling.find(token.content);
  if (known >= 0 && data.added[static_cast<size_t>(known)] != 0) return;
  token.id = known >= 0 ? known : static_cast<int32_t>(data.spelling.size());
  register_added_token(data, token, where);
}

// extra_special_tokens (version 5) and additional_special_tokens (4) of tokenizer_config.json and, where that
// has no added_tokens_decoder, of special_tokens_map.json; which of them count is as in transformers 5.
class Extras {
 public:
  explicit Extras(const std::string& directory) {
    const std::string config = join_path(directory, "tokenizer_config.json");
    const std::string map = join_path(directory, "special_tokens_map.json");
    bool decoder = false;
    for (const std::string& path : {config, map}) {
      if (decoder || !is_there(path)) continue;
      const JsonDocument document = JsonDocument::read(path);
      const JsonView root = document.root().as_object();
      decoder = root.has_value("added_tokens_decoder");
      if (root.bool_or("split_special_tokens", false))
        root.at("split_special_tokens")
            .fail("not supported: special tokens are cut out of a text (expected false)");
      own_tokens(root, path == config);
      path == config ? from_config(root) : from_map(root);
    }
  }

  std::vector<AddedToken> take() {
    std::vector<AddedToken> all = std::move(late_);
    all.insert(all.end(), named_.begin(), named_.end());
    all.insert(all.end(), listed_.begin(), listed_.end());
    return all;
  }

 private:
  static std::vector<AddedToken> tokens_of(const JsonView& given) {
    std::vector<AddedToken> tokens;
    if (given.is_object()) {
      for (const auto& [name, token] : given.value().items()) tokens.push_back(special_token(given.at(name)));
      return tokens;
    }
    const JsonView list = given.as_array();
    for (size_t i = 0; i < list.size(); ++i) tokens.push_back(special_token(list.at(i)));
    return tokens;
  }

  // NAME_token beside those that every tokenizer may have: image_token. Texts of the configuration are named,
  // what comes to be a token later goes before them.
  void own_tokens(const JsonView& root, bool config) {
    for (const auto& [name, value] : root.value().items()) {
      const bool usual =
          std::find(std::begin(kSpecialTokens), std::end(kSpecialTokens), name) != std::end(kSpecialTokens);
      const bool token = value.is_string() || (value.is_object() && value.contains("content"));
      if (usual || !token || !name.ends_with("_token")) continue;
      (config && value.is_string() ? named_ : late_).push_back(special_token(root.at(name)));
    }
  }

  void from_config(const JsonView& root) {
    const bool some = root.has_value("extra_special_tokens") && root.at("extra_special_tokens").size() > 0;
    if (!some && root.has("additional_special_tokens")) {
      listed_ = root.has_value("additional_special_tokens") ? tokens_of(root.at("additional_special_tokens"))
                                                            : std::vector<AddedToken>{};
      decided_ = true;
    } else if (some && root.at("extra_special_tokens").is_object()) {
      const std::vector<AddedToken> tokens = tokens_of(root.at("extra_special_tokens"));
      named_.insert(named_.end(), tokens.begin(), tokens.end());
    } else if (root.has("extra_special_tokens")) {
      if (some) listed_ = tokens_of(root.at("extra_special_tokens"));
      decided_ = true;
    }
  }

  void from_map(const JsonView& root) {
    if (root.has_value("extra_special_tokens")) {
      const JsonView given = root.at("extra_special_tokens");
      const std::vector<AddedToken> tokens = tokens_of(given);
      if (given.is_object()) {  // in the place of the config's list
        listed_.clear();
        named_.insert(named_.end(), tokens.begin(), tokens.end());
        decided_ = false;
      } else {
        for (const AddedToken& token : tokens) {
          const bool known = std::any_of(listed_.begin(), listed_.end(), [&](const AddedToken& each) {
            return each.content == token.content;
          });
          if (!known) listed_.push_back(token);
        }
        decided_ = true;
      }
    }
    if (!decided_ && root.has_value("additional_special_tokens"))
      listed_ = tokens_of(root.at("additional_special_tokens"));
  }

  std::vector<AddedToken> late_, named_, listed_;  // in the order in which they are added
  bool decided_ = false;  // a list of the config's: additional tokens of the map do not count
};

// added_tokens_decoder, or where there is none added_tokens.json, in the order of their ids, which do not
// count.
std::vector<AddedToken> further_tokens(const std::string& directory, const TokenizerConfig& config,
                                       const std::vector<AddedToken>& extras) {
  std::vector<AddedToken> tokens = config.added_tokens;
  const std::string path = join_path(directory, "added_tokens.json");
  if (tokens.empty() && is_there(path)) {
    const JsonDocument document = JsonDocument::read(path);
    const JsonView root = document.root().as_object();
    for (const auto& [content, id] : root.value().items()) {
      AddedToken token;
      token.id = static_cast<int32_t>(root.at(content).as_int(0, kMaxVocabulary - 1));
      token.content = content;
      token.special = std::any_of(extras.begin(), extras.end(), [&text = content](const AddedToken& extra) {
        return extra.content == text;
      });
      for (const auto& [name, special] : config.specials)
        token.special = token.special || special.content == content;
      token.normalized = !token.special;
      tokens.push_back(std::move(token));
    }
  }
  std::sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return tokens;
}

// The special tokens of the side files are cut out of a text like added ones, as transformers has it; those
// that the vocabulary does not have get the ids behind it.
void add_specials(const TokenizerConfig& config, TokenizerData& data, const std::string& where) {
  for (const char* name : kSpecialTokens) {
    const auto special = config.specials.find(name);
    if (special != config.specials.end()) add_token(special->second, data, where);
  }
}

// Those of the side files, in the order in which transformers adds them.
void add_side_tokens(const std::string& directory, const TokenizerConfig& config, TokenizerData& data,
                     const std::string& where) {
  const std::vector<AddedToken> extras = Extras(directory).take();
  for (const AddedToken& token : further_tokens(directory, config, extras)) add_token(token, data, where);
  add_specials(config, data, where);
  for (const AddedToken& extra : extras) add_token(extra, data, where);
}

}  // namespace

TokenizerData read_tokenizer_json(const std::string& path) {
  const JsonDocument document = JsonDocument::read(path, kMaxTokenizerFile);
  const JsonView root = document.root().as_object();
  const JsonView model = root.at("model").as_object();
  TokenizerData data;
  if (root.has_value("normalizer")) read_normalizer(root.at("normalizer"), data.normalizers);
  if (root.has_value("pre_tokenizer")) read_pre_tokenizer(root.at("pre_tokenizer"), data);
  if (root.has_value("post_processor")) read_post_processor(root.at("post_processor"), data);
  data.has_decoder = root.has_value("decoder");
  if (data.has_decoder) read_decoder(root.at("decoder"), data.decoder);

  const size_t added = root.has_value("added_tokens") ? root.at("added_tokens").as_array().size() : 0;
  read_model(model, data, added, path);
  const auto vocabulary = static_cast<int64_t>(model.at("vocab").as_object().size());
  if (added > 0) read_added_tokens(root.at("added_tokens"), data, vocabulary, path);
  const std::string directory = std::filesystem::path(path).parent_path().string();
  const TokenizerConfig config = read_tokenizer_config(directory);
  add_side_tokens(directory, config, data, path);
  for (const std::vector<int32_t>* ids : {&data.prefix, &data.suffix}) {
    for (int32_t id : *ids) {
      if (static_cast<size_t>(id) < data.spelling.size() && !data.spelling[static_cast<size_t>(id)].empty())
        continue;
      root.at("post_processor").fail("adds a token that does not exist: " + std::to_string(id));
    }
  }
  finish_tokenizer(data);

  if (!config.bos_token.empty()) data.bos_id = data.by_spelling.find(config.bos_token);
  if (!config.eos_token.empty()) data.eos_id = data.by_spelling.find(config.eos_token);
  return data;
}

}  // namespace eep
