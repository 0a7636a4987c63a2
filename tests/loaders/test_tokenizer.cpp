// Tokenizers against what Hugging Face tokenizers, SentencePiece and tiktoken made of the same texts
// (make_tokenizer_data.py), and files that ask for what is not implemented or are broken.
#include <doctest/doctest.h>

#include <functional>
#include <random>

#include "loaders/formats/json.h"
#include "loaders/text/bpe.h"
#include "loaders/text/pretokenizer.h"
#include "loaders/text/tokenizer.h"
#include "tests/loaders/scratch.h"

namespace eep {
namespace {

std::string data_path(const std::string& name) {
  return std::string(EEP_SOURCE_DIR) + "/tests/loaders/data/" + name;
}

Json fixture(const std::string& name) {
  return parse_json(read_file(data_path(name + "/tokenizer.json")), name);
}

Tokenizer load(const Json& json) {
  const Scratch scratch;
  scratch.write("tokenizer.json", json.dump());
  return Tokenizer::load(scratch.path());
}

void refuse(const std::string& name, const std::string& part, const std::function<void(Json&)>& change) {
  INFO(part);
  Json json = fixture(name);
  change(json);
  check_error(ExitCode::kData, part, [&] { load(json); });
}

// The lowest pair first, leftmost: word for word what BPE means.
std::vector<int32_t> naive_bpe(const std::vector<int32_t>& given,
                               const std::vector<std::array<int32_t, 3>>& merges) {
  std::vector<int32_t> symbols = given;
  for (;;) {
    size_t best = symbols.size(), best_rank = merges.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank][0] == symbols[i] && merges[rank][1] == symbols[i + 1]) {
          best = i;
          best_rank = rank;
        }
      }
    }
    if (best == symbols.size()) return symbols;
    symbols[best] = merges[best_rank][2];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

}  // namespace

TEST_CASE("tokenizer: the originals' ids and texts") {
  for (const char* name :
       {"qwen", "smol", "whole", "tiktoken", "sentencepiece", "prepend", "metaspace", "unknown"}) {
    CAPTURE(name);
    const Tokenizer tokenizer = Tokenizer::load(data_path(name));
    const Json cases = parse_json(read_file(data_path(std::string(name) + "/expected.json")), name);
    CHECK(cases.size() > 50);
    for (const Json& example : cases) {
      const std::string text = example["text"].get<std::string>();
      const auto ids = example["ids"].get<std::vector<int32_t>>();
      CHECK_MESSAGE(tokenizer.encode(text, false) == ids, text);
      CHECK_MESSAGE(tokenizer.encode(text, true) == example["special"].get<std::vector<int32_t>>(), text);
      CHECK_MESSAGE(tokenizer.decode(ids, false) == example["decoded"].get<std::string>(), text);
      for (int32_t id : ids) CHECK(id < tokenizer.vocab_size());
    }
  }
}

TEST_CASE("tokenizer: tokens, special ones, ids outside") {
  const Tokenizer qwen = Tokenizer::load(data_path("qwen"));
  const int32_t start = qwen.token_id("<|im_start|>"), the = qwen.token_id("\xc4\xa0the");
  REQUIRE(start >= 0);
  REQUIRE(the >= 0);
  CHECK(qwen.token_bytes(the) == " the");
  CHECK(qwen.token_text(the) == "\xc4\xa0the");
  CHECK(qwen.is_special(start));
  CHECK_FALSE(qwen.is_special(the));
  CHECK_FALSE(qwen.is_special(qwen.token_id("<tool>")));
  CHECK(qwen.eos_id() == qwen.token_id("<|im_end|>"));
  CHECK(qwen.bos_id() == -1);
  CHECK(qwen.token_id("no such token") == -1);
  CHECK(qwen.token_text(-1).empty());
  CHECK(qwen.token_bytes(1 << 30).empty());
  const std::vector<int32_t> ids = {start, the, 1 << 30, -5};
  CHECK(qwen.decode(ids, true) == " the");
  CHECK(qwen.decode(ids, false) == "<|im_start|> the");
  CHECK(qwen.decode({}, false).empty());
  CHECK(qwen.description().find("tokenizer.json") != std::string::npos);

  const Tokenizer mixtral = Tokenizer::load(data_path("sentencepiece"));
  CHECK(mixtral.bos_id() == 1);
  CHECK(mixtral.eos_id() == 2);
  CHECK(mixtral.token_bytes(mixtral.token_id("<0x0A>")) == "\n");
  CHECK(mixtral.token_bytes(mixtral.token_id("\xe2\x96\x81the")) == " the");
  // A special token inside a text is that token, as Hugging Face has it.
  CHECK(mixtral.encode("</s>", false) == std::vector<int32_t>{2});
  const std::vector<int32_t> broken = {mixtral.token_id("<0xC3>"), mixtral.token_id("<0x28>")};
  CHECK(mixtral.decode(broken, false) == "\xef\xbf\xbd\xef\xbf\xbd");
}

