#include "loaders/tasks/metric_drop.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <set>
#include <vector>

#include "loaders/tasks/extract.h"

namespace eep {
namespace {

// What Python's float() reads, in lower case.
std::optional<double> number(const std::string& token) {
  const std::string text = strip(token);
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const std::string word = text.substr(sign);
  const bool named = word == "inf" || word == "infinity" || word == "nan";
  if (!named && (word.empty() || word.find_first_not_of("0123456789.e+-") != std::string::npos))
    return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end != text.c_str() + text.size()) return std::nullopt;
  return value;
}

bool is_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

// The words of a token of the text, normalised.
void add_words(const std::string& token, std::vector<std::string>* words) {
  std::string text = lower_case(token);
  if (!number(text)) std::erase_if(text, is_punctuation);
  if (const std::optional<double> value = number(text)) text = fmt::format("{}", *value);
  std::string word;
  for (const char c : text + " ") {
    if (c != ' ' && (c < '\t' || c > '\r')) {
      word += c;
      continue;
    }
    if (!word.empty() && word != "a" && word != "an" && word != "the") words->push_back(word);
    word.clear();
  }
}

std::vector<std::string> normalise(const std::string& span) {
  std::vector<std::string> words;
  std::string token;
  for (const char c : span + " ") {
    if (c != ' ' && c != '-') {
      token += c;
      continue;
    }
    add_words(token, &words);
    token.clear();
  }
  return words;
}

std::vector<std::string> spans_of(const std::string& reference) {
  std::vector<std::string> spans;
  for (size_t begin = 0; begin <= reference.size();) {
    const size_t end = std::min(reference.find('\n', begin), reference.size());
    spans.push_back(reference.substr(begin, end - begin));
    begin = end + 1;
  }
  return spans;
}

double bag_f1(const std::set<std::string>& answer, const std::set<std::string>& gold) {
  int64_t numbers = 0, shared_numbers = 0, shared = 0;
  for (const std::string& word : gold) {
    const bool both = answer.count(word) != 0;
    shared += both ? 1 : 0;
    if (!number(word)) continue;
    ++numbers;
    shared_numbers += both ? 1 : 0;
  }
  if (numbers > 0 && shared_numbers == 0) return 0;
  const auto share = [&](const std::set<std::string>& bag) {
    return bag.empty() ? 1.0 : static_cast<double>(shared) / static_cast<double>(bag.size());
  };
  const double precision = share(answer), recall = share(gold);
  return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

}  // namespace

double drop_exact(const std::string& answer, const std::string& reference) {
  const std::vector<std::string> spans = spans_of(reference);
  return spans.size() == 1 && normalise(spans[0]) == normalise(answer) ? 1 : 0;
}

double drop_f1(const std::string& answer, const std::string& reference) {
  const std::vector<std::string> words = normalise(answer);
  const std::set<std::string> said(words.begin(), words.end());
  const std::vector<std::string> spans = spans_of(reference);
  double best = 0;
  for (const std::string& span : spans) {
    const std::vector<std::string> right = normalise(span);
    best = std::max(best, bag_f1(said, {right.begin(), right.end()}));
  }
  return std::nearbyint(best / static_cast<double>(spans.size()) * 100) / 100;
}

}  // namespace eep
