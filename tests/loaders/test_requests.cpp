// Requests: how items become sequences, how scores become answers, and that teacher-forced verification with
// early verdicts gives exactly the scores of plain greedy decoding, whatever the model says.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "loaders/tasks/requests.h"
#include "tests/loaders/scratch.h"

using namespace eep;

namespace {

Tokenizer tokenizer_of(const char* name) {
  const std::string directory = std::string(EEP_SOURCE_DIR) + "/tests/loaders/data/" + name;
  return Tokenizer::load(directory);
}

ModelConfig config_of(const Tokenizer& tokenizer, int64_t max_positions = 4096) {
  ModelConfig config;
  config.vocab_size = tokenizer.vocab_size();
  config.max_positions = max_positions;
  if (tokenizer.eos_id() >= 0) config.eos_token_ids = {tokenizer.eos_id()};
  return config;
}

// The tokens that the model has read at a row.
std::vector<int32_t> path_of(const Prompts& prompts, int32_t row) {
  std::vector<int32_t> tokens;
  int32_t node = prompts.node_of_row[static_cast<size_t>(row)];
  int32_t end = row + 1;
  while (node >= 0) {
    const PromptNode& here = prompts.nodes[static_cast<size_t>(node)];
    for (int32_t r = end - 1; r >= here.row_begin; --r)
      tokens.insert(tokens.begin(), prompts.tokens[static_cast<size_t>(r)]);
    node = here.parent;
    if (node < 0) break;
    const PromptNode& parent = prompts.nodes[static_cast<size_t>(node)];
    end = parent.row_begin + parent.row_count;
  }
  return tokens;
}

Task choice_task(Metric metric = Metric::kAcc) {
  Task task;
  task.protocol = "harness";
  task.kind = TaskKind::kMultipleChoice;
  task.metric = metric;
  return task;
}

Item choice_item(const std::string& prompt, const std::vector<std::string>& choices, int32_t label) {
  Item item;
  item.prompt = prompt;
  item.choices = choices;
  item.label = label;
  item.where = "items.jsonl:1";
  return item;
}

// log p of a token behind a path: any fixed numbers will do.
double pseudo_logprob(const std::vector<int32_t>& path, int32_t target) {
  uint32_t hash = 17;
  for (int32_t token : path) hash = hash * 31 + static_cast<uint32_t>(token);
  return -0.01 - static_cast<double>((hash * 31 + static_cast<uint32_t>(target)) % 997) / 100;
}

std::vector<TokenScore> pseudo_scores(const Prompts& prompts) {
  std::vector<TokenScore> scores;
  for (const ScorePosition& position : prompts.scores) {
    scores.push_back(
        {static_cast<float>(pseudo_logprob(path_of(prompts, position.row), position.target)), 0});
  }
  return scores;
}

double sum_logprob(std::vector<int32_t> path, const std::vector<int32_t>& continuation) {
  double sum = 0;
  for (int32_t token : continuation) {
    sum += static_cast<double>(static_cast<float>(pseudo_logprob(path, token)));
    path.push_back(token);
  }
  return sum;
}

}  // namespace

