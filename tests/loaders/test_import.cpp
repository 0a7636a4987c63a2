// Raw downloads to flat rows: every layout in made files, the prompts that the shipped tasks make of them,
// splits, provenance, and every mistake in one line. Real files are read where ../shared/data is there.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "loaders/formats/file.h"
#include "loaders/tasks/import.h"
#include "loaders/tasks/task.h"
#include "tests/loaders/scratch.h"

using namespace eep;

namespace {

std::string shipped(const std::string& name) {
  return std::string(EEP_SOURCE_DIR) + "/experiments/tasks/" + name + ".yaml";
}

// Made files of a benchmark and what importing them gives.
class Imported {
 public:
  using Files = std::vector<std::pair<std::string, std::string>>;

  explicit Imported(const std::string& name, const Files& files, const std::string& index = "",
                    const std::string& shares = "")
      : name_(name) {
    ImportOptions options;
    for (const auto& [file, text] : files) {
      const size_t equals = file.find('=');
      const std::string path = scratch_.write("raw/" + file.substr(equals + 1), text);
      options.files.push_back(equals == std::string::npos ? path : file.substr(0, equals + 1) + path);
    }
    options.out = scratch_.path("out");
    options.task_file = shipped(name);
    if (!index.empty()) options.index = scratch_.write("index.json", index);
    if (!shares.empty()) options.shares = parse_shares(shares);
    result = import_task(find_known_task(name), options);
  }

  std::vector<Item> items(const std::string& split, const std::string& protocol = "harness") const {
    return load_items(load_task(result.task_file, protocol), split);
  }
  std::string file(const std::string& name) const {
    return read_file(scratch_.path("out/" + name_ + "/" + name));
  }

  ImportResult result;

