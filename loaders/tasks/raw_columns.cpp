#include "loaders/tasks/raw_columns.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/common/expected.h"
#include "loaders/formats/unicode.h"
#include "loaders/tasks/extract.h"

namespace eep {
namespace {

[[noreturn]] void fail(const RawScope& scope, const std::string& what) {
  throw Error(ExitCode::kData, scope.where, what);
}

// "a;b;c"
std::vector<std::string_view> parts_of(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t at = 0;;) {
    const size_t next = text.find(separator, at);
    parts.push_back(text.substr(at, next - at));
    if (next == std::string_view::npos) return parts;
    at = next + 1;
  }
}

// Null where a step leads nowhere.
Json walk(const Json& value, std::string_view path) {
  if (path.empty()) return value;
  const size_t dot = path.find('.');
  std::string_view step = path.substr(0, dot);
  const std::string_view rest = dot == std::string_view::npos ? "" : path.substr(dot + 1);
  const bool every = step.ends_with("[]");
  if (every) step.remove_suffix(2);
  if (!value.is_object()) return nullptr;
  const auto found = value.find(std::string(step));
  if (found == value.end()) return nullptr;
  if (!every) return walk(*found, rest);
  if (!found->is_array()) return nullptr;
  Json list = Json::array();
  for (const Json& element : *found) {
    list.push_back(walk(element, rest));
    if (list.back().is_null()) return nullptr;
  }
  return list;
}

std::string text_of(const RawScope& scope, std::string_view path) {
  const Json value = raw_field(scope, path);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return value.dump();
  fail(scope, fmt::format("field {}: wrong type", path) + expected_got("text", value.type_name()));
}

std::vector<std::string> texts_of(const RawScope& scope, std::string_view path) {
  const Json value = raw_field(scope, path);
  if (!value.is_array())
    fail(scope, fmt::format("field {}: wrong type", path) + expected_got("a list", value.type_name()));
  std::vector<std::string> texts;
  for (const Json& element : value) {
    if (!element.is_string() && !element.is_number())
      fail(scope, fmt::format("field {}: an element is not text (got {})", path, element.type_name()));
    texts.push_back(element.is_string() ? element.get<std::string>() : element.dump());
  }
  return texts;
}

int64_t integer_of(const RawScope& scope, std::string_view path) {
  const Json value = raw_field(scope, path);
  if (value.is_number_integer()) return value.get<int64_t>();
  const std::string text = value.is_string() ? strip(value.get<std::string>()) : "";
  const bool digits =
      !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits)
    fail(scope, fmt::format("field {}: wrong type", path) +
                    expected_got("an integer",
                                 printable(value.dump(-1, ' ', false, Json::error_handler_t::replace))));
  return std::stoll(text);
}

std::vector<std::string> distinct_of(const std::vector<std::string>& texts) {
  std::vector<std::string> once;
  for (const std::string& text : texts) {
    if (std::find(once.begin(), once.end(), text) == once.end()) once.push_back(text);
  }
  return once;
}

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

// Byte of the n-th character.
size_t byte_of(std::string_view text, int64_t character) {
  size_t at = 0;
  for (int64_t i = 0; i < character && at < text.size(); ++i) at += decode_utf8(text, at).bytes;
  return at;
}

std::string characters(std::string_view text, int64_t begin, int64_t end) {
  const size_t first = byte_of(text, begin);
  return std::string(text.substr(first, std::max(byte_of(text, end), first) - first));
}

std::vector<std::string> split_blanks(const std::string& text) {
  std::vector<std::string> words;
  for (const std::string_view word : parts_of(text, ' ')) words.emplace_back(word);
  return words;
}

std::string lower_first(std::string text) {
  if (text.empty()) return text;
  const size_t bytes = decode_utf8(text, 0).bytes;
  return lower_case(text.substr(0, bytes)) + text.substr(bytes);
}

std::string without_last_character(std::string text) {
  while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0) == 0x80) text.pop_back();
  if (!text.empty()) text.pop_back();
  return text;
}

}  // namespace

Json find_raw(const RawScope& scope, std::string_view paths) {
  for (std::string_view path : parts_of(paths, '|')) {
    size_t level = scope.objects.size() - 1;
    if (path.starts_with('/')) {
      level = 0;
      path.remove_prefix(1);
    }
    for (; path.starts_with("../") && level > 0; --level) path.remove_prefix(3);
    Json value = walk(*scope.objects[level], path);
    if (!value.is_null()) return value;
  }
  return nullptr;
}