TEST_CASE("tokenizer: invalid UTF-8 is read as replacement characters") {
  for (const char* name : {"qwen", "metaspace"}) {
    const Tokenizer tokenizer = Tokenizer::load(data_path(name));
    CHECK(tokenizer.encode("a\xffz", false) == tokenizer.encode("a\xef\xbf\xbdz", false));
    std::mt19937 random(1);
    for (int round = 0; round < 2000; ++round) {
      std::string bytes;
      for (auto i = random() % 40; i > 0; --i) bytes += static_cast<char>(random());
      for (int32_t id : tokenizer.encode(bytes, true)) CHECK((id >= 0 && id < tokenizer.vocab_size()));
    }
  }
}

TEST_CASE("tokenizer: long texts take linear-logarithmic time") {
  for (const char* name : {"qwen", "smol", "prepend", "metaspace"}) {
    CAPTURE(name);
    const Tokenizer tokenizer = Tokenizer::load(data_path(name));
    for (const char* unit : {"a", " ", "ab", "\xe2\x96\x81", "the ", "x\n", " \t", "'s", "\xcc\x81"}) {
      std::string text;
      while (text.size() < 300000) text += unit;
      const std::vector<int32_t> ids = tokenizer.encode(text, false);
      CHECK_FALSE(ids.empty());
    }
  }
}

TEST_CASE("tokenizer: heap, scan and whole-word look-up are the BPE of the definition") {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    BpeOptions options;
    options.byte_level = true;
    Bpe bpe(options);
    std::vector<std::string> keys = {"a", "b", "c"};
    for (int32_t id = 0; id < 3; ++id) bpe.add_token(keys[static_cast<size_t>(id)], id);
    std::vector<std::array<int32_t, 3>> merges;
    for (int i = 0; i < 30; ++i) {
      const auto left = static_cast<int32_t>(random() % keys.size()),
                 right = static_cast<int32_t>(random() % keys.size());
      const std::string key = keys[static_cast<size_t>(left)] + keys[static_cast<size_t>(right)];
      const auto id = static_cast<int32_t>(keys.size());
      if (!bpe.add_token(key, id)) continue;
      bpe.add_merge(left, right, id, static_cast<int32_t>(merges.size()));
      merges.push_back({left, right, id});
      keys.push_back(key);
    }
    bpe.finish(keys);
    for (size_t length : {1u, 2u, 5u, 20u, 39u, 40u, 41u, 42u, 200u}) {
      std::string text;
      std::vector<int32_t> symbols, fast, plain;
      for (size_t i = 0; i < length; ++i) {
        text += static_cast<char>('a' + random() % 3);
        symbols.push_back(text.back() - 'a');
      }
      bpe.encode(text, fast);
      bpe.encode_by_merges(text, plain);
      const std::vector<int32_t> expected = naive_bpe(symbols, merges);
      CHECK_MESSAGE(fast == expected, text);
      CHECK_MESSAGE(plain == expected, text);
    }
  }
}