 private:
  Scratch scratch_;
  std::string name_;
};

void refuse(const std::string& name, const Imported::Files& files, const std::string& part,
            ExitCode code = ExitCode::kData) {
  CAPTURE(name);
  check_error(code, part, [&] { Imported(name, files); });
}

// A row and its prompts, on paper: the harness's, and the paper's.
struct Known {
  std::string name, file, row;
  std::string harness, eep;
  std::string answer;                // eep: the first reference
  std::vector<std::string> choices;  // harness
  int32_t label = -1;
};

const std::vector<Known> kKnown{
    {"boolq",
     "val.jsonl",
     R"({"question": "is it", "passage": "P.", "label": false, "idx": 0})",
     "P.\nQuestion: is it?\nAnswer:",
     "<s>[INST]P.\nQuestion: is it\nA. Yes\nB. No\nAnswer:[/INST]",
     "B",
     {" no", " yes"},
     0},
    {"cb",
     "val.jsonl",
     R"({"premise": "P", "hypothesis": "H", "label": "contradiction", "idx": 0})",
     "P\nQuestion: H. True, False, or Neither?\nAnswer:",
     "<s>[INST]P\nH\nWhat is the relation between the two sentences?\nA. Contradiction\nB. Entailment\nC. "
     "Neutral\nAnswer:[/INST]",
     "A",
     {" True", " False", " Neither"},
     1},
    {"copa",
     "val.jsonl",
     R"({"premise": "It rained. ", "choice1": "We ran.", "choice2": "Old men.", "question": "effect", "label": 1})",
     "It rained therefore",
     "<s>[INST]It rained. \nQuestion: Which may be the effect?\nA. We ran.\nB. Old men.\nAnswer:[/INST]",
     "B",
     {"  we ran.", "  old men."},
     1},
    {"multirc",
     "val.jsonl",
     R"({"idx": 0, "passage": {"text": "T", "questions": [{"question": "Q", "answers": [{"text": "X", "label": 1}]}]}})",
     "T\nQuestion: Q\nAnswer:",
     "<s>[INST]T\nQuestion: Q\nAnswer: X\nIs it true?\nA. Yes\nB. No\nAnswer:[/INST]",
     "A",
     {" X\nIs the answer correct? yes", " X\nIs the answer correct? no"},
     1},
    {"record",
     "val.jsonl",
     R"({"passage": {"text": "Ann met Bo.\n@highlight\nBo left", "entities": [{"start": 8, "end": 9}, {"start": 0, "end": 2}]},
 "qas": [{"query": "@placeholder left", "answers": [{"text": "Bo", "start": 8, "end": 9}]}]})",
     "Ann met Bo.\n\n  - Bo left.\n",
     "<s>[INST]Passage: Ann met Bo.\n\nBo left\nResult: ____ left\nQuestion: What entity does ____ refer to "
     "in the "
     "result? Give me the entity name:[/INST]",
     "Bo",
     {"   - Ann left", "   - Bo left"},
     1},
    {"rte",
     "val.jsonl",
     R"({"premise": "P.", "hypothesis": "H.", "label": "not_entailment", "idx": 0})",
     "P.\nQuestion: H. True or False?\nAnswer:",
     "<s>[INST]P.\nH.\nIs the sentence below entailed by the sentence above?\nA. Yes\nB. No\nAnswer:[/INST]",
     "B",
     {" True", " False"},
     1},
    {"wic",
     "val.jsonl",
     R"({"word": "run", "sentence1": "é He runs.", "sentence2": "A run.", "start1": 5, "end1": 9, "start2": 2, "end2": 5, "label": "true"})",
     "Sentence 1: é He runs.\nSentence 2: A run.\nQuestion: Is the word 'runs' used in the same way in the "
     "two "
     "sentences above?\nAnswer:",
     "<s>[INST]Sentence 1: é He runs.\nSentence 2: A run.\nAre 'run' in the above two sentences the "
     "same?\nA. "
     "Yes\nB. No\nAnswer:[/INST]",
     "A",
     {" no", " yes"},
     1},
    {"wsc",
     "val.jsonl",
     R"({"text": "Ann Lee told Bo that she , too , ran .", "target": {"span1_index": 0, "span1_text": "Ann Lee", "span2_index": 5, "span2_text": "she"}, "label": true})",
     "Passage: Ann Lee told Bo that *she*, too, ran.\nQuestion: In the passage above, does the pronoun "
     "\"*she*\" "
     "refer to \"*Ann Lee*\"?\nAnswer:",
     "<s>[INST]Passage: * Ann Lee * told Bo that # she # , too , ran .\nDoes the pronoun # she # refer to * "
     "Ann Lee "
     "*?\nA. Yes\nB. No\nAnswer:[/INST]",
     "A",
     {" no", " yes"},
     1},
    {"arc_challenge",
     "ARC-Challenge-Test.jsonl",
     R"({"id": "1", "question": {"stem": "Q?", "choices": [{"text": "w", "label": "1"}, {"text": "x", "label": "2"}, {"text": "y", "label": "3"}, {"text": "z", "label": "4"}]}, "answerKey": "3"})",
     "Question: Q?\nAnswer:",
     "<s>[INST]Question: Q?\nA. w\nB. x\nC. y\nD. z\nAnswer:[/INST]",
     "C",
     {" w", " x", " y", " z"},
     2},
    {"arc_easy",
     "test.jsonl",
     R"({"id": "1", "question": "Q?", "choices": {"text": ["w", "x", "y", "z"], "label": ["A", "B", "C", "D"]}, "answerKey": "D"})",
     "Question: Q?\nAnswer:",
     "<s>[INST]Question: Q?\nA. w\nB. x\nC. y\nD. z\nAnswer:[/INST]",
     "D",
     {" w", " x", " y", " z"},
     3},
    {"hellaswag",
     "hellaswag_val.jsonl",
     R"({"activity_label": "Baking", "ctx_a": "A cook [title] stirs.", "ctx_b": "the Dough", "endings": ["a [b] c", "x", "y", "z"], "label": 1})",
     "Baking: A cook. stirs. The dough",
     "<s>[INST]A cook. stirs. The dough\nQuestion: Which ending makes the most sense?\nA. a c\nB. x\nC. "
     "y\nD. z\nYou "
     "may choose from 'A', 'B', 'C', 'D'.\nAnswer:[/INST]",
     "B",
     {" a c", " x", " y", " z"},
     1},
    {"openbookqa",
     "test_complete.jsonl",
     R"({"question": {"stem": "S", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}, {"text": "c", "label": "C"}, {"text": "d", "label": "D"}]}, "fact1": "F", "answerKey": "B"})",
     "S",
     "<s>[INST]Given the fact: F\nQuestion: S\nA. a\nB. b\nC. c\nD. d\nAnswer:[/INST]",
     "B",
     {" a", " b", " c", " d"},
     1},
    {"winogrande",
     "dev.jsonl",
     R"({"sentence": "The cup in the bag broke as the _ fell.", "option1": "cup", "option2": "bag", "answer": "1"})",
     " fell.",
     "<s>[INST]Which of the following is a good sentence:\nA. The cup in the bag broke as the cup fell.\nB. "
     "The cup "
     "in the bag broke as the bag fell.\nAnswer:[/INST]",
     "A",
     {"The cup in the bag broke as the cup", "The cup in the bag broke as the bag"},
     0},
    {"squad2",
     "dev-v2.0.json",
     R"({"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": "C, \"{[", "qas": [{"question": "Q?", "id": "1", "is_impossible": false, "answers": [{"text": "x", "answer_start": 0}, {"text": "x", "answer_start": 0}, {"text": "y", "answer_start": 1}]}]}]}]})",
     "Title: T\n\nBackground: C, \"{[\n\nQuestion: Q?\n\nAnswer:",
     "<s>[INST]C, \"{[\nAccording to the above passage, answer the following question. If it is impossible "
     "to answer "
     "according to the passage, answer `impossible to answer`:\nQuestion: Q?[/INST]",
     "x",
     {},
     -1},
};

}  // namespace