TEST_CASE("requests: choices are encoded with their context as a whole") {
  for (const char* name : {"qwen", "metaspace", "sentencepiece", "smol"}) {
    CAPTURE(name);
    const Tokenizer tokenizer = tokenizer_of(name);
    const std::vector<Item> items{choice_item("The sky is blue.\nAnswer:", {" no", " yes", " maybe so"}, 1),
                                  choice_item("Blank at the end: \n", {"one", "two"}, 0)};
    const Requests requests(choice_task(), items, tokenizer, config_of(tokenizer));
    const auto scores = pseudo_scores(requests.prompts());
    const auto judged = requests.judge(scores);
    for (size_t i = 0; i < items.size(); ++i) {
      const std::string head = i == 0 ? items[i].prompt : "Blank at the end:";
      const std::vector<int32_t> context = tokenizer.encode(head, true);
      CHECK(requests.prompt_tokens(i) == context);
      std::vector<double> loglik;
      for (const std::string& choice : items[i].choices) {
        const std::vector<int32_t> whole = tokenizer.encode(items[i].prompt + choice, true);
        REQUIRE(whole.size() > context.size());
        loglik.push_back(
            sum_logprob(context, {whole.begin() + static_cast<int64_t>(context.size()), whole.end()}));
      }
      size_t best = 0;
      double total = 0;
      for (size_t c = 0; c < loglik.size(); ++c) {
        if (loglik[c] > loglik[best]) best = c;
        total += std::exp(loglik[c]);
      }
      CHECK(judged[i].prediction == static_cast<int32_t>(best));
      CHECK(judged[i].metric == (static_cast<int32_t>(best) == items[i].label ? 1 : 0));
      CHECK(judged[i].right_loglik ==
            doctest::Approx(loglik[static_cast<size_t>(items[i].label)] - std::log(total)).epsilon(1e-12));
      CHECK(judged[i].decided);
    }
    CHECK(requests.truncated() == 0);
  }
}

TEST_CASE("requests: the first maximum wins, acc_norm counts characters without the delimiter") {
  const Tokenizer tokenizer = tokenizer_of("qwen");
  const auto judge = [&](Metric metric, const std::vector<std::string>& choices, float each, int32_t label) {
    const Requests requests(choice_task(metric), {choice_item("Question:", choices, label)}, tokenizer,
                            config_of(tokenizer));
    return requests.judge(std::vector<TokenScore>(requests.prompts().scores.size(), {each, 0}))[0];
  };
  CHECK(judge(Metric::kAcc, {" a", " b"}, -1, 0).prediction == 0);
  CHECK(judge(Metric::kAcc, {" a", " b"}, -1, 1).metric == 0);
  CHECK(judge(Metric::kAcc, {" a", " b"}, -1, 1).right_loglik == doctest::Approx(-std::log(2.0)));

  // The log-likelihoods are known: each choice is `count` tokens at -1. Per character " ää" (2) is compared
  // with " b" (1).
  const auto count = [&](const std::string& text) {
    return static_cast<double>(tokenizer.encode("Question:" + text, true).size() -
                               tokenizer.encode("Question:", true).size());
  };
  const bool long_wins = -count(" ää") / 2 > -count(" b") / 1;
  CHECK(judge(Metric::kAccNorm, {" b", " ää"}, -1, 0).prediction == (long_wins ? 1 : 0));
  CHECK(judge(Metric::kAccNorm, {" ", "  "}, -1, 0).prediction >=
        0);  // nothing but delimiters: no division by 0
}

TEST_CASE(
    "requests: as text every token of every item has a row, shared prefixes as often as items hold them") {
  const Tokenizer tokenizer = tokenizer_of("qwen");
  const std::vector<Item> items{choice_item("the method", {" of", " and more"}, 0),
                                choice_item("the method", {" of", " and more"}, 0),
                                choice_item("the", {" x", " y"}, 1)};
  const Requests requests(choice_task(), items, tokenizer, config_of(tokenizer));
  int64_t expected = 0;
  for (const Item& item : items) {
    std::set<std::vector<int32_t>> beginnings;  // the choices of an item share them
    for (const std::string& choice : item.choices) {
      std::vector<int32_t> tokens = tokenizer.encode(item.prompt + choice, true);
      for (; !tokens.empty(); tokens.pop_back()) beginnings.insert(tokens);
    }
    expected += static_cast<int64_t>(beginnings.size());
  }
  const Prompts texts = requests.texts();
  CHECK(texts.rows() == expected);
  CHECK(requests.prompts().rows() < expected);
  CHECK(texts.nodes.size() == 9);
  for (int32_t row = 0; row < static_cast<int32_t>(texts.rows()); ++row) {
    const std::vector<int32_t> path = path_of(texts, row);
    CHECK(static_cast<int64_t>(path.size()) == texts.positions[static_cast<size_t>(row)] + 1);
    CHECK(path.back() == texts.tokens[static_cast<size_t>(row)]);
  }
}