TEST_CASE("tokenizer: pieces of the expressions") {
  const auto cut = [](const std::string& text, size_t (*match)(std::string_view, size_t)) {
    std::string pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t end = match(text, at);
      REQUIRE(end > at);
      pieces += text.substr(at, end - at) + "|";
      at = end;
    }
    return pieces;
  };
  CHECK(cut("It's 12  a\n\n b", match_qwen) == "It|'s| |1|2| | a|\n\n| b|");
  CHECK(cut("WE'LL x'\xc5\xbf!", match_qwen) == "WE|'LL| x|'\xc5\xbf|!|");
  CHECK(cut("a.b ..\r\n\r\n  c", match_qwen) == "a|.b| ..\r\n\r\n| | c|");
  CHECK(cut("   ", match_qwen) == "   |");
  CHECK(cut("\t\tx", match_qwen) == "\t|\tx|");
  CHECK(cut("It's 1234567  a\n\n b WE'LL", match_llama3) == "It|'s| |123|456|7| | a|\n\n| b| WE|'LL|");
  CHECK(cut("It's camelCase HTTPServer's WE'LL 1234/x a//\n/b", match_gpt4o) ==
        "It's| camel|Case| HTTPServer's| WE'LL| |123|4|/x| a|//\n/|b|");
  // Letters without case and marks belong to both halves of a word, and what follows a run of them is given
  // back.
  CHECK(cut("\xe4\xb8\xad\xe6\x96\x87"
            "AB\xc3\xa9",
            match_gpt4o) ==
        "\xe4\xb8\xad\xe6\x96\x87"
        "AB\xc3\xa9|");
  CHECK(cut("\xe4\xb8\xad"
            "A B\xe6\x96\x87"
            "A-",
            match_gpt4o) == "\xe4\xb8\xad|A| B\xe6\x96\x87|A|-|");
  CHECK(cut("\xcc\x81 \xcc\x81"
            "A1",
            match_gpt4o) == "\xcc\x81| \xcc\x81|A|1|");
  CHECK(cut("It's 12  a\n\n b WE'LL", match_gpt2) == "It|'s| 12| | a|\n\n| b| WE|'|LL|");
  CHECK(cut("\xe3\x80\x80x \xc2\xbd", match_gpt2) == "\xe3\x80\x80|x| \xc2\xbd|");
}