TEST_CASE("import: prompts of every benchmark, as they are on paper") {
  for (const Known& known : kKnown) {
    CAPTURE(known.name);
    std::string row = known.row;
    std::replace(row.begin(), row.end(), '\n', ' ');
    const Imported imported(known.name, {{known.file, row + "\n"}});
    const std::vector<Item> harness = imported.items("test"), paper = imported.items("test", "eep");
    REQUIRE(harness.size() == 1);
    CHECK(harness[0].prompt == known.harness);
    CHECK(harness[0].choices == known.choices);
    CHECK(harness[0].label == known.label);
    CHECK(paper[0].prompt == known.eep);
    CHECK(paper[0].references.at(0) == known.answer);
  }
}

TEST_CASE("import: SQuAD's unanswerable questions have plausible answers and the phrase, or nothing") {
  const Imported imported(
      "squad2",
      {{"dev-v2.0.json",
        R"({"data": [{"title": "T", "paragraphs": [{"context": "C", "qas": [{"question": "Q?", "is_impossible": true, "answers": [], "plausible_answers": [{"text": "p"}, {"text": "p"}]}]}]}]})"}});
  CHECK(imported.items("test", "eep")[0].references == std::vector<std::string>{"p", "impossible to answer"});
  CHECK(imported.items("test")[0].references == std::vector<std::string>{""});
}

TEST_CASE("import: DROP asks what has a number, behind two demonstrations") {
  const std::string answer = R"({"number": "7", "date": {"day": "", "month": "", "year": ""}, "spans": []})";
  const std::string spans =
      R"({"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": ["Bo", "Al"]})";
  const std::string date = R"({"number": "", "date": {"day": "3", "month": "May", "year": ""}, "spans": []})";
  const auto question = [](const std::string& text, const std::string& own, const std::string& validated) {
    return R"({"question": ")" + text + R"(", "answer": )" + own + R"(, "validated_answers": [)" + validated +
           "]}";
  };
  const std::string raw = R"({"nfl_1": {"passage": "P.", "qa_pairs": [)" + question("q0", spans, spans) +
                          ", " + question("q1", answer, answer + ", " + date) + "]}}";
  const std::string demonstration =
      R"({"passage": "D", "question": "d", "references": ["It is 2. So the answer is 2."]})";
  const Imported imported("drop",
                          {{"drop_dataset_dev.json", raw},
                           {"demonstrations=demos.jsonl", demonstration + "\n" + demonstration + "\n"}});
  const auto harness = imported.items("test");
  REQUIRE(harness.size() == 2);
  CHECK(harness[0].prompt == "P. q0");
  CHECK(harness[0].references == std::vector<std::string>{"Bo\nAl"});
  CHECK(harness[1].references == std::vector<std::string>{"7", "3 May"});
  const auto paper = imported.items("test", "eep");
  REQUIRE(paper.size() == 1);
  const std::string solved = "Text: D\nQuestion: d\nAnswer: It is 2. So the answer is 2.\n\n";
  CHECK(paper[0].prompt == solved + solved + "Text: P.\nQuestion: q1\nAnswer:");
  CHECK(paper[0].references == std::vector<std::string>{"7", "3 May"});
}

