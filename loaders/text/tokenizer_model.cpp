// tokenizer.model: SentencePiece's protobuf with a BPE model, as Mixtral has it. Merges are not stored; every
// split of a piece into two pieces is one, ranked by the piece's score.
#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <map>

#include "kernels/common/expected.h"
#include "loaders/formats/json.h"
#include "loaders/formats/unicode.h"
#include "loaders/text/tokenizer_data.h"

namespace eep {

namespace {

constexpr size_t kMaxModelFile = size_t{64} << 20;
constexpr size_t kMaxPieceBytes = 512;

// One field after the other of a protobuf message.
class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t key = varint();
    field_ = key >> 3;
    wire_ = key & 7;
    number_ = 0;
    text_ = {};
    if (wire_ == 0) {
      number_ = varint();
    } else if (wire_ == 1 || wire_ == 5) {
      const size_t count = wire_ == 1 ? 8 : 4;
      text_ = take(count);
      for (size_t i = count; i-- > 0;) number_ = number_ << 8 | static_cast<unsigned char>(text_[i]);
    } else if (wire_ == 2) {
      text_ = take(varint());
    } else {
      fail("unknown wire type");
    }
    return true;
  }
  uint64_t field() const { return field_; }
  uint64_t number() const { return expect(0), number_; }
  float real() const { return expect(5), std::bit_cast<float>(static_cast<uint32_t>(number_)); }
  std::string_view text() const { return expect(2), text_; }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw Error(ExitCode::kData, where_, std::string("malformed SentencePiece model: ") + what);
  }
  void expect(uint64_t wire) const {
    if (wire_ != wire) fail("field of the wrong type");
  }
  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) fail("truncated");
    const std::string_view part = bytes_.substr(at_, static_cast<size_t>(count));
    at_ += part.size();
    return part;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    fail("number too long");
  }

  std::string_view bytes_;
  const std::string& where_;
  size_t at_ = 0;
  uint64_t field_ = 0, wire_ = 0, number_ = 0;
  std::string_view text_;
};

enum PieceType : uint64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Piece {
  std::string text;
  float score = 0;
  uint64_t type = kNormal;
};

struct Model {
  std::vector<Piece> pieces;
  uint64_t type = 1;  // unigram, as the format's default
  bool byte_fallback = false, blank_as_suffix = false;
  int64_t bos_id = 1, eos_id = 2;
  bool dummy_prefix = true, remove_blanks = true, escape_blanks = true;
  bool has_character_map = false;
  std::string normalizer = "nmt_nfkc";
};

Model parse_model(std::string_view bytes, const std::string& where) {
  Model model;
  const auto id = [](uint64_t number) { return static_cast<int64_t>(number); };
  for (Message fields(bytes, where); fields.next();) {
    if (fields.field() == 1) {
      Piece piece;
      for (Message part(fields.text(), where); part.next();) {
        if (part.field() == 1) piece.text = part.text();
        if (part.field() == 2) piece.score = part.real();
        if (part.field() == 3) piece.type = part.number();
      }
      model.pieces.push_back(std::move(piece));
    } else if (fields.field() == 2) {
      for (Message part(fields.text(), where); part.next();) {
        if (part.field() == 3) model.type = part.number();
        if (part.field() == 24) model.blank_as_suffix = part.number() != 0;
        if (part.field() == 35) model.byte_fallback = part.number() != 0;
        if (part.field() == 41) model.bos_id = id(part.number());
        if (part.field() == 42) model.eos_id = id(part.number());
      }
    } else if (fields.field() == 3) {
      for (Message part(fields.text(), where); part.next();) {
        if (part.field() == 1) model.normalizer = part.text();
        if (part.field() == 2) model.has_character_map = !part.text().empty();
        if (part.field() == 3) model.dummy_prefix = part.number() != 0;
        if (part.field() == 4) model.remove_blanks = part.number() != 0;
        if (part.field() == 5) model.escape_blanks = part.number() != 0;
      }
    }
  }
  return model;
}