TEST_CASE(
    "requests: several metrics of the same scores; the delimiter has no length, what the task writes has") {
  const Tokenizer tokenizer = tokenizer_of("qwen");
  Task task = choice_task();
  task.target_delimiter = " ";
  task.more = {{"acc_norm", Metric::kAccNorm, {}}, {"acc_bytes", Metric::kAccBytes, {}}};
  // Written choices "é" and "eee": 1 and 3 characters, 2 and 3 bytes.
  Item item = choice_item("Q:", {" é", " eee"}, 0);
  const Requests requests(task, {item}, tokenizer, config_of(tokenizer));
  // Sums -2 and -5: acc takes the first; per character -2 and -1.67, per byte -1 and -1.67. What both begin
  // with costs nothing.
  const std::vector<int32_t> ids[] = {tokenizer.encode("Q: é", true), tokenizer.encode("Q: eee", true)};
  const auto own = [&](int which, int32_t id) {
    return std::count(ids[which].begin(), ids[which].end(), id) -
           std::count(ids[1 - which].begin(), ids[1 - which].end(), id);
  };
  const auto count = [&](int which) {
    return std::count_if(ids[which].begin(), ids[which].end(),
                         [&](int32_t id) { return own(which, id) > 0; });
  };
  std::vector<TokenScore> scores;
  for (const auto& wanted : requests.prompts().scores) {
    const double value = own(0, wanted.target) > 0   ? -2.0 / static_cast<double>(count(0))
                         : own(1, wanted.target) > 0 ? -5.0 / static_cast<double>(count(1))
                                                     : 0.0;
    scores.push_back({static_cast<float>(value), 0});
  }
  const ItemScore judged = requests.judge(scores)[0];
  CHECK(judged.metric == 1);
  REQUIRE(judged.more.size() == 2);
  CHECK(judged.more[0] == 0);
  CHECK(judged.more[1] == 1);
  item.also = {1};
  const ItemScore both = Requests(task, {item}, tokenizer, config_of(tokenizer)).judge(scores)[0];
  CHECK(both.more[0] == 1);
  CHECK(both.right_loglik == doctest::Approx(0));
}

TEST_CASE("requests: a broken model is wrong and its log-likelihood finite") {
  const Tokenizer tokenizer = tokenizer_of("qwen");
  for (float broken : {NAN, -INFINITY}) {
    const Requests choice(choice_task(), {choice_item("Q:", {" a", " b"}, 0)}, tokenizer,
                          config_of(tokenizer));
    const auto judged = choice.judge(std::vector<TokenScore>(choice.prompts().scores.size(), {broken, 0}))[0];
    CHECK(judged.metric == 0);
    CHECK(judged.prediction == 0);
    CHECK(std::isfinite(judged.right_loglik));

    Task task;
    task.protocol = "harness";
    task.kind = TaskKind::kGenerate;
    task.metric = Metric::kExactMatch;
    Item item;
    item.prompt = "Q:";
    item.references = {"a b"};
    const Requests generate(task, {item}, tokenizer, config_of(tokenizer));
    const auto said =
        generate.judge(std::vector<TokenScore>(generate.prompts().scores.size(), {broken, 0}))[0];
    CHECK(std::isfinite(said.right_loglik));
  }
}