TEST_CASE("import: GSM8K and MMLU put their examples in front") {
  std::string train;
  for (int i = 0; i < 20; ++i) {
    const std::string n = std::to_string(i);
    train += R"({"question": "q)" + n + R"(", "answer": "w\n#### 1,00)" + n + "\"}\n";
  }
  std::string demos;
  for (int i = 0; i < 4; ++i)
    demos += R"({"question": "d)" + std::to_string(i) +
             R"(", "final": "So.\nThe answer is 4"})"
             "\n";
  const Imported imported("gsm8k", {{"train.jsonl", train},
                                    {"test.jsonl", R"({"question": "Q", "answer": "x\n#### 70,000"})"
                                                   "\n"},
                                    {"demonstrations=demos.jsonl", demos}});
  const Item harness = imported.items("test")[0];
  CHECK(harness.prompt.starts_with("Question: q"));
  CHECK(harness.prompt.find("\nAnswer: w\n#### 1,00") != std::string::npos);
  CHECK(harness.prompt.ends_with("\n\nQuestion: Q\nAnswer:"));
  const Item paper = imported.items("test", "eep")[0];
  CHECK(
      paper.prompt.starts_with("<s>[INST]Question: d0\nLet's think step by step\nAnswer:[/INST]So.\nThe "
                               "answer is 4\n</s>[INST]Question: d1"));
  CHECK(paper.prompt.ends_with("</s>[INST]Question: Q\nLet's think step by step\nAnswer:[/INST]"));
  CHECK(paper.references == std::vector<std::string>{"70000"});

  std::string dev;
  for (int i = 0; i < 5; ++i) dev += "\"d" + std::to_string(i) + ", \"\"so\"\"\",1,2,3,4,B\n";
  const Imported mmlu("mmlu", {{"dev/us_history_dev.csv", dev},
                               {"dev/other_dev.csv", dev},
                               {"test/us_history_test.csv", " Q ,a,b,c,d,C\n"}});
  const Item item = mmlu.items("test")[0];
  CHECK(item.prompt.starts_with(
      "The following are multiple choice questions (with answers) about us history.\n\n"
      "d0, \"so\"\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: B\n\nd1"));
  CHECK(item.prompt.ends_with("\n\nQ\nA. a\nB. b\nC. c\nD. d\nAnswer:"));
  CHECK(item.label == 2);
  CHECK(mmlu.items("test", "eep")[0].prompt.starts_with(
      "<s>[INST]There is a single choice question about us history. Answer the question by replying A, B, C "
      "or "
      "D.\nQuestion: d0, \"so\"\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: [/INST]B\n</s>[INST]There"));
}

TEST_CASE("import: OpenBookQA as TSV, PIQA with its labels apart") {
  const Imported tsv("openbookqa", {{"test.tsv",
                                     "ID\tQuestion Stem\tChoices\tComplete Question\tAnswer Key\r\n"
                                     "7\tS \"q\t(A) a (B) b c (C) c (D) d\tx\tB\r\n"}});
  CHECK(tsv.items("test")[0].prompt == "S \"q");
  CHECK(tsv.items("test")[0].choices == std::vector<std::string>{" a", " b c", " c", " d"});
  CHECK(tsv.items("test")[0].label == 1);
  const std::string rows =
      "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n{\"goal\": \"h\", \"sol1\": \"c\", \"sol2\": "
      "\"d\"}\n";
  const Imported piqa("piqa", {{"valid.jsonl", rows}, {"valid-labels.lst", "1\n0\n"}});
  CHECK(piqa.items("test")[0].label == 1);
  CHECK(piqa.items("test")[1].label == 0);
  refuse("piqa", {{"valid.jsonl", rows}, {"valid-labels.lst", "1\n"}}, "wrong count: fewer labels than rows");
  refuse("piqa", {{"valid.jsonl", rows}, {"valid-labels.lst", "1\n0\n1\n"}}, "(expected 2, got 3)");
}

