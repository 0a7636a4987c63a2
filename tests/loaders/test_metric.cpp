// Extraction rules and metrics on the strings of the paper's protocol, the early verdict against every
// continuation, and the statistics of scores.
#include <doctest/doctest.h>

#include <random>

#include "loaders/tasks/metric.h"
#include "loaders/tasks/statistics.h"

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

TEST_CASE("extract: numbers with separators of thousands") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"70,000", "70000"},       {"1,234,567.5 apples", "1234567.5 apples"},
      {"1, 2, 3", "1, 2, 3"},    {"1,234,5", "1,234,5"},
      {"12,34", "12,34"},        {"1234,567", "1234,567"},
      {"$70,000.", "$70000."},   {"1,000,000 and 2,000", "1000000 and 2000"},
      {"10,20,300", "10,20,300"}};
  for (const auto& [text, plain] : cases) CHECK(without_thousands(text) == plain);
  ExtractRule rule;
  REQUIRE(parse_extract("last_number", &rule));
  CHECK(extract_answer(rule, "#### 70,000") == "000");  // the paper's code
  rule.thousands = true;
  for (const char* text : {"#### 70,000", "$70,000.", "The answer is 70000", "70,000"}) {
    CHECK(score_text(Metric::kNumberEqual, rule, text, {"70,000"}) == 1);
    CHECK(score_text(Metric::kNumberEqual, rule, text, {"70000"}) == 1);
    CHECK(score_text(Metric::kNumberEqual, rule, text, {"7000"}) == 0);
  }
}

