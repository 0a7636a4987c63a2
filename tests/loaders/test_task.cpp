// Task files and their items: fields, placeholders, targets, protocols, and every mistake with its place.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "loaders/tasks/known_tasks.h"
#include "loaders/tasks/task.h"
#include "tests/loaders/scratch.h"

using namespace eep;

namespace {

const std::string kChoice =
    "name: q\nkind: multiple_choice\ndata: {train: train.jsonl}\n"
    "prompt: \"{passage}\\nQuestion: {question}?\\nAnswer:\"\n"
    "choices: [\" no\", \" yes\"]\ntarget: label\nmetric: acc\n";
const std::string kGenerate =
    "name: g\nkind: generate\ndata: {train: train.jsonl}\nprompt: \"{letters}:\"\ntarget: answer\n"
    "metric: exact_match\ngenerate: {max_new: 5, stop: [\"\\n\"], extract: none}\n";

// The items of a task file whose only split holds `rows`.
std::vector<Item> items_of(const std::string& yaml, const std::string& rows,
                           const std::string& protocol = "harness", int64_t limit = 0) {
  const Scratch scratch;
  scratch.write("train.jsonl", rows);
  return load_items(load_task(scratch.write("task.yaml", yaml), protocol), "train", limit);
}

}  // namespace

TEST_CASE("task: a multiple-choice task and its items") {
  const std::vector<Item> items =
      items_of(kChoice,
               "{\"passage\": \"P {x}\", \"question\": 7, \"label\": 1}\n\n"
               "{\"passage\": \"Größe\", \"question\": \"b\", \"label\": false}\r\n"
               "{\"passage\": \"\", \"question\": \"c\", \"label\": \"yes\"}\n"
               "{\"passage\": \"\", \"question\": \"d\", \"label\": \"true\"}\n"
               "{\"passage\": \"\", \"question\": 0.10, \"label\": \"no\"}");
  REQUIRE(items.size() == 5);
  CHECK(items[0].prompt == "P {x}\nQuestion: 7?\nAnswer:");
  CHECK(items[0].choices == std::vector<std::string>{" no", " yes"});
  CHECK(items[0].label == 1);
  CHECK(items[0].where.ends_with("train.jsonl:1"));
  CHECK(items[1].label == 0);
  CHECK(items[1].where.ends_with("train.jsonl:3"));  // blank lines count
  CHECK(items[2].label == 1);
  CHECK(items[3].label == 1);
  CHECK(items[4].label == 0);
  CHECK(items[4].prompt == "\nQuestion: 0.10?\nAnswer:");  // as it is written
}

TEST_CASE("task: choices and references out of the data") {
  std::string yaml = kChoice;
  yaml.replace(yaml.find("choices: [\" no\", \" yes\"]"), 24, "choices_from: options");
  const auto items = items_of(yaml,
                              "{\"passage\": \"p\", \"question\": \"q\", \"options\": [\"a\", \"b\", "
                              "\"c\"], \"label\": 2}\n");
  CHECK(items[0].choices == std::vector<std::string>{"a", "b", "c"});
  CHECK(items[0].label == 2);

  CHECK(items_of(kGenerate, "{\"letters\": \"a\", \"answer\": [\"x\", 14.5]}\n")[0].references ==
        std::vector<std::string>{"x", "14.5"});
  CHECK(items_of(kGenerate, "{\"letters\": \"a\", \"answer\": 18}\n")[0].references ==
        std::vector<std::string>{"18"});
  // An index into the choices is an answer as well: one data file serves both kinds.
  const std::string both = kChoice +
                           "protocols: {eep: {kind: generate, choices: [\"B\", \"A\"], metric: exact_match, "
                           "prompt: \"{question}{{A}}\", generate: {extract: first_capital}}}\n";
  const auto asked = items_of(both, "{\"passage\": \"p\", \"question\": \"q\", \"label\": 1}\n", "eep");
  CHECK(asked[0].references == std::vector<std::string>{"A"});
  CHECK(asked[0].prompt == "q{A}");
  CHECK(items_of(both, "{\"passage\": \"p\", \"question\": \"q\", \"label\": true}\n")[0].label == 1);
  check_error(ExitCode::kData, "a boolean that no choice names", [&] {  // B or A?
    items_of(both, "{\"passage\": \"p\", \"question\": \"q\", \"label\": true}\n", "eep");
  });
}