TEST_CASE("import: splits by rule, by index, by hash, and what they were made of") {
  std::string train, val;
  for (int i = 0; i < 200; ++i) {
    const std::string n = std::to_string(i);
    train += R"({"premise": "p)" + n +
             R"(", "hypothesis": "h", "label": "entailment"})"
             "\n";
    if (i < 40)
      val += R"({"premise": "v)" + n +
             R"(", "hypothesis": "h", "label": "entailment"})"
             "\n";
  }
  const Imported rule("rte", {{"train.jsonl", train}, {"val.jsonl", val}});
  CHECK(rule.result.splits.at("test") == 40);
  CHECK(rule.result.splits.at("train") + rule.result.splits.at("dev") == 200);
  CHECK(rule.result.splits.at("dev") >= 10);  // 20 +- 4.2 by the hash
  CHECK(rule.result.remarks.at(0) == "rte: train has 200 items (published: 2490)");
  CHECK(rule.file("provenance.json").find("\"hash\": \"xxh3:") != std::string::npos);

  const Imported index("rte", {{"val.jsonl", val}}, "[0, 3, 39]");
  CHECK(index.result.splits.at("test") == 3);
  CHECK(index.items("test")[1].prompt.starts_with("v3\n"));
  CHECK(index.result.splits.at("train") + index.result.splits.at("dev") == 37);
  check_error(ExitCode::kData, "an item beyond the end (expected 0..39, got 40)", [&] {
    Imported("rte", {{"val.jsonl", val}}, "[0, 40]");
  });
  check_error(ExitCode::kData, "twice in the list", [&] { Imported("rte", {{"val.jsonl", val}}, "[0, 0]"); });

  const Imported hash("rte", {{"train.jsonl", train}}, "", "train=50,test=50");
  CHECK(hash.result.splits.at("train") + hash.result.splits.at("test") == 200);
  CHECK(hash.result.splits.at("train") >= 70);  // 100 +- 7
  check_error(ExitCode::kUsage, "the shares add up to 90", [] { parse_shares("train=50,test=40"); });

  // Questions on one passage are not parted.
  std::string passages;
  for (int i = 0; i < 100; ++i)
    passages += R"({"passage": "p)" + std::to_string(i / 10) + R"(", "question": "q)" + std::to_string(i) +
                R"(", "label": true})"
                "\n";
  const Imported grouped("boolq", {{"val.jsonl", passages}}, "", "train=50,test=50");
  std::set<std::string> texts[2];
  for (const auto& [at, split] : {std::pair{0, "train"}, {1, "test"}}) {
    for (const Item& item : grouped.items(split)) texts[at].insert(item.prompt.substr(0, 2));
  }
  for (const std::string& text : texts[0]) CHECK(texts[1].count(text) == 0);
}