void check_model(const Model& model, const std::string& where) {
  const auto refuse = [&](const std::string& what) { throw Error(ExitCode::kData, where, what); };
  static const char* const kTypes[] = {"?", "unigram", "BPE", "word", "character"};
  if (model.type != 2) {
    refuse("SentencePiece model type not supported" +
           expected_got("BPE", kTypes[model.type < 5 ? model.type : 0]));
  }
  if (model.has_character_map)
    refuse("SentencePiece normalizer not supported: " + printable(model.normalizer));
  if (model.remove_blanks) refuse("SentencePiece option not supported: remove_extra_whitespaces");
  if (!model.escape_blanks) refuse("SentencePiece option not supported: escape_whitespaces = false");
  if (model.blank_as_suffix) refuse("SentencePiece option not supported: treat_whitespace_as_suffix");
  if (model.pieces.empty()) refuse("no pieces");
  if (model.pieces.size() > static_cast<size_t>(kMaxVocabulary)) refuse("too many pieces");
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    const std::string name = "piece " + std::to_string(id);
    if (piece.text.empty() || piece.text.size() > kMaxPieceBytes || !is_valid_utf8(piece.text)) {
      refuse(name + " is not 1 to 512 bytes of UTF-8");
    }
    if (!std::isfinite(piece.score)) refuse(name + ": score is not finite");
    if (piece.type < kNormal || piece.type > kByte || piece.type == kUserDefined || piece.type == kUnused) {
      refuse(name + ": piece type not supported: " + std::to_string(piece.type));
    }
  }
}

// Equal scores get equal ranks: SentencePiece then merges the leftmost pair.
void add_merges(const Model& model, TokenizerData& data) {
  std::map<float, int32_t, std::greater<>> ranks;
  for (const Piece& piece : model.pieces) {
    if (piece.type == kNormal) ranks.emplace(piece.score, 0);
  }
  int32_t next = 0;
  for (auto& [score, rank] : ranks) rank = next++;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (piece.type != kNormal) continue;
    const std::string_view text = piece.text;
    for (size_t at = decode_utf8(text, 0).bytes; at < text.size(); at += decode_utf8(text, at).bytes) {
      const int32_t left = data.bpe.find(text.substr(0, at)), right = data.bpe.find(text.substr(at));
      if (left >= 0 && right >= 0)
        data.bpe.add_merge(left, right, static_cast<int32_t>(id), ranks[piece.score]);
    }
  }
}

}  // namespace

TokenizerData read_tokenizer_model(const std::string& path) {
  const std::string bytes = read_file(path, kMaxModelFile);
  const Model model = parse_model(bytes, path);
  check_model(model, path);
  const std::string blank = "\xe2\x96\x81";
  TokenizerData data;
  if (model.dummy_prefix) data.normalizers.push_back({Normalizer::Kind::kPrepend, "", blank});
  data.normalizers.push_back({Normalizer::Kind::kReplace, " ", blank});
  data.has_decoder = true;
  DecoderStep replace{DecoderStep::Kind::kReplace, blank, " ", 0, 0, false};
  DecoderStep strip{DecoderStep::Kind::kStrip, "", " ", 1, 0, false};
  data.decoder = {replace,
                  {DecoderStep::Kind::kByteFallback, "", "", 0, 0, false},
                  {DecoderStep::Kind::kFuse, "", "", 0, 0, false}};
  if (model.dummy_prefix) data.decoder.push_back(strip);

  BpeOptions options;
  options.byte_fallback = model.byte_fallback;
  options.fuse_unknown = true;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type == kUnknown) options.unknown_id = static_cast<int32_t>(id);
  }
  data.bpe = Bpe(options);
  for (size_t index = 0; index < model.pieces.size(); ++index) {
    const Piece& piece = model.pieces[index];
    const auto id = static_cast<int32_t>(index);
    if (piece.type == kUnknown || piece.type == kControl) {
      AddedToken token;
      token.id = id;
      token.content = piece.text;
      token.special = true;
      register_added_token(data, token, path);
      continue;
    }
    register_token(data, id, piece.text, path);
    if (piece.type == kNormal) data.bpe.add_token(piece.text, id);
  }
  if (model.byte_fallback) {
    for (int byte = 0; byte < 256; ++byte) {
      static const char* digits = "0123456789ABCDEF";
      const std::string token = {'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'};
      const int32_t id = data.by_spelling.find(token);
      if (id >= 0 && model.pieces[static_cast<size_t>(id)].type == kByte) {
        data.bpe.add_byte_token(static_cast<uint8_t>(byte), id);
      }
    }
  }
  add_merges(model, data);
  finish_tokenizer(data);

  const auto exists = [&](int64_t id) { return id >= 0 && id < static_cast<int64_t>(data.spelling.size()); };
  if (exists(model.bos_id)) data.bos_id = static_cast<int32_t>(model.bos_id);
  if (exists(model.eos_id)) data.eos_id = static_cast<int32_t>(model.eos_id);
  const TokenizerConfig config = read_tokenizer_config(std::filesystem::path(path).parent_path().string());
  if (config.add_bos_token && data.bos_id >= 0) data.prefix = {data.bos_id};
  if (config.add_eos_token && data.eos_id >= 0) data.suffix = {data.eos_id};
  return data;
}

}  // namespace eep