TEST_CASE("requests: too long is cut from the left, an empty prompt is the beginning of sequence") {
  const Tokenizer tokenizer = tokenizer_of("qwen");
  const std::string prompt = "one two three four five six seven eight nine ten:";
  const std::vector<int32_t> context = tokenizer.encode(prompt, true);
  const std::vector<int32_t> whole = tokenizer.encode(prompt + " yes", true);
  const auto length = static_cast<int64_t>(whole.size());
  const auto make = [&](int64_t positions) {
    return Requests(choice_task(), {choice_item(prompt, {" yes", " yes"}, 0)}, tokenizer,
                    config_of(tokenizer, positions));
  };
  // The last token is not read: length - 1 positions do.
  CHECK(make(length - 1).truncated() == 0);
  CHECK(make(length - 1).prompts().rows() == length - 1);
  const Requests cut = make(length - 3);
  CHECK(cut.truncated() == 2);  // both choices
  CHECK(cut.prompts().rows() == length - 3);
  CHECK(cut.prompt_tokens(0) == std::vector<int32_t>(context.begin() + 2, context.end()));
  const auto answer = static_cast<int64_t>(whole.size() - context.size());
  CHECK(make(answer).prompt_tokens(0).size() == 1);
  if (answer > 1)
    check_error(ExitCode::kData, "the answer does not fit the model", [&] { make(answer - 1); });

  Task task;
  task.protocol = "harness";
  task.kind = TaskKind::kGenerate;
  task.metric = Metric::kExactMatch;
  task.max_new = 7;
  Item item;
  item.where = "items.jsonl:4";
  item.prompt = prompt;
  item.references = {"yes"};
  const Requests generate(task, {item}, tokenizer, config_of(tokenizer, 12));
  CHECK(generate.prompt_tokens(0).size() == 5);
  check_error(ExitCode::kData, "items.jsonl:4: the answer does not fit the model",
              [&] { Requests(task, {item}, tokenizer, config_of(tokenizer, 7)); });
  ModelConfig small = config_of(tokenizer);
  small.vocab_size = 1;
  check_error(ExitCode::kData, "the tokenizer knows a token that the model does not",
              [&] { Requests(task, {item}, tokenizer, small); });

  for (const char* name : {"qwen", "sentencepiece"}) {
    const Tokenizer other = tokenizer_of(name);
    ModelConfig config = config_of(other);
    if (config.eos_token_ids.empty()) config.eos_token_ids = {3};
    const int32_t prefix = other.bos_id() >= 0 ? other.bos_id() : config.eos_token_ids[0];
    const Requests empty(choice_task(), {choice_item("", {"yes", "no"}, 0)}, other, config);
    CHECK(empty.prompt_tokens(0) == std::vector<int32_t>{prefix});
    item.prompt = "";
    CHECK(Requests(task, {item}, other, config).prompt_tokens(0) == std::vector<int32_t>{prefix});
  }
  // A text that spells the beginning of sequence: one of them under harness, two under the paper's protocol.
  const Tokenizer llama = tokenizer_of("sentencepiece");
  if (llama.bos_id() >= 0) {
    const std::string begin(llama.token_text(llama.bos_id()));
    item.prompt = begin + "[INST]q[/INST]";
    const auto count = [&](const Requests& requests) {
      const auto& ids = requests.prompt_tokens(0);
      return std::count(ids.begin(), ids.end(), llama.bos_id());
    };
    CHECK(count(Requests(task, {item}, llama, config_of(llama))) == 1);
    task.protocol = "eep";
    CHECK(count(Requests(task, {item}, llama, config_of(llama))) == 2);
  }
}

namespace {

// A made-up model that mostly writes one of a few scripts and now and then anything at all.
class Scribbler {
 public:
  Scribbler(const Requests& requests, const Tokenizer& tokenizer, uint32_t seed) : seed_(seed) {
    const std::vector<std::string> texts{
        "\n",   " ", "A", "B.",        " 12",        "Answer: ", " hat", ",",
        "the ", ":", "é", "Question:", "answer is ", "x",        "\n\n", "東"};
    for (const std::string& text : texts) {
      for (int32_t id : tokenizer.encode(text, false)) pool_.push_back(id);
    }
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      const std::string_view spelling = tokenizer.token_text(id);
      if (tokenizer.is_special(id) || spelling == "<0x0A>" || spelling == "<0xE4>" || spelling == "<0xC3>")
        pool_.push_back(id);
    }
    if (tokenizer.eos_id() >= 0) pool_.push_back(tokenizer.eos_id());
    for (const Item& item : requests.items()) {
      std::vector<std::vector<int32_t>> scripts;
      for (const std::string& reference : item.references) {
        for (const char* form : {" %\n", "%\n", " The answer is %.\n", "\n%\nmore", "%%", "Answer: %\nB"}) {
          std::string text;
          for (const char* c = form; *c != 0; ++c) text += *c == '%' ? reference : std::string(1, *c);
          scripts.push_back(tokenizer.encode(text, false));
        }
      }
      scripts_.push_back(std::move(scripts));
    }
  }