TEST_CASE("task: limits, hashes, files elsewhere") {
  const std::string rows =
      "{\"letters\": \"a\", \"answer\": \"1\"}\n{\"letters\": \"b\", \"answer\": \"2\"}\nbroken\n";
  const auto first = items_of(kGenerate, rows, "harness", 2);
  CHECK(first.size() == 2);  // what lies behind the limit is not read
  CHECK(items_hash(first) == items_hash(items_of(kGenerate, rows, "harness", 2)));
  CHECK(items_hash(first) != items_hash(items_of(kGenerate, rows, "harness", 1)));

  const Scratch scratch;
  scratch.write("elsewhere/train.jsonl", "{\"letters\": \"a\", \"answer\": \"1\"}\n");
  const Task task = load_task(scratch.write("task.yaml", kGenerate));
  ::unsetenv("EEP_DATA");
  check_error(ExitCode::kNoInput, "no such data file", [&] { load_items(task, "train"); });
  ::setenv("EEP_DATA", scratch.path("elsewhere").c_str(), 1);
  CHECK(load_items(task, "train").size() == 1);
  ::unsetenv("EEP_DATA");
  check_error(ExitCode::kUsage, "no such split (expected one of train)", [&] { load_items(task, "dev"); });
  check_error(ExitCode::kNoInput, "none.yaml", [&] { load_task(scratch.path("none.yaml")); });
}

