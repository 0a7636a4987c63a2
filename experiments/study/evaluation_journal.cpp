#include "experiments/study/evaluation_journal.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "es/bytes.h"
#include "kernels/common/error.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr uint32_t kScores = 1, kAnswer = 2;
constexpr size_t kHead = 2 * sizeof(uint32_t) + sizeof(uint64_t);
constexpr const char* kWhere = "evaluation journal";

uint64_t sum_of(uint32_t kind, std::string_view body) {
  return XXH3_64bits_withSeed(body.data(), body.size(), (uint64_t{kind} << 32) ^ body.size());
}

void append(uint32_t kind, std::string_view body, std::string& out) {
  put(kind, out);
  put(static_cast<uint32_t>(body.size()), out);
  put(sum_of(kind, body), out);
  out += body;
}

std::string body_of(const EvaluationJournal::Key& key, int32_t at) {
  std::string body;
  put(key.first, body);
  put(key.second, body);
  put(at, body);
  return body;
}

std::string scores_body(const EvaluationJournal::Key& key, int32_t begin,
                        std::span<const TokenScore> scores) {
  std::string body = body_of(key, begin);
  for (const TokenScore& score : scores) {
    put(score.log_probability, body);
    put(score.argmax, body);
  }
  return body;
}

std::string answer_body(const EvaluationJournal::Key& key, int32_t item, std::span<const int32_t> tokens) {
  std::string body = body_of(key, item);
  for (const int32_t token : tokens) put(token, body);
  return body;
}

}  // namespace

EvaluationJournal::EvaluationJournal(std::string path) : path_(std::move(path)) {
  if (!file_exists(path_)) return;
  const std::string bytes = read_file(path_, SIZE_MAX);
  const size_t whole = read(bytes);
  empty_ = whole == 0;
  if (whole < bytes.size() && ::truncate(path_.c_str(), static_cast<off_t>(whole)) != 0)
    throw Error(ExitCode::kIo, path_, std::string("cannot write: ") + std::strerror(errno));
}

EvaluationJournal::~EvaluationJournal() {
  if (file_ >= 0) ::close(file_);
}

size_t EvaluationJournal::read(std::string_view bytes) {
  const size_t whole = bytes.size();
  while (bytes.size() >= kHead) {
    std::string_view rest = bytes;
    const auto kind = take<uint32_t>(rest, kWhere);
    const auto size = take<uint32_t>(rest, kWhere);
    const auto sum = take<uint64_t>(rest, kWhere);
    if (rest.size() < size || sum != sum_of(kind, rest.substr(0, size))) break;
    try {
      read_record(kind, rest.substr(0, size));
    } catch (const Error&) {  // a sum that fits a record of nothing: like any other damage
      break;
    }
    bytes = rest.substr(size);
  }
  return whole - bytes.size();
}

void EvaluationJournal::read_record(uint32_t kind, std::string_view body) {
  Key key;
  key.first = take<uint64_t>(body, kWhere);
  key.second = take<uint64_t>(body, kWhere);
  Known& known = known_[key];
  const auto at = take<int32_t>(body, kWhere);
  if (at < 0 || (kind != kScores && kind != kAnswer)) throw Error(ExitCode::kData, kWhere, "unknown record");
  if (kind == kAnswer) {
    std::vector<int32_t>& tokens = known.answers[at];
    tokens.clear();
    while (!body.empty()) tokens.push_back(take<int32_t>(body, kWhere));
    return;
  }
  for (auto place = static_cast<size_t>(at); !body.empty(); ++place) {
    if (place >= known.scores.size()) {
      known.scores.resize(place + 1);
      known.has.resize(place + 1, 0);
    }
    known.scores[place].log_probability = take<float>(body, kWhere);
    known.scores[place].argmax = take<int32_t>(body, kWhere);
    known.has[place] = 1;
  }
}

bool EvaluationJournal::known_scores(const Key& key, int32_t begin, std::span<TokenScore> scores) const {
  const auto found = known_.find(key);
  if (found == known_.end()) return false;
  const Known& known = found->second;
  const auto first = static_cast<size_t>(begin);
  if (known.has.size() < first + scores.size()) return false;
  const auto from = known.has.begin() + begin;
  if (std::any_of(from, from + static_cast<int64_t>(scores.size()), [](uint8_t has) { return has == 0; }))
    return false;
  std::copy_n(known.scores.begin() + begin, scores.size(), scores.begin());
  return true;
}

const std::vector<int32_t>* EvaluationJournal::known_answer(const Key& key, int32_t item) const {
  const auto found = known_.find(key);
  if (found == known_.end()) return nullptr;
  const auto answer = found->second.answers.find(item);
  return answer == found->second.answers.end() ? nullptr : &answer->second;
}

std::string EvaluationJournal::known_records(const Key& key) const {
  std::string records;
  const auto found = known_.find(key);
  if (found == known_.end()) return records;
  const Known& known = found->second;
  for (size_t begin = 0; begin < known.has.size();) {
    size_t end = begin;
    while (end < known.has.size() && known.has[end] != 0) ++end;
    if (end > begin)
      append(
          kScores,
          scores_body(key, static_cast<int32_t>(begin), std::span(known.scores).subspan(begin, end - begin)),
          records);
    begin = end + 1;
  }
  for (const auto& [item, tokens] : known.answers) append(kAnswer, answer_body(key, item, tokens), records);
  return records;
}

void EvaluationJournal::add_scores(const Key& key, int32_t begin, std::span<const TokenScore> scores) {
  append(kScores, scores_body(key, begin, scores), waiting_);
}

void EvaluationJournal::add_answer(const Key& key, int32_t item, std::span<const int32_t> tokens) {
  append(kAnswer, answer_body(key, item, tokens), waiting_);
}

void EvaluationJournal::flush() {
  if (tributary_) tributary_();
  if (waiting_.empty()) return;
  if (sink_) return sink_(std::exchange(waiting_, {}));
  const auto fail = [&] {
    throw Error(ExitCode::kIo, path_, std::string("cannot write: ") + std::strerror(errno));
  };
  if (file_ < 0) file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) fail();
  empty_ = false;
  for (std::string_view rest = waiting_; !rest.empty();) {
    const ssize_t count = ::write(file_, rest.data(), rest.size());
    if (count < 0 && errno != EINTR) fail();
    if (count > 0) rest.remove_prefix(static_cast<size_t>(count));
  }
  waiting_.clear();
}

void EvaluationJournal::clear() {
  waiting_.clear();
  known_.clear();
  if (sink_ || empty_) return;
  if (::truncate(path_.c_str(), 0) != 0 && errno != ENOENT)
    throw Error(ExitCode::kIo, path_, std::string("cannot write: ") + std::strerror(errno));
  empty_ = true;
}

void EvaluationJournal::remove() {
  waiting_.clear();
  known_.clear();
  if (file_ >= 0) ::close(std::exchange(file_, -1));
  ::unlink(path_.c_str());
  empty_ = true;
}

}  // namespace eep