  int32_t next(size_t item, const std::vector<int32_t>& generated) const {
    uint32_t hash = seed_ * 2654435761u + static_cast<uint32_t>(item);
    for (int32_t token : generated) hash = (hash ^ static_cast<uint32_t>(token)) * 16777619u;
    std::mt19937 generator(hash);
    // One script a (seed, item), so that some are followed for long.
    const auto& script = scripts_[item][(seed_ + item) % scripts_[item].size()];
    if (generator() % 8 != 0 && generated.size() < script.size()) return script[generated.size()];
    return pool_[generator() % pool_.size()];
  }

 private:
  uint32_t seed_;
  std::vector<int32_t> pool_;
  std::vector<std::vector<std::vector<int32_t>>> scripts_;
};

// The plain way: token after token until the end of sequence, a stop string or the limit; then the score.
double decode_plainly(const Requests& requests, const Tokenizer& tokenizer, const ModelConfig& config,
                      const Scribbler& model, size_t item, std::vector<int32_t>* output) {
  const Task& task = requests.task();
  std::vector<int32_t> generated;
  std::string text;
  bool ended = false;
  while (!ended && static_cast<int32_t>(generated.size()) < task.max_new) {
    const int32_t token = model.next(item, generated);
    output->push_back(token);
    if (std::count(config.eos_token_ids.begin(), config.eos_token_ids.end(), token) != 0) break;
    generated.push_back(token);
    text = tokenizer.decode(generated, true);
    for (const std::string& stop : task.stop) ended = ended || text.find(stop) != std::string::npos;
  }
  for (const std::string& stop : task.stop) text = text.substr(0, text.find(stop));
  return score_text(task.metric, task.extract, text, requests.items()[item].references);
}

}  // namespace