TEST_CASE("task: mistakes in the task file are named with their place") {
  const auto refuse = [](const std::string& text, const std::string& part) {
    CAPTURE(text);
    check_error(ExitCode::kData, part, [&] { parse_task(text, "t.yaml", "harness"); });
  };
  const auto with = [](std::string text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  refuse(kChoice + "metrix: acc\n", "t.yaml:8:1: unknown key metrix");
  refuse(kChoice + "name: r\n", "t.yaml:8:1: duplicate key name");
  refuse(with(kChoice, "target: label\n", ""), "target is missing");
  refuse(with(kChoice, "metric: acc", "metric: accuracy"), "metric: unknown value");
  refuse(with(kChoice, "metric: acc", "metric: f1"),
         "a multiple_choice task is scored by acc, acc_norm, acc_bytes or macro_f1");
  refuse(with(kChoice, "metric: acc", "metric: macro_f1"), "macro_f1 is of all items together");
  CHECK(
      parse_task(with(kChoice, "metric: acc", "metrics: [acc, macro_f1]"), "t.yaml", "harness").more.size() ==
      1);
  refuse(with(kGenerate, "exact_match", "acc"),
         "acc, acc_norm, acc_bytes and macro_f1 are for multiple_choice tasks");
  refuse(with(kChoice, "choices: [\" no\", \" yes\"]\n", ""), "exactly one of choices and choices_from");
  refuse(kChoice + "choices_from: c\n", "exactly one of choices and choices_from");
  refuse(with(kChoice, "{train: train.jsonl}", "{}"), "data: no splits");
  refuse(with(kChoice, "{question}", "{question"), "t.yaml:4:9: prompt: { without }");
  refuse(with(kChoice, "{question}", "question}"), "prompt: } without {");
  refuse(with(kChoice, "{question}", "{}"), "prompt: {} names no field");
  refuse(with(kGenerate, "max_new: 5", "max_new: 0"), "generate.max_new: wrong value");
  refuse(with(kGenerate, "[\"\\n\"]", "[\"\"]"), "a stop string is empty");
  refuse(with(kGenerate, "extract: none", "extract: first_option(ab)"), "generate.extract: wrong value");
  refuse(kChoice + "protocols: {epp: {metric: acc}}\n", "unknown key protocols.epp");
  refuse(kChoice + "protocols: {eep: {name: x}}\n", "unknown key protocols.eep.name");
  refuse(kChoice + "protocols: {eep: {metric: x}}\n", "protocols.eep.metric: unknown value");
  check_error(ExitCode::kConfig, "does not say how it is asked under protocol eep",
              [&] { parse_task(kChoice, "t.yaml", "eep"); });
}

TEST_CASE("task: mistakes in the data are named with file and line") {
  const auto refuse = [](const std::string& yaml, const std::string& rows, const std::string& part) {
    CAPTURE(rows);
    check_error(ExitCode::kData, part, [&] { items_of(yaml, rows); });
  };
  const std::string good = "{\"letters\": \"a\", \"answer\": \"1\"}\n";
  refuse(kGenerate, "", "train.jsonl: no items");
  refuse(kGenerate, "\n \n", "train.jsonl: no items");
  refuse(kGenerate, good + "{\"letters\": \"a\"}\n", "train.jsonl:2: field answer is missing");
  refuse(kGenerate, good + "{\"answer\": \"a\"}\n", "train.jsonl:2: field letters is missing");
  refuse(kGenerate, good + "{\"letters\": [], \"answer\": \"a\"}\n",
         "train.jsonl:2: field letters: wrong type");
  refuse(kGenerate, good + "{\"letters\": \"a\", \"answer\": []}\n", "no accepted answer");
  refuse(kGenerate, good + "{\"letters\": \"a\", \"answer\": [null]}\n", "neither text nor a number");
  refuse(kGenerate, good + "{\"letters\": \"a\", \"answer\": null}\n", "field answer: wrong type");
  refuse(kGenerate, good + "{\"letters\": \"a\",\n", "train.jsonl:2:");
  refuse(kGenerate, good + "[1]\n", "train.jsonl:2: not an object (expected one JSON object a line");
  refuse(kGenerate, "[" + good + "]", "train.jsonl:1: a JSON array where one JSON object a line is expected");
  refuse(kGenerate, "[\n{\n", "train.jsonl:1: a JSON array");
  refuse(kGenerate, "{\n\"letters\": 1}\n", "train.jsonl:1: a JSON object over several lines");
  refuse(kGenerate, good + "{\"letters\": \"a\", \"letters\": \"b\", \"answer\": \"1\"}\n", "train.jsonl:2:");
  const auto labelled = [](const std::string& label) {
    return "{\"passage\": \"p\", \"question\": \"q\", \"label\": " + label + "}\n";
  };
  for (const char* label : {"\"2\"", "\"0\""}) {
    refuse(kChoice, labelled(label), "train.jsonl:1: field label: ambiguous: a numeral in quotes");
  }
  for (const char* label : {"2", "-1", "0.5", "\"maybe\"", "null", "[2]", "[[0]]", "18446744073709551616",
                            "\"99999999999999999999\""}) {
    refuse(kChoice, labelled(label), "train.jsonl:1: field label: no such choice (expected 0..1");
  }
  std::string filled = kChoice;
  filled.replace(filled.find("choices: [\" no\", \" yes\"]"), 24, "choices: [\" no\", \" {passage}\"]");
  refuse(filled, labelled("0"),
         "choices: fields are not filled in there (got \" {passage}\", and the item has passage)");
  std::string braces = kChoice;  // of something else
  braces.replace(braces.find("choices: [\" no\", \" yes\"]"), 24, "choices: [\" {x}\", \" {\"]");
  CHECK(items_of(braces, labelled("0")).size() == 1);
  std::string from = kChoice;
  from.replace(from.find("choices: [\" no\", \" yes\"]"), 24, "choices_from: options");
  const auto options = [](const std::string& list) {
    return "{\"passage\": \"p\", \"question\": \"q\", \"label\": 0, \"options\": " + list + "}\n";
  };
  refuse(from, labelled("0"), "field options is missing");
  refuse(from, options("3"), "field options: not a list");
  refuse(from, options("[\"a\"]"), "too few choices");
  refuse(from, options("[\"a\", \"\"]"), "a choice is empty");
  refuse(from, options("[\"a\", 1]"), "a choice is not text");
  refuse(from, options("[\"a\", \"b\", \"a\"]"), "choices 0 and 2 are equal");
  CHECK(items_of(from, options("[\"a\", \"b\", \"b\"]"))[0].label == 0);  // two wrong ones
  std::string lenient = kGenerate;
  lenient.replace(lenient.find("exact_match"), 11, "em_contains");
  refuse(lenient, "{\"letters\": \"a\", \"answer\": \"The\"}\n", "nothing is left of the answer \"The\"");
  const std::string ignoring = std::string(kGenerate) + "ignore: [\"[0-9]+\"]\n";
  refuse(ignoring, "{\"letters\": \"a\", \"answer\": \"12\"}\n", "nothing is left of the answer \"12\"");
  CHECK(items_of(ignoring, "{\"letters\": \"a\", \"answer\": \"12 x\"}\n").size() == 1);
  const auto extracting = [](const std::string& metric, const std::string& rule) {
    std::string text = kGenerate;
    text.replace(text.find("exact_match"), 11, metric);
    text.replace(text.find("none"), 4, rule);
    return text;
  };
  const auto answer = [](const std::string& given) {
    return "{\"letters\": \"a\", \"answer\": " + given + "}\n";
  };
  refuse(extracting("number_equal", "last_number"), answer("\"1/2\""), "(expected a number, got \"1/2\")");
  refuse(extracting("exact_match", "first_capital"), answer("\"b\""),
         "(expected one capital letter, got \"b\")");
  refuse(extracting("exact_match", "first_option(AB)"), answer("[\"C\", \"\u0436\"]"),
         "(expected one of the letters AB, got \"C\")");
}

TEST_CASE("task: a target means what its reader thinks: by label, by text, by index, or nothing") {
  std::string from = kChoice;
  from.replace(from.find("choices: [\" no\", \" yes\"]"), 24, "choices_from: o");
  const auto label = [&](const std::string& choices, const std::string& target,
                         const std::string& more = "") {
    return items_of(from + more, "{\"passage\": \"p\", \"question\": \"q\", \"o\": " + choices +
                                     ", \"label\": " + target + "}\n")[0]
        .label;
  };
  const std::string four = R"([" a", " b", " c", " d"])", numbers = R"(["3", "1", "2", "0"])";
  CHECK(label(four, "\"4\"", "labels: [\"1\", \"2\", \"3\", \"4\"]\n") == 3);
  CHECK(label(four, "4", "labels: [\"1\", \"2\", \"3\", \"4\"]\n") == 3);
  CHECK(label(four, "\"C\"", "labels: [A, B, C, D]\n") == 2);
  CHECK(label(numbers, "\"1\"", "labels: [\"1\", \"2\", \"3\", \"4\"]\n") == 0);
  CHECK(label(numbers, "\"1\"") == 1);
  CHECK(label(numbers, "1") == 1);
  CHECK(label(four, "1") == 1);
  CHECK(label(R"([" yes", " no"])", "true") == 0);
  CHECK(label(R"(["False", "True"])", "true") == 1);
  const auto refuse = [&](const std::string& choices, const std::string& target, const std::string& part,
                          const std::string& more = "") {
    CAPTURE(target);
    check_error(ExitCode::kData, part, [&] { label(choices, target, more); });
  };
  refuse(four, "\"1\"", "ambiguous: a numeral in quotes");
  refuse(numbers, "0", "ambiguous: 0 is the text of choice 3 and the index of another");
  refuse(R"([" a", " b"])", "true", "ambiguous: a boolean that no choice names");
  refuse(R"([" a", "a"])", "\"a \"", "ambiguous: 2 choices have the text");
  refuse(four, "\"E\"", "no such label (expected one of A, B, C, D, got \"E\")", "labels: [A, B, C, D]\n");
  refuse(R"([" a", " b"])", "\"C\"", "no such label (expected one of A, B, got \"C\")",
         "labels: [A, B, C, D]\n");
}

TEST_CASE("task: examples stand before the question, never the question itself") {
  const Scratch scratch;
  std::string yaml = kChoice + "description: \"D.\\n\"\nnum_fewshot: 2\nfewshot_split: train\n";
  std::string rows;
  for (const char* q : {"a", "b", "c", "d"})
    rows += std::string("{\"passage\": \"\", \"question\": \"") + q + "\", \"label\": 1}\n";
  const auto items = items_of(yaml, rows);
  const auto asked = [](const std::string& q) { return "\nQuestion: " + q + "?\nAnswer:"; };
  CHECK(items[2].prompt == "D.\n" + asked("a") + " yes\n\n" + asked("b") + " yes\n\n" + asked("c"));
  CHECK(items[0].prompt == "D.\n" + asked("b") + " yes\n\n" + asked("c") + " yes\n\n" + asked("a"));
  const auto drawn = items_of(yaml + "fewshot_sampler: random\nfewshot_delimiter: \"#\"\n", rows);
  CHECK(drawn[0].prompt ==
        items_of(yaml + "fewshot_sampler: random\nfewshot_delimiter: \"#\"\n", rows)[0].prompt);
  for (const Item& item : drawn) CHECK(std::count(item.prompt.begin(), item.prompt.end(), '#') == 2);
  check_error(ExitCode::kData, "too few examples in split train (expected 2, got 1)",
              [&] { items_of(yaml, rows.substr(0, 2 * rows.find('\n') + 2)); });
  check_error(ExitCode::kData, "fewshot_split is not one of the task's splits",
              [&] { parse_task(kChoice + "num_fewshot: 1\n", "t.yaml", "harness"); });
  CHECK(items_of(kChoice + "target_delimiter: \"\\n\"\n", rows)[0].choices[1] == "\n yes");
}

TEST_CASE("task: a prompt in the model's chat template, the description as the system's message") {
  const Scratch scratch;
  scratch.write("train.jsonl", R"({"q": "a", "label": 1})");
  const std::string yaml =
      "name: q\nkind: multiple_choice\ndata: {train: train.jsonl}\nprompt: \"{q}?\"\nchoices: [no, yes]\n"
      "target: label\nmetric: acc\ntarget_delimiter: \" \"\n";
  const std::string chat = "description: Be brief.\nchat_template: true\nchat_set: {think: false}\n";
  Task task = load_task(scratch.write("task.yaml", yaml + chat));
  CHECK(load_items(task, "train")[0].prompt == "Be brief.a?");  // without a model: as it stands
  check_error(ExitCode::kUsage, "task.yaml: chat_template: no chat template in the files of",
              [&] { use_chat_template(&task, scratch.path()); });
  scratch.write(
      "chat_template.jinja",
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>{{ think is false }}");
  use_chat_template(&task, scratch.path());
  const Item item = load_items(task, "train")[0];
  CHECK(item.prompt == "<system>Be brief.<user>a?<assistant>True");
  CHECK(item.choices == std::vector<std::string>{"no", "yes"});  // no delimiter behind a template
  scratch.write("chat_template.jinja", "{{ raise_exception('no system') }}");
  use_chat_template(&task, scratch.path());
  check_error(ExitCode::kData, "train.jsonl:1: chat template: no system", [&] { load_items(task, "train"); });
  check_error(ExitCode::kData, "chat_template: true",
              [&] { load_task(scratch.write("task.yaml", yaml + "chat_set: {think: false}\n")); });
  check_error(ExitCode::kData, "may be set", [&] {
    load_task(scratch.write("task.yaml", yaml + "chat_template: true\nchat_set: {messages: 1}\n"));
  });
}

TEST_CASE("task: one continuation behind a prompt for every choice") {
  const std::string yaml =
      "name: w\nkind: multiple_choice\ndata: {train: train.jsonl}\nprompts: [\"{s} {o1}\", \"{s} {o2}\"]\n"
      "continuation: \" {rest}\"\nlabels: [\"1\", \"2\"]\ntarget: answer\nmetric: acc\n";
  const auto items = items_of(yaml, R"({"s": "S", "o1": "a", "o2": "b", "rest": "r.", "answer": "2"})"
                                    "\n");
  CHECK(items[0].choices == std::vector<std::string>{"S a", "S b"});
  CHECK(items[0].prompt == " r.");
  CHECK(items[0].label == 1);
  const auto refuse = [](const std::string& text, const std::string& part) {
    check_error(ExitCode::kData, part, [&] { parse_task(text, "t.yaml", "harness"); });
  };
  refuse(yaml + "prompt: \"x\"\n", "in place of prompt and choices");
  refuse(kChoice + "continuation: \"x\"\n", "prompts and continuation belong together");
  refuse(kChoice + "labels: [a, b, c]\n", "labels: one a choice (expected 2, got 3)");
  refuse(kChoice + "labels: [a, a]\n", "the same label twice");
  refuse(kChoice + "ignore: [a]\n", "is for the metric exact_match");
  std::string regex = kGenerate;
  regex.replace(regex.find("extract: none"), 13, "extract: {regex: \"a(\", group: last}");
  refuse(regex, "generate.extract.regex: malformed regular expression: a ( without its ) at character 2");
}

TEST_CASE("task: several metrics, the first is the task's") {
  const std::string base = kGenerate.substr(0, kGenerate.find("metric: exact_match"));
  const Task task =
      parse_task(base +
                     "ignore: [',']\nmetrics:\n  - {name: strict, metric: exact_match, extract: {regex: "
                     "'#### (\\d+)'}}\n  - {name: flexible, metric: exact_match, extract: "
                     "last_number}\n  - f1\n",
                 "t.yaml", "harness");
  CHECK(task.metric == Metric::kExactMatch);
  CHECK(task.metric_as == "strict");
  CHECK(task.extract.kind == ExtractKind::kRegex);
  CHECK(task.extract.ignore.size() == 1);
  REQUIRE(task.more.size() == 2);
  CHECK(task.more[0].name == "flexible");
  CHECK(task.more[0].extract.kind == ExtractKind::kLastNumber);
  CHECK(task.more[1].name == "f1");
  CHECK(task.more[1].extract.ignore.empty());
  const auto refuse = [&](const std::string& text, const std::string& part) {
    check_error(ExitCode::kData, part, [&] { parse_task(base + text, "t.yaml", "harness"); });
  };
  refuse("metrics: []\n", "no metric (expected at least 1)");
  refuse("metrics: [f1, f1]\n", "two metrics of the same name (f1)");
  refuse("metric: f1\nmetrics: [f1]\n", "stands in place of metric");
  refuse("metrics: [f1, acc]\n", "acc, acc_norm, acc_bytes and macro_f1 are for multiple_choice tasks");
  refuse("metrics: [{name: a}]\n", "metric");
  refuse("", "metric");
}

TEST_CASE("task: only items that are asked for, examples of the same kind, several right choices") {
  const std::string yaml =
      "name: t\nkind: multiple_choice\ndata: {train: train.jsonl}\ndescription: \"On {kind}.\\n\"\n"
      "prompt: \"{q}\"\ntarget_delimiter: \" \"\nchoices: [x, y, z]\ntarget: right\nmetrics: [acc, "
      "acc_norm]\n"
      "num_fewshot: 1\nfewshot_split: train\nfewshot_by: kind\n";
  std::string rows;
  for (const char* kind : {"a", "b", "a", "b"})
    rows += std::string(R"({"kind": ")") + kind + R"(", "n": 4, "q": ")" + kind +
            std::to_string(rows.size() / 10) +
            R"(", "right": [2, 1]})"
            "\n";
  const auto items = items_of(yaml, rows);
  CHECK(items[1].prompt == "On b.\nb15 z\n\nb5");
  CHECK(items[1].label == 2);
  CHECK(items[1].also == std::vector<int32_t>{1});
  CHECK(items_of(yaml + "only: {kind: b, n: [4, 5]}\n", rows).size() == 2);
  check_error(ExitCode::kData, "no items", [&] { items_of(yaml + "only: {kind: c}\n", rows); });
  check_error(ExitCode::kData, "field m is missing", [&] { items_of(yaml + "only: {m: c}\n", rows); });
  std::string two = rows;
  two.replace(two.find("\"kind\": \"b\""), 11, "\"kind\": \"c\"");
  check_error(ExitCode::kData, "too few examples in split train of kind c (expected 1, got 0)",
              [&] { items_of(yaml, two); });
}

TEST_CASE("task: the tasks of the project load, and no item is in two splits") {
  const std::string directory = std::string(EEP_SOURCE_DIR) + "/experiments/tasks";
  size_t tasks = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".yaml") continue;
    CAPTURE(entry.path().string());
    const Task task = load_task(entry.path().string());
    CHECK(task.name == entry.path().stem().string());
    const auto known = known_tasks();
    if (std::any_of(known.begin(), known.end(), [&](const KnownTask& one) { return one.name == task.name; }))
      continue;  // its data are downloads: tests/loaders/test_import.cpp
    std::set<std::string> prompts;
    size_t count = 0;
    for (const auto& [split, path] : task.data) {
      std::set<std::string> own;
      for (const Item& item : load_items(task, split)) own.insert(item.prompt);
      count += own.size();
      prompts.insert(own.begin(), own.end());
    }
    CHECK(prompts.size() == count);
    if (task.data.count("test") != 0) CHECK(load_items(task, "test").size() >= 500);
    ++tasks;
  }
  CHECK(tasks >= 8);
}