TEST_CASE("tokenizer: what is not implemented is refused by name and place") {
  refuse("qwen", "normalizer not supported: Lowercase", [](Json& j) {
    j["normalizer"] = {{"type", "Lowercase"}};
  });
  refuse("qwen", "normalizer not supported: NFKC", [](Json& j) {
    j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFKC"}}}}};
  });
  refuse("qwen", "pre-tokenizer not supported: Whitespace", [](Json& j) {
    j["pre_tokenizer"] = {{"type", "Whitespace"}};
  });
  refuse("qwen", "regular expression not supported: \\w+|\\s",
         [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+|\\s"; });
  refuse("qwen", "behavior: wrong value (expected \"Isolated\"",
         [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "MergedWithNext"; });
  refuse("qwen", "tokenizer model not supported: Unigram", [](Json& j) { j["model"]["type"] = "Unigram"; });
  refuse("qwen", "post-processor not supported: BertProcessing", [](Json& j) {
    j["post_processor"] = {{"type", "BertProcessing"}};
  });
  refuse("qwen", "decoder not supported: WordPiece", [](Json& j) { j["decoder"] = {{"type", "WordPiece"}}; });
  refuse("qwen", "model.dropout: dropout not supported", [](Json& j) { j["model"]["dropout"] = 0.1; });
  refuse("qwen", "model.end_of_word_suffix: not supported",
         [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; });
  refuse("prepend", "only patterns of the form", [](Json& j) {
    j["normalizer"]["normalizers"][1]["pattern"] = {{"Regex", " +"}};
  });
  const Scratch scratch;
  check_error(ExitCode::kNoInput, "no tokenizer (expected tokenizer.json",
              [&] { Tokenizer::load(scratch.path()); });
  CHECK_FALSE(Tokenizer::exists(scratch.path()));
  CHECK(Tokenizer::exists(data_path("tiktoken")));
  check_error(ExitCode::kNoInput, "cannot open", [&] { Tokenizer::load(scratch.path("tokenizer.json")); });
  check_error(ExitCode::kData, "unknown pre-tokenizer of a rank file",
              [&] { Tokenizer::load(scratch.write("cl100k_base.tiktoken", "")); });
}

TEST_CASE("tokenizer: contradictions in tokenizer.json") {
  refuse("qwen", "top level: missing key \"model\"", [](Json& j) { j.erase("model"); });
  refuse("qwen", "model: missing key \"vocab\"", [](Json& j) { j["model"].erase("vocab"); });
  refuse("qwen", "expected a token id from 0 to", [](Json& j) { j["model"]["vocab"]["a"] = -1; });
  refuse("qwen", "expected a token id from 0 to", [](Json& j) { j["model"]["vocab"]["a"] = 2000000000; });
  refuse("qwen", "expected a token id from 0 to", [](Json& j) { j["model"]["vocab"]["a"] = "1"; });
  refuse("qwen", "two tokens have id", [](Json& j) { j["model"]["vocab"]["a"] = j["model"]["vocab"]["b"]; });
  refuse("qwen", "model.merges[2]: not in the vocabulary: qqq", [](Json& j) {
    j["model"]["merges"][2] = {"qqq", "a"};
  });
  refuse("qwen", "model.merges[2]: wrong value", [](Json& j) { j["model"]["merges"][2] = {"a"}; });
  refuse("smol", "model.merges[2]: wrong value", [](Json& j) { j["model"]["merges"][2] = "a b c"; });
  refuse("smol", "model.merges[2]: wrong value", [](Json& j) { j["model"]["merges"][2] = "ab"; });
  refuse("qwen", "added_tokens[0].id: wrong value", [](Json& j) { j["added_tokens"][0]["id"] = 2000000; });
  refuse("qwen", "added_tokens[0].id: not the id that loaders give this token",
         [](Json& j) { j["added_tokens"][0]["id"] = 5; });
  refuse("qwen", "added_tokens[0]: missing key \"content\"",
         [](Json& j) { j["added_tokens"][0].erase("content"); });
  refuse("qwen", "added token too long",
         [](Json& j) { j["added_tokens"][0]["content"] = std::string(2000, 'x'); });
  refuse("qwen", "is empty", [](Json& j) { j["added_tokens"][0]["content"] = ""; });
  refuse("prepend", "adds a token that does not exist: 9999",
         [](Json& j) { j["post_processor"]["special_tokens"]["<s>"]["ids"] = {9999}; });
  refuse("prepend", "missing key \"<s>\"",
         [](Json& j) { j["post_processor"]["special_tokens"].erase("<s>"); });
  Json json = fixture("qwen");
  json["model"]["merges"].insert(json["model"]["merges"].begin(), "#version: 0.2");
  const Tokenizer tokenizer = load(json);
  CHECK(tokenizer.encode("the method", false) ==
        Tokenizer::load(data_path("qwen")).encode("the method", false));
}

TEST_CASE(
    "tokenizer: an unknown token that the vocabulary lacks is an error where it is needed, as in "
    "tokenizers") {
  Json json = fixture("prepend");
  json["model"]["unk_token"] = "<nope>";
  json["model"]["byte_fallback"] = false;
  const Tokenizer tokenizer = load(json);
  CHECK(tokenizer.encode("a", false) == Tokenizer::load(data_path("prepend")).encode("a", false));
  check_error(ExitCode::kData, "nor the unknown token", [&] { tokenizer.encode("\u4e00\U0001f6f8", false); });
  json["model"].erase("unk_token");  // without one the character is dropped
  CHECK(load(json).encode("a\U0001f6f8", false) == load(json).encode("a", false));
}

TEST_CASE("tokenizer: special tokens of the side files are cut out of a text") {
  Json json = fixture("qwen");
  json["added_tokens"] = Json::array();
  const Scratch scratch;
  scratch.write("tokenizer.json", json.dump());
  const auto size = static_cast<int32_t>(Tokenizer::load(scratch.path()).vocab_size());
  scratch.write("tokenizer_config.json", R"({"eos_token": "<old>", "pad_token": {"content": "per"}})");
  scratch.write("special_tokens_map.json", R"({"eos_token": "<new>"})");
  const Tokenizer tokenizer = Tokenizer::load(scratch.path());
  CHECK(tokenizer.token_text(tokenizer.eos_id()) == "<new>");  // the map goes before the configuration
  CHECK(tokenizer.eos_id() == size);                           // behind the vocabulary
  CHECK(tokenizer.encode("<new>", false) == std::vector<int32_t>{size});
  const int32_t per = tokenizer.token_id("per");
  REQUIRE(per >= 0);
  CHECK(tokenizer.is_special(per));
  CHECK(tokenizer.encode("perper", false) == std::vector<int32_t>{per, per});
  // A configuration with a table of its own needs no map.
  scratch.write("tokenizer_config.json", R"({"eos_token": "<old>", "added_tokens_decoder": {}})");
  CHECK(Tokenizer::load(scratch.path()).token_id("<new>") == -1);

  // Further tokens get the next ids in the order of transformers: by the ids of the table, then the extra
  // ones.
  const auto ids = [&](const char* text) { return Tokenizer::load(scratch.path()).encode(text, false); };
  scratch.write("tokenizer_config.json", R"({"added_tokens_decoder": {"90000": {"content": "<two>"},
      "80000": {"content": "<one>", "special": true}}, "additional_special_tokens": ["<three>", {"content": "<one>"}]})");
  CHECK(ids("<three><two><one>") == std::vector<int32_t>{size + 2, size + 1, size});
  scratch.write("tokenizer_config.json", R"({"extra_special_tokens": {"image_token": "<image>"}})");
  scratch.write("added_tokens.json", R"({"<far>": 90000, "<near>": 80000})");
  CHECK(ids("<image><new><far><near>") == std::vector<int32_t>{size + 3, size + 2, size + 1, size});
  // As transformers 5.23: flags of special tokens count in either file; of the lists of further tokens the
  // map's counts where the configuration has none, its extra ones go behind.
  std::filesystem::remove(scratch.path("added_tokens.json"));
  scratch.write("tokenizer_config.json",
                R"({"mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": true}})");
  scratch.write("special_tokens_map.json",
                R"({"pad_token": {"content": "<pad>", "lstrip": true, "rstrip": true}})");
  const auto word = ids("x"), other = ids("y");
  CHECK(ids("x <mask>y") == std::vector<int32_t>{word[0], size + 1, other[0]});
  CHECK(ids("x <pad> y") == std::vector<int32_t>{word[0], size, other[0]});
  scratch.write("special_tokens_map.json", R"({"additional_special_tokens": ["<two>"]})");
  for (const char* config :
       {R"({"additional_special_tokens": ["<one>"]})", R"({"extra_special_tokens": ["<one>"]})"}) {
    scratch.write("tokenizer_config.json", config);
    CHECK(ids("<one>") == std::vector<int32_t>{size});
    CHECK(ids("<two>").size() > 1);
  }
  scratch.write("tokenizer_config.json", R"({"extra_special_tokens": {"image_token": "<image>"}})");
  CHECK(ids("<two><image>") == std::vector<int32_t>{size + 1, size});
  scratch.write("tokenizer_config.json", R"({"additional_special_tokens": ["<one>"]})");
  scratch.write("special_tokens_map.json", R"({"extra_special_tokens": ["<two>", "<one>"]})");
  CHECK(ids("<one><two>") == std::vector<int32_t>{size, size + 1});
  scratch.write("special_tokens_map.json", R"({"audio_token": "<audio>"})");
  scratch.write("tokenizer_config.json",
                R"({"image_token": "<image>", "extra_special_tokens": ["<one>"], "pad_token": "<p>"})");
  CHECK(ids("<p><image><audio><one>") == std::vector<int32_t>{size, size + 2, size + 1, size + 3});
  std::filesystem::remove(scratch.path("special_tokens_map.json"));
  scratch.write("tokenizer_config.json", R"({"split_special_tokens": true})");
  check_error(ExitCode::kData, "split_special_tokens: not supported",
              [&] { Tokenizer::load(scratch.path()); });
}