TEST_CASE("extract: regular expressions, as Python's re finds them") {
  struct Case {
    const char *expression, *text;
    std::vector<std::string> found;
  };
  const std::vector<Case> cases{{"a|ab", "abab", {"a", "a"}},
                                {"(?:ab|a)+b?", "aabab", {"aabab"}},
                                {"a{2,3}", "aaaaa", {"aaa", "aa"}},
                                {"a{2,3}?", "aaaaa", {"aa", "aa"}},
                                {"x*", "axb", {"", "x", "", ""}},
                                {"[^0-9]+", "1ab2", {"ab"}},
                                {"[]a-]+", "x]-a", {"]-a"}},
                                {"\\bü\\w*", "übel grün", {"übel"}},
                                {"(?i)ANSWER: (.)", "the answer: b", {"answer: b"}},
                                {"^.$", "a\n", {"a"}},
                                {"(?m)^b", "a\nb", {"b"}},
                                {"(?s).*#### ", "a\nb #### 7", {"a\nb #### "}},
                                {"a{,2}b|a{x", "aab a{x", {"aab", "a{x"}},
                                {"(a*)*b", "aaab", {"aaab"}}};
  for (const Case& each : cases) {
    CAPTURE(each.expression);
    std::vector<std::string> got;
    for (const Regex::Match& match : Regex(each.expression).find_all(each.text))
      got.push_back(std::string(each.text).substr(match[0].first, match[0].second - match[0].first));
    CHECK(got == each.found);
  }
  const std::vector<std::pair<std::string, size_t>> refusals{
      {"#### (-?[0-9.,+", 8}, {"a)", 1},    {"(a", 0}, {"*a", 0}, {"a**", 2},
      {"[b-a]", 1},           {"(?=a)", 0}, {"\\1", 0}};
  for (const auto& refusal : refusals) {
    CAPTURE(refusal.first);
    try {
      const Regex refused(refusal.first);
      FAIL("accepted");
    } catch (const RegexError& error) {
      CHECK(error.at == refusal.second);
    }
  }
  CHECK_THROWS(Regex(std::string(300, '(')));
  CHECK_THROWS(Regex("((((((((((a{9}){9}){9}){9}){9}){9}){9}){9}){9}){9}"));

  ExtractRule strict;
  strict.kind = ExtractKind::kRegex;
  strict.regex = Regex("#### (-?[0-9.,]+)");
  strict.fallback = "[invalid]";
  for (const char* ignored : {",", "\\$", "(?s).*#### ", "\\.$"}) strict.ignore.emplace_back(ignored);
  ExtractRule flexible = strict;
  flexible.regex = Regex("(-?[$0-9.,]{2,})|(-?[0-9]+)");
  flexible.last = true;
  const std::vector<std::string> solution{"He earns 35,000 * 2.\n#### 70,000"};
  for (const char* text : {"#### 70,000", "$70,000.", "The answer is 70000", "70,000"}) {
    CHECK(score_text(Metric::kExactMatch, strict, text, solution) == (text[0] == '#' ? 1 : 0));
    CHECK(score_text(Metric::kExactMatch, flexible, text, solution) == 1);
    CHECK(!early_verdict(Metric::kExactMatch, flexible, text, solution));
  }
  CHECK(extract_answer(strict, "none") == "[invalid]");
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

TEST_CASE("metric: numbers are decimal, those of many digits are compared digit by digit") {
  const auto equal = [](const std::string& said, const std::string& gold, bool thousands) {
    ExtractRule rule;
    rule.thousands = thousands;
    return score_text(Metric::kNumberEqual, rule, said, {gold});
  };
  const std::string large = "12345678901234567890123456789";
  CHECK(equal(large + "0", large + "0", true) == 1);
  CHECK(equal(large + "0", large + "1", true) == 0);
  CHECK(equal("9007199254740993", "9007199254740992", true) == 0);
  CHECK(equal("+" + large + "0.00", "0" + large + "0", true) == 1);
  CHECK(equal("-" + large, large, true) == 0);
  CHECK(equal("9007199254740993", "9007199254740992", false) == 1);  // the paper's code has doubles
  for (const char* said : {"0x10", "0X10", "inf", "nan", "0x1p4"}) CHECK(equal(said, "16", true) == 0);
  CHECK(equal("1.6e1", "16", true) == 1);
  ExtractRule rule;
  REQUIRE(parse_extract("last_number", &rule));
  rule.thousands = true;
  CHECK(extract_answer(rule, "a loss of -$70,000.") == "-70000");
  CHECK(extract_answer(rule, "from $5 to $-3") == "-3");
  rule.thousands = false;
  CHECK(extract_answer(rule, "-$7") == "7");
}

// Values of lm-evaluation-harness 0.4.13, tasks/drop/utils.py, get_metrics([prediction], spans).
TEST_CASE("metric: macro F1 is the mean over all choices, those that never come count as nothing") {
  // By hand: choice 0 has 2 of 2 right and one more chosen, 2 * 2 / (3 + 2); choice 1 has 1 of 2, 2 * 1 / (1
  // + 2).
  const std::vector<int32_t> chosen = {0, 0, 0, 1}, right = {0, 0, 1, 1};
  CHECK(macro_f1(chosen, right, 2) == doctest::Approx((0.8 + 2.0 / 3) / 2));
  CHECK(macro_f1(chosen, right, 3) == doctest::Approx((0.8 + 2.0 / 3) / 3));
  CHECK(macro_f1(right, right, 2) == 1);
  CHECK(macro_f1({}, {}, 2) == 0);
}

TEST_CASE("metric: DROP's own, exact and F1") {
  struct Case {
    const char *said, *gold;
    double exact, f1;
  };
  for (const Case& c : std::vector<Case>{{"The 14.80", "14.8", 1, 1},
                                         {"14.8 points", "14.8", 0, 0.67},
                                         {"15", "14.8", 0, 0},
                                         {"$1,000", "1000", 1, 1},
                                         {"Bo", "Bo\nAl", 0, 0.5},
                                         {"a cat-dog", "dog cat", 0, 1},
                                         {"3 May", "3 May", 1, 1},
                                         {"", "x", 0, 0}}) {
    CAPTURE(c.said);
    CAPTURE(c.gold);
    CHECK(score(Metric::kDropExact, "none", c.said, {c.gold}) == c.exact);
    CHECK(score(Metric::kDropF1, "none", c.said, {c.gold}) == doctest::Approx(c.f1));
  }
}

TEST_CASE("extract: white space and letters beyond ASCII") {
  CHECK(strip("\u3000 \u00a0x y\u2003\n") == "x y");
  CHECK(strip(" \u3000 ") == "");
  CHECK(strip("\x80 ") == "\x80");
  CHECK(extract("first_option(AB)", "A\u3000B") == "A");
  CHECK(extract("first_capital", "東 Ω") == "Ω");
  CHECK(extract("first_line", " \n Answer: \nx") == "");
  CHECK(official_normalise("The  Quick-Brown, \"fox\" an_d a dog.") == "quickbrown fox and dog");
  CHECK(official_normalise("a") == "");
  CHECK(official_normalise("É the’s") == "é ’s");
}

TEST_CASE("metric: exact match, contains, F1") {
  CHECK(score(Metric::kExactMatch, "none", "  red hat ", {"blue", "red hat"}) == 1);
  CHECK(score(Metric::kExactMatch, "none", "red hats", {"red hat"}) == 0);
  CHECK(score(Metric::kContains, "none", "a red hat", {"red"}) == 1);
  CHECK(score(Metric::kF1, "none", "the red hat", {"red cap"}) ==
        doctest::Approx(0.5));                                       // one of two words on each side
  CHECK(score(Metric::kF1, "none", "red\nhat", {"Red hat!"}) == 1);  // no cut, no case, no punctuation
  CHECK(score(Metric::kF1, "none", "the", {""}) == 1);
  CHECK(score(Metric::kF1, "none", "hat", {""}) == 0);
  CHECK(score(Metric::kSquadExact, "none", "The red hat.", {"cap", "red hat"}) == 1);
  CHECK(score(Metric::kSquadExact, "none", "red hats", {"red hat"}) == 0);
}

namespace {

// The verdict on `text` must be the score of the text itself and of every continuation.
void check_verdict(Metric metric, const ExtractRule& rule, const std::string& text,
                   const std::vector<std::string>& references, double verdict) {
  CAPTURE(metric_name(metric));
  CAPTURE(static_cast<int>(rule.kind));
  CAPTURE(text);
  CAPTURE(references[0]);
  CHECK(score_text(metric, rule, text, references) == verdict);
}

constexpr int kTextMetrics = 9;  // from kExactMatch on

}  // namespace

TEST_CASE("verdict: once given, no continuation changes it") {
  const std::vector<std::string> rules{"none",        "first_capital", "first_option(AB)",
                                       "last_number", "first_line",    "squad"};
  const std::vector<std::string> pieces{" ",         "A",        "B",    "b", "1",   "2",    ".",
                                        ",",         ":",        "-",    "é", "\n",  "is",   "answer is ",
                                        "Question:", "Answer: ", "the ", "(", "red", " hat", "\u3000"};
  const std::vector<std::vector<std::string>> references{{"A"},   {"1"},      {"red hat", "B"}, {"12", ""},
                                                         {"A.B"}, {"Answer"}, {" A "}};
  std::mt19937 generator(20);
  size_t decided = 0;
  for (int trial = 0; trial < 60000; ++trial) {
    ExtractRule rule;
    REQUIRE(parse_extract(rules[generator() % rules.size()], &rule));
    const Metric metric = static_cast<Metric>(2 + generator() % kTextMetrics);
    const auto& wanted = references[generator() % references.size()];
    std::string text;
    for (auto i = generator() % 5; i > 0; --i) text += pieces[generator() % pieces.size()];
    const auto verdict = early_verdict(metric, rule, text, wanted);
    if (!verdict) continue;
    ++decided;
    for (int more = 0; more < 6; ++more) {
      check_verdict(metric, rule, text, wanted, *verdict);
      text += pieces[generator() % pieces.size()];
    }
  }
  CHECK(decided > 6000);
}

TEST_CASE("verdict: every short text with every short continuation") {
  const std::vector<std::string> pieces{" ", "\n",       "A",         "B",          "1",
                                        ".", "Answer: ", "Question:", "answer is ", "x"};
  const std::vector<std::vector<std::string>> references{{"A"}, {"Answer"}, {"1", ""}, {"x"}};
  std::vector<std::string> texts{""};  // of up to two pieces
  for (const std::string& a : pieces) {
    texts.push_back(a);
    for (const std::string& b : pieces) texts.push_back(a + b);
  }
  for (const char* name :
       {"none", "first_capital", "first_option(AB)", "last_number", "first_line", "squad"}) {
    ExtractRule rule;
    REQUIRE(parse_extract(name, &rule));
    for (int metric = 0; metric < kTextMetrics; ++metric) {
      for (const auto& wanted : references) {
        for (const std::string& text : texts) {
          const auto verdict = early_verdict(static_cast<Metric>(2 + metric), rule, text, wanted);
          if (!verdict) continue;
          for (const std::string& more : texts)
            if (score_text(static_cast<Metric>(2 + metric), rule, text + more, wanted) != *verdict)
              check_verdict(static_cast<Metric>(2 + metric), rule, text + more, wanted, *verdict);
        }
      }
    }
  }
}

TEST_CASE("verdict: what is known early") {
  const auto verdict = [](Metric metric, const char* rule_text, const std::string& text,
                          const std::vector<std::string>& references) {
    ExtractRule rule;
    REQUIRE(parse_extract(rule_text, &rule));
    return early_verdict(metric, rule, text, references);
  };
  const std::optional<double> open, wrong = 0.0, right = 1.0;
  CHECK(verdict(Metric::kExactMatch, "none", " re", {"blue", "red hat"}) == open);
  CHECK(verdict(Metric::kExactMatch, "none", " red hat ", {"red hat"}) == open);
  CHECK(verdict(Metric::kExactMatch, "none", " red hats", {"red hat"}) == wrong);
  CHECK(verdict(Metric::kExactMatch, "none", " gr", {"blue", "red hat"}) == wrong);
  CHECK(verdict(Metric::kExactMatch, "first_capital", "the B", {"B"}) == right);
  CHECK(verdict(Metric::kExactMatch, "first_capital", "the b", {"B"}) == open);
  CHECK(verdict(Metric::kExactMatch, "first_option(AB)", "B:", {"B"}) == right);
  CHECK(verdict(Metric::kExactMatch, "first_option(AB)", "It is B.", {"B"}) == open);
  CHECK(verdict(Metric::kEmContains, "first_line", "\n\nObama.", {"Obama"}) == right);
  CHECK(verdict(Metric::kEmContains, "first_line", "Obama", {"Obama"}) == open);
  CHECK(verdict(Metric::kEmContains, "first_line", "Answer: \n", {"Answer"}) == open);
  CHECK(verdict(Metric::kSquadContains, "squad", "Paris", {"Paris"}) == open);
  CHECK(verdict(Metric::kSquadContains, "squad", "Paris\n", {"Paris"}) == right);
  CHECK(verdict(Metric::kEmContains, "last_number", "5 Question:", {"5"}) == right);
  CHECK(verdict(Metric::kContains, "none", "a red", {"red"}) == right);
}

TEST_CASE("statistics: intervals and paired tests against known values") {
  const std::vector<double> values{1, 0, 1, 1};
  CHECK(mean(values) == 0.75);
  CHECK(standard_error(values) == doctest::Approx(0.25));  // sd 0.5, root of 4
  CHECK(standard_error(std::vector<double>{1}) == 0);
  CHECK(wilson_interval(8, 10).low == doctest::Approx(0.490162).epsilon(1e-5));
  CHECK(wilson_interval(8, 10).high == doctest::Approx(0.943318).epsilon(1e-5));
  CHECK(wilson_interval(0, 500).low == 0);
  CHECK(wilson_interval(500, 500).high == 1);
  CHECK(normal_interval(0.99, 0.1).high == 1);
  // 7 against 1 discordant pairs: 2 (C(8,0) + C(8,1)) / 2^8.
  std::vector<double> a, b;
  for (int i = 0; i < 12; ++i) {
    a.push_back(i < 7 || i >= 10 ? 1 : 0);
    b.push_back(i == 7 || i >= 10 ? 1 : 0);
  }
  CHECK(mcnemar_exact(a, b) == doctest::Approx(18.0 / 256));
  CHECK(mcnemar_exact(b, a) == doctest::Approx(18.0 / 256));
  CHECK(mcnemar_exact(a, a) == 1);
  // The sign-flip test of the same pairs: all sums at least 6 away, of 2^8 signs of 8 pairs.
  CHECK(paired_permutation(a, b, 3) == doctest::Approx(18.0 / 256).epsilon(0.15));
  CHECK(paired_permutation(a, a, 3) == 1);
  CHECK(paired_permutation(a, b, 3) == paired_permutation(b, a, 3));
}