Json raw_field(const RawScope& scope, std::string_view path) {
  Json value = find_raw(scope, path);
  if (value.is_null()) fail(scope, fmt::format("field {} is missing", path));
  return value;
}

void unnest(const RawScope& scope, std::string_view path, const std::function<void(const RawScope&)>& take) {
  if (path.empty()) {
    take(scope);
    return;
  }
  const size_t list = path.find("[]");
  const std::string_view step = path.substr(0, list);
  const std::string_view rest = path.size() > list + 3 ? path.substr(list + 3) : "";
  const Json* at = scope.objects.back();
  for (const std::string_view name : parts_of(step, '.')) {
    const auto found = at->is_object() ? at->find(std::string(name)) : at->end();
    if (found == at->end()) fail(scope, fmt::format("field {} is missing", step));
    at = &*found;
  }
  if (!at->is_array()) fail(scope, fmt::format("field {}: not a list", step));
  for (const Json& element : *at) {
    if (!element.is_object()) fail(scope, fmt::format("field {}: an element is not an object", step));
    RawScope inner = scope;
    inner.objects.push_back(&element);
    unnest(inner, rest, take);
  }
}

namespace columns {

Json copy(const RawScope& scope, std::string_view from) {
  Json value = raw_field(scope, from);
  if (value.is_object()) fail(scope, fmt::format("field {}: wrong type (got an object)", from));
  return value;
}

Json optional(const RawScope& scope, std::string_view from) { return find_raw(scope, from); }

Json truth(const RawScope& scope, std::string_view from) {
  const Json value = raw_field(scope, from);
  if (value.is_boolean()) return value;
  const std::string text = lower_case(value.is_string() ? value.get<std::string>() : value.dump());
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  fail(scope, fmt::format("field {}: wrong value", from) + expected_got("true or false", printable(text)));
}

Json whole(const RawScope& scope, std::string_view from) { return integer_of(scope, from); }

Json distinct(const RawScope& scope, std::string_view from) { return distinct_of(texts_of(scope, from)); }

Json position(const RawScope& scope, std::string_view from) {
  const auto parts = parts_of(from, ';');
  const std::vector<std::string> labels = texts_of(scope, parts[0]);
  const std::string key = strip(text_of(scope, parts[1]));
  const auto found = std::find(labels.begin(), labels.end(), key);
  if (found == labels.end()) {
    fail(scope,
         fmt::format("field {}: no such label", parts[1]) +
             expected_got(fmt::format("one of {}", printable(fmt::format("{}", fmt::join(labels, ", ")))),
                          printable(key)));
  }
  if (std::count(labels.begin(), labels.end(), key) > 1)
    fail(scope,
         fmt::format("field {}: ambiguous: several choices have the label {}", parts[1], printable(key)));
  return found - labels.begin();
}

Json option(const RawScope& scope, std::string_view from) {
  const auto parts = parts_of(from, ';');
  const std::vector<std::string> all = texts_of(scope, parts[0]);
  if (all.size() != 4) return nullptr;
  return all[static_cast<size_t>(parts[1][0] - '0')];
}

Json stripped(const RawScope& scope, std::string_view from) { return strip(text_of(scope, from)); }

Json list(const RawScope& scope, std::string_view from) {
  Json all = Json::array();
  for (const std::string_view path : parts_of(from, ';')) all.push_back(text_of(scope, path));
  return all;
}

Json subject(const RawScope& scope, std::string_view) {
  std::string name = scope.stem;
  for (const std::string_view end : {"_dev", "_val", "_test", "_train"}) {
    if (name.ends_with(end)) name.resize(name.size() - end.size());
  }
  return replace_all(name, "_", " ");
}

Json slice(const RawScope& scope, std::string_view from) {
  const auto parts = parts_of(from, ';');
  const std::string text = text_of(scope, parts[0]);
  const int64_t begin = integer_of(scope, parts[1]), end = integer_of(scope, parts[2]);
  std::string cut = characters(text, begin, end);
  if (begin < 0 || cut.empty())
    fail(scope, fmt::format("field {}: no characters {}..{} in {}", parts[1], begin, end, parts[0]));
  return cut;
}

Json final_number(const RawScope& scope, std::string_view from) {
  const std::string text = text_of(scope, from);
  const size_t at = text.rfind("#### ");
  if (at == std::string::npos) fail(scope, fmt::format("field {}: no final answer behind \"#### \"", from));
  return strip(replace_all(text.substr(at + 5), ",", ""));
}

Json copa_start(const RawScope& scope, std::string_view from) {
  const auto parts = parts_of(from, ';');
  const std::string question = text_of(scope, parts[1]);
  if (question != "cause" && question != "effect")
    fail(scope, fmt::format("field {}: wrong value", parts[1]) +
                    expected_got("cause or effect", printable(question)));
  return without_last_character(strip(text_of(scope, parts[0]))) +
         (question == "cause" ? " because" : " therefore");
}

Json copa_continuations(const RawScope& scope, std::string_view from) {
  Json all = Json::array();
  for (const std::string_view path : parts_of(from, ';'))
    all.push_back(" " + lower_first(text_of(scope, path)));
  return all;
}

Json multirc_verdicts(const RawScope& scope, std::string_view from) {
  const std::string answer = text_of(scope, from);
  return {answer + "\nIs the answer correct? yes", answer + "\nIs the answer correct? no"};
}

Json record_passage(const RawScope& scope, std::string_view from) {
  return replace_all(text_of(scope, from), "@highlight", "");
}

Json record_query(const RawScope& scope, std::string_view from) {
  const std::string query = text_of(scope, from);
  if (query.find("@placeholder") == std::string::npos)
    fail(scope, fmt::format("field {}: no gap (expected @placeholder)", from));
  return replace_all(query, "@placeholder", "____");
}

Json record_context(const RawScope& scope, std::string_view from) {
  constexpr std::string_view kMark = "\n@highlight\n";
  const std::string text = strip(text_of(scope, from));
  size_t at = text.find(kMark);
  std::string out = text.substr(0, at) + "\n\n";
  while (at != std::string::npos) {
    const size_t begin = at + kMark.size();
    at = text.find(kMark, begin);
    out += "  - " + text.substr(begin, at - begin) + ".\n";
  }
  return out;
}

namespace {

// Sorted, each once; the spans of SuperGLUE's files have both ends in.
std::vector<std::string> record_entities(const RawScope& scope) {
  std::vector<std::string> names;
  if (const Json known = find_raw(scope, "/entities"); known.is_array()) {
    names = texts_of(scope, "/entities");
  } else {
    const std::string text = text_of(scope, "/passage.text");
    for (const Json& span : raw_field(scope, "/passage.entities")) {
      const RawScope inner{{&span}, scope.where, scope.stem};
      const int64_t begin = integer_of(inner, "start"), end = integer_of(inner, "end") + 1;
      names.push_back(characters(text, begin, end));
      if (begin < 0 || end <= begin || static_cast<int64_t>(byte_of(text, end - 1)) >= std::ssize(text))
        fail(scope,
             fmt::format("field passage.entities: no characters {}..{} in the passage", begin, end - 1));
    }
  }
  std::sort(names.begin(), names.end());
  return distinct_of(names);
}

}  // namespace

Json record_candidates(const RawScope& scope, std::string_view from) {
  Json all = Json::array();
  for (const std::string& entity : record_entities(scope))
    all.push_back("  - " + replace_all(text_of(scope, from), "@placeholder", entity));
  return all;
}

Json record_right(const RawScope& scope, std::string_view from) {
  const std::vector<std::string> answers = texts_of(scope, from);
  Json right = Json::array();
  int64_t index = 0;
  for (const std::string& entity : record_entities(scope)) {
    if (std::find(answers.begin(), answers.end(), entity) != answers.end()) right.push_back(index);
    ++index;
  }
  return right;
}

namespace {

// The index of a span's first word.
int64_t wsc_index(const RawScope& scope, std::string_view path, int64_t words) {
  const int64_t index = integer_of(scope, path);
  if (index < 0 || index >= words)
    fail(scope, fmt::format("field {}: no such word in the text", path) +
                    expected_got(fmt::format("0..{}", words - 1), index));
  return index;
}

}  // namespace

Json wsc_marked(const RawScope& scope, std::string_view from) {
  const std::vector<std::string> words = split_blanks(text_of(scope, from));
  const auto count = [&](const std::string& span) { return static_cast<int64_t>(split_blanks(span).size()); };
  const std::string one = text_of(scope, "target.span1_text"), two = text_of(scope, "target.span2_text");
  const int64_t at1 = wsc_index(scope, "target.span1_index", std::ssize(words));
  const int64_t at2 = wsc_index(scope, "target.span2_index", std::ssize(words));
  std::string out;
  for (int64_t i = 0; i < std::ssize(words); ++i) {
    const bool first = i >= at1 && i < at1 + count(one), second = i >= at2 && i < at2 + count(two);
    std::string word = words[static_cast<size_t>(i)];
    if (first) {
      if (i != at1) continue;
      word = "* " + one + " *";
    } else if (second) {
      if (i != at2) continue;
      word = "# " + two + " #";
    }
    out += (i == 0 ? "" : " ") + word;
  }
  return out;
}

Json wsc_passage(const RawScope& scope, std::string_view from) {
  const std::string text = text_of(scope, from), pronoun = text_of(scope, "target.span2_text");
  int64_t left = integer_of(scope, "target.span2_index");
  std::string before;
  for (const std::string& word : split_blanks(replace_all(text, "\n", " "))) {
    if (left == 0) break;
    if (word.empty()) continue;
    before += (before.empty() ? "" : " ") + word;
    --left;
  }
  const int64_t length =
      std::ssize(before) + std::ssize(pronoun) + 1;  // as many characters as the marked text replaces
  std::string passage = before + " *" + pronoun + "*" +
                        (length < std::ssize(text) ? text.substr(static_cast<size_t>(length)) : "");
  for (const auto& [spaced, tight] : {std::pair{" n't", "n't"},
                                      {" )", ")"},
                                      {"( ", "("},
                                      {"\" ", "\""},
                                      {" \"", "\""},
                                      {" '", "'"},
                                      {" .", "."},
                                      {" ,", ","}})
    passage = replace_all(passage, spaced, tight);
  return passage;
}

Json squad_references(const RawScope& scope, std::string_view) {
  if (!truth(scope, "is_impossible").get<bool>()) {
    Json answers = distinct(scope, "answers[].text|answers.text");
    if (answers.empty()) fail(scope, "field answers: none, though is_impossible is false");
    return answers;
  }
  Json plausible = find_raw(scope, "plausible_answers[].text|plausible_answers.text");
  Json references = Json::array();
  if (plausible.is_array()) references = distinct(scope, "plausible_answers[].text|plausible_answers.text");
  references.push_back("impossible to answer");
  return references;
}

Json squad_answers(const RawScope& scope, std::string_view from) {
  Json texts = texts_of(scope, from);
  if (texts.empty()) texts.push_back("");
  return texts;
}

namespace {

std::string drop_date(const Json& answer) {
  std::string date;
  const Json& parts = answer.at("date");
  for (const char* part : {"day", "month", "year"}) {
    const std::string text = parts.is_object() ? parts.value(part, "") : "";
    date += (date.empty() ? "" : " ") + text;
  }
  return strip(date);
}

// The answers of a question, validated ones alone or all. Throws if one is not in DROP's form.
std::vector<Json> drop_answer_objects(const RawScope& scope, bool all) {
  std::vector<Json> answers;
  if (all) answers.push_back(raw_field(scope, "answer"));
  const Json validated = find_raw(scope, "validated_answers");
  if (validated.is_array()) answers.insert(answers.end(), validated.begin(), validated.end());
  for (const Json& answer : answers) {
    if (!answer.is_object() || !answer.contains("number") || !answer["number"].is_string() ||
        !answer.contains("spans") || !answer["spans"].is_array() || !answer.contains("date"))
      fail(scope, "an answer lacks number, date or spans");
  }
  return answers;
}

}  // namespace

Json drop_references(const RawScope& scope, std::string_view) {
  std::vector<std::string> texts;
  for (const Json& answer : drop_answer_objects(scope, false)) {
    const std::string number = answer["number"].get<std::string>(), date = drop_date(answer);
    if (!number.empty()) {
      texts.push_back(number);
    } else if (!date.empty()) {
      texts.push_back(date);
    } else {
      for (const Json& span : answer["spans"]) texts.push_back(span.get<std::string>());
    }
  }
  if (texts.empty()) return drop_answers(scope, {});  // no validated answer: those of the question
  return distinct_of(texts);
}

Json drop_answers(const RawScope& scope, std::string_view) {
  std::vector<std::string> texts;
  for (const Json& answer : drop_answer_objects(scope, true)) {
    const std::string number = answer["number"].get<std::string>();
    std::string text = number;
    if (number.empty() && !answer["spans"].empty()) {
      for (const Json& span : answer["spans"])
        text += (text.empty() ? "" : "\n") + replace_all(span.get<std::string>(), "\n", " ");
    } else if (number.empty()) {
      text = drop_date(answer);
    }
    if (!strip(text).empty()) texts.push_back(text);
  }
  if (texts.empty()) fail(scope, "field answer: empty");
  return distinct_of(texts);
}

Json drop_has_number(const RawScope& scope, std::string_view) {
  for (const Json& answer : drop_answer_objects(scope, false)) {
    if (!answer["number"].get<std::string>().empty()) return true;
  }
  return false;
}

namespace {

std::string without_brackets(std::string text) {
  for (size_t begin = 0; (begin = text.find('[', begin)) != std::string::npos;) {
    const size_t end = text.find(']', begin);
    const size_t line = text.find('\n', begin);
    if (end == std::string::npos) break;
    if (line < end) {  // a dot matches no newline
      ++begin;
      continue;
    }
    text.erase(begin, end - begin + 1);
  }
  return text;
}

std::string wikihow(const std::string& text) {
  return replace_all(without_brackets(replace_all(strip(text), " [title]", ". ")), "  ", " ");
}

std::string capitalised(const std::string& text) {
  if (text.empty()) return text;
  const size_t bytes = decode_utf8(text, 0).bytes;
  const std::string first = text.substr(0, bytes);
  const bool ascii = bytes == 1 && first[0] >= 'a' && first[0] <= 'z';
  return (ascii ? std::string{static_cast<char>(first[0] - 'a' + 'A')} : first) +
         lower_case(text.substr(bytes));
}

}  // namespace

Json hellaswag_query(const RawScope& scope, std::string_view) {
  const Json query = find_raw(scope, "query");
  if (query.is_string()) return query;
  return wikihow(text_of(scope, "activity_label") + ": " + text_of(scope, "ctx_a") + " " +
                 capitalised(text_of(scope, "ctx_b")));
}

Json hellaswag_context(const RawScope& scope, std::string_view from) {
  const std::string query = hellaswag_query(scope, from).get<std::string>();
  const size_t at = query.find(": ");
  return at == std::string::npos ? query : query.substr(at + 2);
}

Json hellaswag_endings(const RawScope& scope, std::string_view) {
  const bool ready = find_raw(scope, "query").is_string();
  std::vector<std::string> endings = texts_of(scope, ready ? "choices" : "endings");
  if (endings.size() != 4) fail(scope, "field endings: wrong count" + expected_got(4, endings.size()));
  for (std::string& ending : endings) ending = ready ? ending : wikihow(ending);
  return endings;
}

Json hellaswag_ending(const RawScope& scope, std::string_view from) {
  return hellaswag_endings(scope, {})[static_cast<size_t>(from[0] - '0')];
}

namespace {

struct Gap {
  std::string before, option, after;
};

Gap gap_of(const RawScope& scope, std::string_view from) {
  const auto parts = parts_of(from, ';');
  const std::string sentence = text_of(scope, parts[0]);
  const size_t at = sentence.find('_');
  if (at == std::string::npos) fail(scope, fmt::format("field {}: no gap (_)", parts[0]));
  return {sentence.substr(0, at), parts.size() > 1 ? text_of(scope, parts[1]) : "", sentence.substr(at + 1)};
}

}  // namespace

Json gap_filled(const RawScope& scope, std::string_view from) {
  const Gap gap = gap_of(scope, from);
  return gap.before + gap.option + replace_all(gap.after, "_", gap.option);
}

Json gap_before(const RawScope& scope, std::string_view from) {
  const Gap gap = gap_of(scope, from);
  return gap.before + gap.option;
}

Json gap_after(const RawScope& scope, std::string_view from) { return strip(gap_of(scope, from).after); }

Json tsv_choices(const RawScope& scope, std::string_view from) {
  const std::string text = text_of(scope, from);
  Json all = Json::array();
  size_t at = text.find("(A)");
  for (char letter = 'A'; at != std::string::npos; ++letter) {
    const std::string next = {'(', static_cast<char>(letter + 1), ')'};
    const size_t begin = at + 3;
    at = text.find(next, begin);
    all.push_back(strip(text.substr(begin, at == std::string::npos ? at : at - begin)));
  }
  if (all.size() < 2) fail(scope, fmt::format("field {}: no choices (expected \"(A) ... (B) ...\")", from));
  return all;
}

}  // namespace columns

}  // namespace eep
