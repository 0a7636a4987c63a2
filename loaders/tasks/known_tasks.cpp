#include "loaders/tasks/known_tasks.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/common/error.h"
#include "loaders/formats/yaml.h"

namespace eep {
namespace {

using namespace columns;

constexpr RawLayout kLines = RawLayout::kJsonLines;
constexpr const char* kTwo = "train.jsonl val.jsonl";

// The subjects that the paper leaves for "unseen" (its Table 4).
constexpr const char* kUnseen =
    "subject=electrical engineering;professional accounting;high school macroeconomics;"
    "high school computer science;business ethics;miscellaneous;high school psychology";

const std::vector<std::string_view> kMmluCells{"question", "A", "B", "C", "D", "answer"};

std::vector<RawColumn> mmlu_columns() {
  return {{"subject", "", subject}, {"question", "question", stripped},
          {"A", "A", copy},         {"B", "B", copy},
          {"C", "C", copy},         {"D", "D", copy},
          {"label", "answer", copy}};
}

std::vector<RawColumn> arc_columns() {
  const std::string_view texts = "question.choices[].text|choices.text";
  return {{"question", "question.stem|question", copy},
          {"choices", texts, copy},
          {"label", "question.choices[].label|choices.label;answerKey", position},
          {"A", "question.choices[].text|choices.text;0", option},
          {"B", "question.choices[].text|choices.text;1", option},
          {"C", "question.choices[].text|choices.text;2", option},
          {"D", "question.choices[].text|choices.text;3", option},
          {"options", texts,
           [](const RawScope& scope, std::string_view from) { return Json(raw_field(scope, from).size()); }}};
}

std::vector<RawColumn> openbookqa_columns() {
  const std::string_view tsv = "Choices";
  // JSON Lines or TSV: the list of choices, whatever it is called.
  static constexpr auto choices_of = [](const RawScope& scope) {
    const Json list = find_raw(scope, "question.choices[].text|choices.text");
    return list.is_array() ? list : tsv_choices(scope, "Choices");
  };
  constexpr MakeColumn letter = [](const RawScope& scope, std::string_view from) {
    const Json list = choices_of(scope);
    return list.size() == 4 ? list[static_cast<size_t>(from[0] - '0')] : Json();
  };
  return {{"question", "question.stem|question_stem|Question Stem", copy},
          {"choices", tsv, [](const RawScope& scope, std::string_view) { return choices_of(scope); }},
          {"label", "answerKey|Answer Key", stripped},
          {"fact", "fact1", optional},
          {"A", "0", letter},
          {"B", "1", letter},
          {"C", "2", letter},
          {"D", "3", letter}};
}

std::vector<SplitRule> mmlu_rules() {
  return {{"val", "", {{"fewshot"}}},  // the files are called dev
          {"test", "", {{"test"}}}};
}

std::vector<SplitRule> mmlu_paper_rules() {
  return {{"val", "", {{"fewshot"}}},
          {"test", "", {{"ood"}}, kUnseen},
          {"test", "", {{"train", 30}, {"dev", 10}, {"test", 60}}}};
}

const std::vector<KnownTask>& table() {
  static const std::vector<KnownTask> kTable{
      {.name = "boolq",
       .words = "yes or no, on a passage (SuperGLUE)",
       .files = kTwo,
       .layouts = {kLines},
       .columns = {{"passage", "passage", copy},
                   {"question", "question", copy},
                   {"label", "label|answer", truth}},
       .group = "passage",
       .published = {{"train", 9427}, {"val", 3270}}},
      {.name = "cb",
       .words = "entailment, contradiction or neutral (SuperGLUE)",
       .files = kTwo,
       .layouts = {kLines},
       .columns = {{"premise", "premise", copy},
                   {"hypothesis", "hypothesis", copy},
                   {"label", "label", copy}},
       .group = "premise",
       .published = {{"train", 250}, {"val", 56}}},
      {.name = "copa",
       .words = "cause or effect (SuperGLUE)",
       .files = kTwo,
       .layouts = {kLines},
       .columns = {{"premise", "premise", copy},
                   {"question", "question", copy},
                   {"choice1", "choice1", copy},
                   {"choice2", "choice2", copy},
                   {"label", "label", whole},
                   {"start", "premise;question", copa_start},
                   {"continuations", "choice1;choice2", copa_continuations}},
       .published = {{"train", 400}, {"val", 100}}},
      {.name = "multirc",
       .words = "is this answer right, on a passage (SuperGLUE)",
       .files = kTwo,
       .layouts = {kLines},
       .rows = "passage.questions[].answers[]",
       .columns = {{"passage", "/passage.text", copy},
                   {"question", "../question", copy},
                   {"answer", "text", copy},
                   {"label", "label", whole},
                   {"verdicts", "text", multirc_verdicts}},
       .group = "passage",
       .published = {{"train", 27243}, {"val", 4848}}},
      {.name = "record",
       .words = "which entity fills the gap (SuperGLUE)",
       .files = kTwo,
       .layouts = {kLines},
       .rows = "qas[]",
       .columns = {{"passage", "/passage.text", record_passage},
                   {"query", "query", record_query},
                   {"answers", "answers[].text", copy},
                   {"context", "/passage.text", record_context},
                   {"candidates", "query", record_candidates},
                   {"right", "answers[].text", record_right}},
       .group = "passage",
       .published = {{"train", 100730}, {"val", 10000}}},
      {.name = "rte",
       .words = "entailed or not (SuperGLUE)",
       .files = kTwo,
       .layouts = {kLines},
       .columns = {{"premise", "premise|sentence1", copy},
                   {"hypothesis", "hypothesis|sentence2", copy},
                   {"label", "label", copy}},
       .published = {{"train", 2490}, {"val", 277}}},
      {.name = "wic",
       .words = "one word in two sentences: the same sense (SuperGLUE)",
       .files = kTwo,
       .layouts = {kLines},
       .columns = {{"word", "word", copy},
                   {"sentence1", "sentence1", copy},
                   {"sentence2", "sentence2", copy},
                   {"word1", "sentence1;start1;end1", slice},
                   {"label", "label", truth}},
       .published = {{"train", 5428}, {"val", 638}, {"val", 500}}},
      {.name = "wsc",
       .words = "what a pronoun refers to (SuperGLUE)",
       .files = kTwo,
       .layouts = {kLines},
       .columns = {{"marked", "text", wsc_marked},
                   {"passage", "text", wsc_passage},
                   {"span1", "target.span1_text", copy},
                   {"span2", "target.span2_text", copy},
                   {"label", "label", truth}},
       .published = {{"train", 554}, {"val", 104}}},
      {.name = "squad2",
       .words = "answers out of a passage, or none (SQuAD 2.0)",
       .files = "train-v2.0.json dev-v2.0.json",
       .layouts = {RawLayout::kSquad},
       .rows = "paragraphs[].qas[]",
       .columns = {{"title", "/title", copy},
                   {"context", "../context", copy},
                   {"question", "question", copy},
                   {"references", "", squad_references},
                   {"answers", "answers[].text", squad_answers}},
       .group = "context",
       .index_begin = 5937,
       .index_end = 7916,
       .published = {{"train", 130319}, {"val", 11873}}},
      {.name = "drop",
       .words = "arithmetic and reading on a passage (DROP)",
       .files = "drop_dataset_train.json drop_dataset_dev.json",
       .layouts = {RawLayout::kDrop},
       .rows = "qa_pairs[]",
       .columns = {{"passage", "/passage", copy},
                   {"question", "question", copy},
                   {"references", "", drop_references},
                   {"answers", "", drop_answers},
                   {"number", "", drop_has_number}},
       .group = "passage",
       .indexed = "number",
       .index_end = 1529},
      {.name = "gsm8k",
       .words = "school mathematics (GSM8K)",
       .files = "train.jsonl test.jsonl",
       .layouts = {kLines},
       .columns = {{"question", "question", copy},
                   {"answer", "answer", copy},
                   {"final", "answer", final_number}},
       .published = {{"train", 7473}, {"test", 1319}}},
      {.name = "mmlu",
       .words = "57 subjects, four options",
       .files = "the folders dev and test, or their CSV files",
       .layouts = {RawLayout::kCsv},
       .columns = mmlu_columns(),
       .csv_columns = kMmluCells,
       .rules = mmlu_rules(),
       .published = {{"val", 285}, {"test", 14042}}},
      {.name = "mmlu_paper",
       .words = "MMLU as the paper parts it: 50 subjects for the search, 7 unseen",
       .files = "the folders dev and test, or their CSV files",
       .layouts = {RawLayout::kCsv},
       .columns = mmlu_columns(),
       .csv_columns = kMmluCells,
       .rules = mmlu_paper_rules(),
       .published = {{"val", 285}, {"test", 14042}}},
      {.name = "arc_easy",
       .words = "grade-school science, easy (ARC)",
       .files = "ARC-Easy-{Train,Dev,Test}.jsonl",
       .layouts = {kLines},
       .columns = arc_columns(),
       .published = {{"train", 2251}, {"val", 570}, {"test", 2376}}},
      {.name = "arc_challenge",
       .words = "grade-school science, hard (ARC)",
       .files = "ARC-Challenge-{Train,Dev,Test}.jsonl",
       .layouts = {kLines},
       .columns = arc_columns(),
       .published = {{"train", 1119}, {"val", 299}, {"test", 1172}}},
      {.name = "hellaswag",
       .words = "which ending makes sense (HellaSwag)",
       .files = "hellaswag_train.jsonl hellaswag_val.jsonl",
       .layouts = {kLines},
       .columns = {{"query", "", hellaswag_query},
                   {"context", "", hellaswag_context},
                   {"endings", "", hellaswag_endings},
                   {"A", "0", hellaswag_ending},
                   {"B", "1", hellaswag_ending},
                   {"C", "2", hellaswag_ending},
                   {"D", "3", hellaswag_ending},
                   {"label", "label|gold", whole}},
       .group = "context",
       .published = {{"train", 39905}, {"val", 10042}}},
      {.name = "openbookqa",
       .words = "science, with a fact (OpenBookQA)",
       .files = "train, dev and test as JSON Lines or TSV",
       .layouts = {kLines, RawLayout::kTsv},
       .columns = openbookqa_columns(),
       .published = {{"train", 4957}, {"val", 500}, {"test", 500}}},
      {.name = "winogrande",
       .words = "which of two fills the gap (WinoGrande)",
       .files = "train_xl.jsonl dev.jsonl",
       .layouts = {kLines},
       .columns = {{"option1", "sentence;option1", gap_filled},
                   {"option2", "sentence;option2", gap_filled},
                   {"before1", "sentence;option1", gap_before},
                   {"before2", "sentence;option2", gap_before},
                   {"after", "sentence", gap_after},
                   {"label", "answer", copy}},
       .published = {{"train", 40398}, {"val", 1267}}},
      {.name = "piqa",
       .words = "how things are done (PIQA)",
       .files = "train.jsonl train-labels.lst valid.jsonl valid-labels.lst",
       .layouts = {kLines},
       .columns = {{"goal", "goal", copy}, {"choices", "sol1;sol2", list}, {"label", "label", whole}},
       .labels = "-labels.lst",
       .published = {{"train", 16113}, {"val", 1838}}},
  };
  return kTable;
}

}  // namespace

std::span<const KnownTask> known_tasks() { return table(); }

const KnownTask& find_known_task(std::string_view name) {
  std::vector<std::string> names;
  for (const KnownTask& task : known_tasks()) {
    if (task.name == name) return task;
    names.emplace_back(task.name);
  }
  const std::string near = nearest(name, names);
  throw Error(ExitCode::kUsage, "task " + std::string(name),
              fmt::format("unknown (expected one of {}{})", fmt::join(names, ", "),
                          near.empty() ? "" : "; did you mean " + near + "?"));
}

std::span<const SplitRule> split_rules(const KnownTask& task) {
  static const std::vector<SplitRule> kUsual{
      {"train", "val+test", {{"train"}}},
      {"val", "train+test", {{"dev"}}},
      {"train", "val|test", {{"train", 90}, {"dev", 10}}},
      {"val", "test", {{"train", 80}, {"dev", 20}}},
      {"val", "", {{"test"}}},
      {"test", "", {{"test"}}},
      {"train", "", {{"train", 80}, {"dev", 10}, {"test", 10}}},
  };
  return task.rules.empty() ? kUsual : task.rules;
}

}  // namespace eep