TEST_CASE("tokenizer: damaged files are errors or tokenizers, never crashes") {
  const std::pair<std::string, std::string> files[] = {{"qwen/tokenizer.json", "tokenizer.json"},
                                                       {"metaspace/tokenizer.json", "tokenizer.json"},
                                                       {"sentencepiece/tokenizer.model", "tokenizer.model"},
                                                       {"tiktoken/qwen.tiktoken", "qwen.tiktoken"}};
  std::mt19937 random(6);
  for (const auto& [source, name] : files) {
    const std::string good = read_file(data_path(source));
    int loaded = 0;
    for (int round = 0; round < 400; ++round) {
      std::string damaged = good;
      if (round % 4 == 0) damaged.resize(random() % damaged.size());
      for (auto i = 1 + random() % 3; i > 0 && !damaged.empty(); --i) {
        const char any = static_cast<char>(random());
        damaged[random() % damaged.size()] =
            random() % 3 == 0 ? any : "0123456789[]{},:\" aeABC=\n"[random() % 25];
      }
      const Scratch scratch;
      scratch.write(name, damaged);
      try {
        const Tokenizer tokenizer = Tokenizer::load(scratch.path());
        const std::vector<int32_t> ids = tokenizer.encode("The method <s> prunes\n42 experts \xc3\xa9", true);
        tokenizer.decode(ids, false);
        ++loaded;
      } catch (const Error& error) {
        CHECK(error.code() == ExitCode::kData);
      }
    }
    MESSAGE(source << ": " << loaded << " of 400 damaged files load");
  }
}

