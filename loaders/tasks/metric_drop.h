// DROP's own metrics, as its script and lm-evaluation-harness compute them for one predicted span.
#pragma once

#include <string>

namespace eep {

// The lines of a reference are its spans. 1 or 0: the answer is the one span of the reference, both
// normalised (lower case, no punctuation and articles, numbers by value).
double drop_exact(const std::string& answer, const std::string& reference);
// F1 of bags of tokens with the span that fits best, shared among all spans of the reference, rounded to two
// decimals; a span with numbers fits only an answer with one of them.
double drop_f1(const std::string& answer, const std::string& reference);

}  // namespace eep
