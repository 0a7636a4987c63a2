// Extraction rules and metrics on the strings of docs/method.md's protocol, and the early verdict against
// every continuation.
#include <doctest/doctest.h>

#include <random>

#include "loaders/metric.h"

using namespace eep;

namespace {

std::string extract(const char* rule_text, const std::string& text) {
  ExtractRule rule;
  REQUIRE(parse_extract(rule_text, &rule));
  return extract_answer(rule, text);
}

double score(Metric metric, const char* rule_text, const std::string& text,
             const std::vector<std::string>& references) {
  ExtractRule rule;
  REQUIRE(parse_extract(rule_text, &rule));
  return score_text(metric, rule, text, references);
}

}  // namespace

TEST_CASE("extract: first capital letter") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"A", "A"}, {"B. No", "B"}, {"The answer is B", "T"}, {"Answer: B", "A"}, {" yes, A", "A"},
      {"no", ""}, {"É. A", "É"}};
  for (const auto& [text, answer] : cases) CHECK(extract("first_capital", text) == answer);
}

TEST_CASE("extract: first option") {
  for (const char* text :
       {"B. No", "B: because", "B", " B", "B)", "answer:B", "The answer is (B)",
        "The correct answer is option B", "It is B.", "As far as I know, B", "Because", "B\nA"}) {
    CAPTURE(text);
    CHECK(extract("first_option(AB)", text) == "B");
  }
  CHECK(extract("first_option(AB)", "I think A or B") == "B");
  CHECK(extract("first_option(AB)", "Option 1: B, not A") == "A");
  CHECK(extract("first_option(AB)", "An apple") == "A");
  CHECK(extract("first_option(AB)", "No") == "");
  CHECK(extract("first_option(AB)", "The answer is not clear") == "");
  CHECK(extract("first_option(ABC)", "(C)") == "C");
  CHECK(extract("first_option(ABC)", "Contradiction") == "C");
  CHECK(extract("first_option(ABC)", "Neutral") == "");
  CHECK(extract("first_option(ABCD)", "Both A. and C. hold") == "A");
  CHECK(extract("first_option(AB)", "B\uff0cA") == "B");
  ExtractRule rule;
  CHECK(!parse_extract("first_option()", &rule));
  CHECK(!parse_extract("first_option(ab)", &rule));
  CHECK(!parse_extract("second_option", &rule));
}

TEST_CASE("extract: last number") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"So the answer is 14.8.", "14.8"}, {"-3", "-3"}, {"1,234", "234"},     {"5 Question: 7", "5"},
      {"23.5%-8.7%=14.8", "14.8"},        {"3.", "3"},  {"no digits", "NULL"}};
  for (const auto& [text, answer] : cases) CHECK(extract("last_number", text) == answer);
}

TEST_CASE("normalisers") {
  CHECK(general_normalise("The  \"quick\", fox") == "quick");
  CHECK(general_normalise("a-b the c") == "ab c");
  CHECK(squad_normalise("$38,000") == "38000");
}

TEST_CASE("metric: DROP, ReCoRD, SQuAD and GSM8K as the paper scores them") {
  const auto drop = [](const std::string& said, const std::string& gold) {
    return score(Metric::kEmContains, "last_number", said, {gold});
  };
  CHECK(drop("15", "1") == 1);
  CHECK(drop("-3", "3") == 1);
  CHECK(drop("148", "14.8") == 1);
  CHECK(drop("14.3", "14.8") == 1);
  CHECK(drop("14.8", "14.8") == 1);
  CHECK(drop("1,234", "1234") == 0);
  CHECK(drop("none", "3") == 0);
  const auto record = [](const std::string& said, const std::string& gold) {
    return score(Metric::kEmContains, "first_line", said, {gold});
  };
  CHECK(record("Answer: Barack Obama", "Obama") == 1);
  CHECK(record("obama", "Obama") == 0);
  CHECK(record("\n\nObama.", "Obama") == 1);
  CHECK(record("The Obama, Barack", "Barack") == 0);
  CHECK(record("U.S. Army", "U.S. Army") == 1);
  CHECK(record("U.S. Army", "Army") == 0);
  const auto squad = [](const std::string& said, const std::string& gold) {
    return score(Metric::kSquadContains, "squad", said, {gold});
  };
  CHECK(squad("Paris", "Paris") == 1);
  CHECK(squad("According to the passage, the answer was Paris.", "Paris") == 0);
  CHECK(squad("According to the passage, the answer is Paris.", "Paris") == 1);
  CHECK(squad("$38,000", "$38,000") == 0);
  CHECK(squad("St. Louis", "St. Louis") == 0);
  CHECK(squad("the answer is 3.5", "3.5") == 0);
  CHECK(squad("", "Paris") == 0);
  CHECK(squad("", "The") == 1);
  CHECK(squad("It is impossible to answer the question", "impossible to answer") == 1);
  CHECK(squad("London\nParis", "Paris") == 0);
  const auto gsm8k = [](const std::string& said) {
    return score(Metric::kNumberEqual, "last_number", said, {"18"});
  };
  CHECK(gsm8k("18") == 1);
  CHECK(gsm8k("18.0") == 1);
  CHECK(gsm8k("18.5") == 0);
  CHECK(gsm8k("none") == 0);
}

TEST_CASE("metric: exact match, contains, F1") {
  CHECK(score(Metric::kExactMatch, "none", "  red hat ", {"blue", "red hat"}) == 1);
  CHECK(score(Metric::kExactMatch, "none", "red hats", {"red hat"}) == 0);
  CHECK(score(Metric::kContains, "none", "a red hat", {"red"}) == 1);
  CHECK(score(Metric::kF1, "none", "the red hat", {"red cap"}) ==
        doctest::Approx(0.5));  // one of two words on each side
}

TEST_CASE("verdict: once given, no continuation changes it") {
  const std::vector<std::string> rules{"none",        "first_capital", "first_option(AB)",
                                       "last_number", "first_line",    "squad"};
  const std::vector<std::string> pieces{
      " ",  "A",  "B",          "b",         "1",        "2",    ".", ",",   ":",   "-",
      "\n", "is", "answer is ", "Question:", "Answer: ", "the ", "(", "red", " hat"};
  const std::vector<std::vector<std::string>> references{{"A"}, {"1"}, {"red hat", "B"}, {"12", ""}, {"A.B"}};
  std::mt19937 generator(20);
  size_t decided = 0;
  for (int trial = 0; trial < 30000; ++trial) {
    ExtractRule rule;
    REQUIRE(parse_extract(rules[generator() % rules.size()], &rule));
    const Metric metric = static_cast<Metric>(2 + generator() % 6);
    const auto& wanted = references[generator() % references.size()];
    std::string text;
    for (uint32_t i = generator() % 5; i > 0; --i) text += pieces[generator() % pieces.size()];
    const auto verdict = early_verdict(metric, rule, text, wanted);
    if (!verdict) continue;
    ++decided;
    for (int more = 0; more < 6; ++more) {
      CAPTURE(text);
      CHECK(score_text(metric, rule, text, wanted) == *verdict);
      text += pieces[generator() % pieces.size()];
    }
  }
  CHECK(decided > 3000);
}