TEST_CASE("requests: verification and early verdicts lose nothing against plain decoding") {
  const std::vector<std::string> rules{"none",        "first_capital", "first_option(AB)",
                                       "last_number", "first_line",    "squad"};
  const std::vector<std::vector<std::string>> stops{
      {"\n"}, {}, {"\n\n", "."}, {"Question:", "</s>"}, {"AB", "B\n"}};
  std::vector<Item> items;
  for (const std::vector<std::string>& references : std::vector<std::vector<std::string>>{
           {"red hat", "hat"}, {"A"}, {"12"}, {"B", "é 東"}, {"x\ny"}, {""}}) {
    Item item;
    item.prompt = "Item " + std::to_string(items.size()) + ":";
    item.references = references;
    items.push_back(item);
  }
  int64_t right = 0, early = 0, open = 0, all = 0;
  for (const char* name : {"qwen", "metaspace", "sentencepiece", "prepend"}) {
    const Tokenizer tokenizer = tokenizer_of(name);
    ModelConfig config = config_of(tokenizer);
    if (config.eos_token_ids.empty()) config.eos_token_ids = {5};
    for (uint32_t trial = 0; trial < 800; ++trial) {
      std::mt19937 generator(trial * 7 + 1);
      Task task;
      task.protocol = "harness";
      task.kind = TaskKind::kGenerate;
      const bool common = trial % 2 == 0;  // exact match of the plain text; else any metric on any extraction
      task.metric = common ? Metric::kExactMatch : static_cast<Metric>(2 + generator() % 7);
      REQUIRE(parse_extract(common ? "none" : rules[generator() % rules.size()], &task.extract));
      task.stop = stops[generator() % stops.size()];
      task.max_new = 1 + static_cast<int32_t>(generator() % 14);
      const Requests requests(task, items, tokenizer, config);
      const Scribbler model(requests, tokenizer, trial);

      std::map<std::vector<int32_t>, size_t> item_of;
      for (size_t i = 0; i < items.size(); ++i) item_of[requests.prompt_tokens(i)] = i;
      REQUIRE(item_of.size() == items.size());
      std::vector<TokenScore> scores;
      for (const ScorePosition& position : requests.prompts().scores) {
        std::vector<int32_t> path = path_of(requests.prompts(), position.row), generated;
        while (item_of.count(path) == 0) {
          REQUIRE(!path.empty());
          generated.insert(generated.begin(), path.back());
          path.pop_back();
        }
        scores.push_back({-1, model.next(item_of[path], generated)});
      }
      const std::vector<ItemScore> judged = requests.judge(scores);
      for (size_t i = 0; i < items.size(); ++i) {
        CAPTURE(name);
        CAPTURE(trial);
        CAPTURE(i);
        std::vector<int32_t> plain_output;
        const double plain = decode_plainly(requests, tokenizer, config, model, i, &plain_output);
        std::vector<int32_t> output = judged[i].output;
        double fast = judged[i].metric;
        ++all;
        early += judged[i].decided ? 1 : 0;
        if (!judged[i].decided) {
          std::optional<std::vector<double>> verdict;
          while (!verdict) {
            output.push_back(model.next(i, output));
            const bool ended = static_cast<int32_t>(output.size()) >= task.max_new;
            verdict = requests.verdict(i, output, ended);
          }
          fast = verdict->front();
          ++open;
        }
        CAPTURE(tokenizer.decode(output, false));
        CHECK(fast == plain);
        REQUIRE(output.size() <= plain_output.size());  // never read on behind the end
        CHECK(std::equal(output.begin(), output.end(), plain_output.begin()));
        right += plain > 0 ? 1 : 0;
      }
    }
  }
  CHECK(right > all / 20);  // the comparison saw right answers,
  CHECK(early > all / 20);  // items settled without decoding
  CHECK(open > all / 20);   // and items decoded to the verdict
}

TEST_CASE("requests: the right answer is verified without decoding, whichever tokenizer") {
  for (const char* name : {"qwen", "metaspace", "sentencepiece", "prepend", "smol"}) {
    CAPTURE(name);
    const Tokenizer tokenizer = tokenizer_of(name);
    for (const char* prompt : {"Reverse: a b c\nReversed:", "Sum: ", "Line:\n"}) {
      Task task;
      task.protocol = "harness";
      task.kind = TaskKind::kGenerate;
      task.metric = Metric::kExactMatch;
      task.max_new = 40;
      Item item;
      item.prompt = prompt;
      item.references = {"c b a"};
      const Requests requests(task, {item}, tokenizer, config_of(tokenizer));
      CHECK(requests.prompt_tokens(0) == tokenizer.encode(prompt, true));  // also its blank at the end
      std::vector<TokenScore> scores;
      for (const ScorePosition& position : requests.prompts().scores)
        scores.push_back({-0.5f, position.target});
      const ItemScore right = requests.judge(scores)[0];
      CHECK(right.decided);
      CHECK(right.metric == 1);
      CHECK(right.right_loglik == doctest::Approx(-0.5));
      // Whatever else comes first settles it the other way.
      const int32_t other = tokenizer.encode("x", false).back();
      for (TokenScore& score : scores) score.argmax = other;
      const ItemScore wrong = requests.judge(scores)[0];
      CHECK(wrong.decided);
      CHECK(wrong.metric == 0);
      CHECK(wrong.output == std::vector<int32_t>{other});
    }
  }
}