TEST_CASE("import: mistakes are one line with their place, and leave nothing") {
  refuse("boolq", {{"val.jsonl", "{\"question\": \"q\", \"passage\": \"p\"}\n"}},
         "val.jsonl:1: field label|answer is missing");
  refuse("boolq", {{"val.jsonl", "[{\"question\": 1}]"}}, "unknown layout (expected JSON Lines, got \"[{");
  refuse("boolq", {{"val.jsonl", "question,passage\n"}}, "unknown layout");
  refuse("boolq", {{"val.jsonl", "\n \n"}}, "an empty file");
  refuse("boolq", {{"val.jsonl", "{\"question\": \"q\", \"passage\": \"p\", \"label\": 2}\n"}},
         "expected true or false, got 2");
  refuse("boolq", {{"val.jsonl", "{\"question\": \"q\",\n"}}, "val.jsonl:1");
  refuse("mmlu", {{"test/a_test.csv", "q,1,2,3,4\n"}}, "another number of columns (expected 6, got 5)");
  refuse("mmlu", {{"test/a_test.csv", "\"q,1,2,3,4,A\n"}}, "a quotation that does not end");
  refuse("squad2", {{"dev.json", "{\"data\": [{\"title\": \"T\", \"paragraphs\": ["}}, "ends too early");
  refuse("squad2", {{"dev.json", "{\"rows\": []}"}}, "no rows (expected JSON {\"data\": [...]})");
  refuse(
      "hellaswag",
      {{"val.jsonl", R"({"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["x"], "label": 0})"}},
      "wrong count (expected 4, got 1)");
  refuse("winogrande",
         {{"dev.jsonl", R"({"sentence": "none", "option1": "a", "option2": "b", "answer": "1"})"}},
         "no gap (_)");
  refuse("arc_easy",
         {{"t.jsonl",
           R"({"question": {"stem": "s", "choices": [{"text": "a", "label": "A"}]}, "answerKey": "B"})"}},
         "no such label (expected one of A, got B)");
  refuse("gsm8k", {{"test.jsonl", R"({"question": "q", "answer": "7"})"}},
         "no final answer behind \"#### \"");
  refuse("rte", {}, "no files", ExitCode::kUsage);
  check_error(ExitCode::kUsage, "did you mean boolq?", [] { find_known_task("bolq"); });
  const Scratch scratch;
  ImportOptions options;
  options.files = {scratch.path("missing.jsonl")};
  options.out = scratch.path("out");
  options.task_file = shipped("rte");
  check_error(ExitCode::kNoInput, "no such file", [&] { import_task(find_known_task("rte"), options); });
  CHECK(!is_there(scratch.path("out")));
}

TEST_CASE("import: real files, where they are, have the published counts and constant answers") {
  const std::string data = std::string(EEP_SOURCE_DIR) + "/../shared/data/";
  if (!directory_exists(data + "superglue")) return;
  struct Real {
    std::string name;
    std::vector<std::string> files;
    std::string index;
    size_t items;
    std::string constant;
    size_t right;  // of the constant answer
  };
  const std::vector<Real> reals{
      {"wic", {"superglue/WiC/train.jsonl", "superglue/WiC/val.jsonl"}, "", 500, "A", 255},
      {"wsc", {"superglue/WSC/train.jsonl", "superglue/WSC/val.jsonl"}, "", 104, "B", 66},
      {"cb", {"superglue/CB/train.jsonl", "superglue/CB/val.jsonl"}, "", 56, "A", 28},
      {"rte", {"superglue/RTE/train.jsonl", "superglue/RTE/val.jsonl"}, "", 277, "A", 146},
      {"copa", {"superglue/COPA/train.jsonl", "superglue/COPA/val.jsonl"}, "", 100, "", 0},
      {"multirc", {"superglue/MultiRC/train.jsonl", "superglue/MultiRC/val.jsonl"}, "", 4848, "", 0},
      {"boolq", {"superglue/BoolQ/val.jsonl"}, "eep_eval_indices/BoolQ.json", 500, "A", 290},
      {"mmlu", {"mmlu"}, "", 14042, "", 0},
  };
  for (const Real& real : reals) {
    CAPTURE(real.name);
    const Scratch scratch;
    ImportOptions options;
    for (const std::string& file : real.files) options.files.push_back(data + file);
    options.out = scratch.path("out");
    options.task_file = shipped(real.name);
    if (!real.index.empty()) options.index = data + real.index;
    const ImportResult result = import_task(find_known_task(real.name), options);
    const std::vector<Item> items = load_items(load_task(result.task_file, "eep"), "test");
    CHECK(items.size() == real.items);
    const auto right = std::count_if(items.begin(), items.end(),
                                     [&](const Item& item) { return item.references[0] == real.constant; });
    if (!real.constant.empty()) CHECK(static_cast<size_t>(right) == real.right);
  }
}
