#include "loaders/tasks/metric.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <sstream>

#include "loaders/formats/unicode.h"
#include "loaders/tasks/metric_drop.h"

namespace eep {
namespace {

using Rule = const ExtractRule&;

std::map<std::string, int> tokens_of(std::string_view text) {
  std::map<std::string, int> counts;
  std::istringstream words(official_normalise(text));
  std::string word;
  while (words >> word) ++counts[word];
  return counts;
}

double f1(Rule, const std::string& answer, const std::string& reference) {
  const auto a = tokens_of(answer), b = tokens_of(reference);
  int common = 0, size_a = 0, size_b = 0;
  for (const auto& [word, count] : a) {
    size_a += count;
    if (const auto found = b.find(word); found != b.end()) common += std::min(count, found->second);
  }
  for (const auto& [word, count] : b) size_b += count;
  if (size_a == 0 || size_b == 0) return size_a == size_b ? 1 : 0;
  return 2.0 * common / (size_a + size_b);
}

// [+-]digits[.digits][e[+-]digits]: hexadecimal numbers and words (inf) are none.
std::optional<double> number(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool plain = text.find_first_not_of("0123456789.eE+- \t\n\r") == std::string::npos;
  if (text.empty() || !plain || end != text.c_str() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

// Of [+-]digits[.digits] the shortest spelling of the same number; "" of another text.
std::string exact_number(const std::string& text) {
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const size_t point = std::min(text.find('.'), text.size());
  if (text.find_first_not_of("0123456789", sign) != point && point < text.size()) return "";
  if (point == text.size() && text.find_first_not_of("0123456789", sign) != std::string::npos) return "";
  std::string whole = text.substr(sign, point - sign),
              rest = point < text.size() ? text.substr(point + 1) : "";
  if ((whole + rest).empty() || rest.find_first_not_of("0123456789") != std::string::npos) return "";
  whole.erase(0, whole.find_first_not_of('0'));
  rest.erase(rest.find_last_not_of('0') + 1);
  const std::string digits = whole.empty() ? "0" : whole;
  const bool negative = text[0] == '-' && !(whole + rest).empty();
  return (negative ? "-" : "") + digits + (rest.empty() ? "" : "." + rest);
}

// A number as people write it: $70,000. is 70000.
std::string plain_number(const std::string& text) {
  std::string plain = without_thousands(strip(text));
  const size_t sign = !plain.empty() && (plain[0] == '-' || plain[0] == '+') ? 1 : 0;
  if (plain.size() > sign && plain[sign] == '$') plain.erase(sign, 1);
  if (plain.size() > sign + 1 && plain.back() == '.') plain.pop_back();
  return plain;
}

std::string without(const std::vector<Regex>& ignored, std::string text) {
  for (const Regex& regex : ignored) text = regex.remove_from(text);
  return text;
}

double contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos ? 1 : 0;
}
double exact_match(Rule rule, const std::string& answer, const std::string& reference) {
  return strip(without(rule.ignore, answer)) == strip(without(rule.ignore, reference)) ? 1 : 0;
}
double em_contains(Rule, const std::string& answer, const std::string& reference) {
  const std::string normal = general_normalise(answer);
  return std::max(contains(normal, general_normalise(reference)), contains(normal, reference));
}
double squad_contains(Rule, const std::string& answer, const std::string& reference) {
  return contains(general_normalise(answer), lower_case(squad_normalise(reference)));
}
double number_equal(Rule rule, const std::string& answer, const std::string& reference) {
  if (answer == reference) return 1;
  const std::string first = rule.thousands ? plain_number(answer) : answer,
                    second = rule.thousands ? plain_number(reference) : reference;
  const auto a = number(first), b = number(second);
  if (!a || !b) return 0;
  // Whole numbers of more digits than a double holds are compared as they are written.
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (rule.thousands && std::max(std::fabs(*a), std::fabs(*b)) >= kExact) {
    const std::string x = exact_number(first), y = exact_number(second);
    if (!x.empty() && !y.empty()) return x == y ? 1 : 0;
  }
  return std::fabs(*a - *b) < 1e-6 ? 1 : 0;
}
double squad_exact(Rule, const std::string& answer, const std::string& reference) {
  return official_normalise(answer) == official_normalise(reference) ? 1 : 0;
}

// In the order of the enum.
constexpr std::array kMetrics{
    MetricRow{"acc", "arg-max of the choices' log-likelihoods"},
    MetricRow{"acc_norm", "the same, per character of the choice"},
    MetricRow{"exact_match", "the answer equals a reference, white space at the ends apart", exact_match},
    MetricRow{"f1", "best token F1 over the references, as SQuAD's own script", f1, /*binary=*/false},
    MetricRow{"contains", "a reference is a substring of the answer",
              [](Rule, const std::string& answer, const std::string& reference) {
                return contains(answer, reference);
              }},
    MetricRow{"em_contains", "the paper's for DROP and ReCoRD: normalised, substring", em_contains},
    MetricRow{"squad_contains", "the paper's for SQuAD", squad_contains},
    MetricRow{"number_equal", "the paper's for GSM8K: equal text, or numbers within 1e-6", number_equal},
    MetricRow{"squad_exact", "equal after SQuAD's own normalisation", squad_exact},
    MetricRow{"drop_exact", "DROP's own: the same spans, lines of the reference, after its normalisation",
              [](Rule, const std::string& answer, const std::string& reference) {
                return drop_exact(answer, reference);
              }},
    MetricRow{"drop_f1", "DROP's own: F1 of bags of tokens, numbers must agree",
              [](Rule, const std::string& answer, const std::string& reference) {
                return drop_f1(answer, reference);
              },
              /*binary=*/false},
    MetricRow{"acc_bytes", "the same as acc, per byte of the choice"},
    MetricRow{"macro_f1", "mean over the choices of the F1 of choosing each, of all items together", nullptr,
              /*binary=*/false},
};

// exact_match on the plain text: decided wrong once no reference begins with it. The right answer may still
// be spoilt by more text.
std::optional<double> exact_verdict(std::string_view text, const std::vector<std::string>& references) {
  const std::string said = strip_left(text);
  for (const std::string& raw : references) {
    const std::string reference = strip(raw);
    if (reference.starts_with(said)) return std::nullopt;
    if (said.starts_with(reference) && strip_left(said.substr(reference.size())).empty()) return std::nullopt;
  }
  return 0.0;
}

// Metrics that look at the answer no further than its first newline, period or comma.
bool cuts_answer(Metric metric) { return metric == Metric::kEmContains || metric == Metric::kSquadContains; }

// The whole text is the answer.
std::optional<double> plain_verdict(Metric metric, const ExtractRule& rule, std::string_view text,
                                    const std::vector<std::string>& references) {
  const auto now = [&] { return score_text(metric, rule, text, references); };
  if (metric == Metric::kExactMatch) return exact_verdict(text, references);
  if (metric == Metric::kContains) return now() == 1 ? std::optional(1.0) : std::nullopt;
  if (cuts_answer(metric) && strip_left(text).find_first_of("\n.,") != std::string::npos) return now();
  return std::nullopt;
}

// The first line that is not blank, without "Answer: ". What follows it can only turn the blanks at its end
// into a part of "Answer: ".
std::optional<double> first_line_verdict(Metric metric, const ExtractRule& rule, std::string_view text,
                                         const std::vector<std::string>& references) {
  const std::string line = strip_left(text);
  const size_t end = line.find('\n');
  if (cuts_answer(metric) && line.find_first_of(".,") < end)
    return score_text(metric, rule, text, references);
  if (end == std::string::npos) return std::nullopt;
  const double now = score_text(metric, rule, text, references);
  const double later = score_text(metric, rule, std::string(text) + "x", references);
  return now == later ? std::optional(now) : std::nullopt;
}

}  // namespace

std::span<const MetricRow> metrics() { return kMetrics; }
const MetricRow& metric_row(Metric metric) { return kMetrics.at(static_cast<size_t>(metric)); }

std::optional<Metric> parse_metric(std::string_view name) {
  for (size_t i = 0; i < kMetrics.size(); ++i) {
    if (kMetrics[i].name == name) return static_cast<Metric>(i);
  }
  return std::nullopt;
}

std::string metric_name(Metric metric) { return std::string(metric_row(metric).name); }

std::vector<std::string> metric_names() {
  std::vector<std::string> names;
  for (const MetricRow& row : kMetrics) names.emplace_back(row.name);
  return names;
}

double macro_f1(std::span<const int32_t> chosen, std::span<const int32_t> right, size_t classes) {
  double sum = 0;
  for (size_t c = 0; c < classes; ++c) {
    const auto choice = static_cast<int32_t>(c);
    int64_t both = 0, either = 0;
    for (size_t item = 0; item < chosen.size(); ++item) {
      both += chosen[item] == choice && right[item] == choice;
      either += (chosen[item] == choice) + (right[item] == choice);
    }
    if (either > 0) sum += 2 * static_cast<double>(both) / static_cast<double>(either);
  }
  return sum / static_cast<double>(std::max<size_t>(classes, 1));
}

bool normalises_to_nothing(Metric metric, const ExtractRule& rule, const std::string& reference) {
  switch (metric) {
    case Metric::kExactMatch:  // what `ignore` removes may be all of it
      return !strip(reference).empty() && strip(without(rule.ignore, reference)).empty();
    case Metric::kContains:
      return reference.empty();
    case Metric::kEmContains:
      return reference.empty() || general_normalise(reference).empty();
    case Metric::kSquadContains:
      return squad_normalise(reference).empty();
    default:
      return false;
  }
}

std::string out_of_reach(Metric metric, const ExtractRule& rule, const std::string& reference) {
  if (metric == Metric::kNumberEqual && rule.kind == ExtractKind::kLastNumber) {
    return number(rule.thousands ? plain_number(reference) : reference) ? "" : "a number";
  }
  if (metric != Metric::kExactMatch || !rule.ignore.empty()) return {};
  const std::string text = strip(reference);
  const char letter = text.size() == 1 ? text[0] : '\0';
  if (rule.kind == ExtractKind::kFirstCapital)
    return letter >= 'A' && letter <= 'Z' ? "" : "one capital letter";
  if (rule.kind == ExtractKind::kFirstOption)
    return rule.options.find(letter) != std::string::npos ? "" : "one of the letters " + rule.options;
  return {};
}

double score_text(Metric metric, const ExtractRule& rule, std::string_view text,
                  const std::vector<std::string>& references) {
  const MetricRow& row = metric_row(metric);
  if (row.score == nullptr) return 0;
  const std::string answer = extract_answer(rule, text);
  double best = 0;
  for (const std::string& reference : references) best = std::max(best, row.score(rule, answer, reference));
  return best;
}

std::optional<double> early_verdict(Metric metric, const ExtractRule& rule, std::string_view text,
                                    const std::vector<std::string>& references) {
  const auto now = [&] { return score_text(metric, rule, text, references); };
  if (!rule.ignore.empty()) return std::nullopt;  // what is removed may reach back to the start
  switch (rule.kind) {
    case ExtractKind::kRegex:  // a longer match, or a later one, may still come
      return std::nullopt;
    case ExtractKind::kNone:
      return plain_verdict(metric, rule, text, references);
    case ExtractKind::kFirstCapital:  // the first capital letter stays the first
      return extract_answer(rule, text).empty() ? std::nullopt : std::optional(now());
    case ExtractKind::kFirstOption:  // only the rule about the very start cannot be overruled by later text
      if (text.size() >= 2 && rule.options.find(text[0]) != std::string::npos &&
          (text[1] == ':' || text[1] == ',' || text[1] == ' ' || (text[1] >= '\t' && text[1] <= '\r'))) {
        return now();
      }
      return std::nullopt;
    case ExtractKind::kLastNumber:  // the text ends for it at the next question
      return text.find("Question:") != std::string_view::npos ? std::optional(now()) : std::nullopt;
    case ExtractKind::kSquad:  // the first line alone counts; "answer is" may still come on it
      return text.find('\n') != std::string_view::npos ? std::optional(now()) : std::nullopt;
    case ExtractKind::kFirstLine:
      return first_line_verdict(metric, rule, text, references);
  }
  return std::nullopt;
}

}  // namespace eep