TEST_CASE("tokenizer: SentencePiece models that are not BPE as Mixtral's") {
  const std::string good = read_file(data_path("sentencepiece/tokenizer.model"));
  const Scratch scratch;
  const auto refuse_model = [&](const std::string& appended, const std::string& part) {
    check_error(ExitCode::kData, part,
                [&] { Tokenizer::load(scratch.write("tokenizer.model", good + appended)); });
  };
  // A later field of the same number is read after the first one.
  refuse_model(std::string("\x12\x02\x18\x01", 4),
               "SentencePiece model type not supported (expected BPE, got unigram)");
  refuse_model(std::string("\x1a\x03\x12\x01x", 5), "SentencePiece normalizer not supported: identity");
  refuse_model(std::string("\x1a\x02\x20\x01", 4), "remove_extra_whitespaces");
  refuse_model(std::string("\x1a\x02\x28\x00", 4), "escape_whitespaces");
  refuse_model(std::string("\x0a\x05\x0a\x01z\x18\x04", 7), "piece type not supported: 4");
  refuse_model(std::string("\x0a\x02\x0a\x00", 4), "is not 1 to 512 bytes of UTF-8");
  refuse_model(std::string("\x0a\x7f", 2), "malformed SentencePiece model: truncated");
  refuse_model(std::string("\x0b", 1), "malformed SentencePiece model: unknown wire type");
  refuse_model("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
               "malformed SentencePiece model: number too long");
  refuse_model(std::string("\x08\x01", 2), "malformed SentencePiece model: field of the wrong type");
  check_error(ExitCode::kData, "", [&] { Tokenizer::load(scratch.write("tokenizer.model", "")); });
}

TEST_CASE("tokenizer: the real files, where they are") {
  const std::string shared = std::string(EEP_SOURCE_DIR) + "/../shared/data/tokenizers/";
  if (!directory_exists(shared)) {
    MESSAGE(shared << " is not there, skipped");
    return;
  }
  const Tokenizer mixtral = Tokenizer::load(shared + "mixtral");
  CHECK(mixtral.vocab_size() == 32000);
  CHECK(mixtral.encode("Hello, world!", true) == std::vector<int32_t>{1, 22557, 28725, 1526, 28808});
  const Tokenizer qwen = Tokenizer::load(shared + "qwen");
  CHECK(qwen.vocab_size() == 151851);
  CHECK(qwen.encode("Hello, world!", true) == std::vector<int32_t>{9707, 11, 1879, 0});
  CHECK(qwen.token_id("<|im_end|>") == 151645);
}

}  // namespace eep
