#include "experiments/report/card.h"

#include <fmt/format.h>

#include "experiments/report/figures.h"
#include "experiments/report/plan_facts.h"

namespace eep {
namespace {

// Text in a cell or a line of Markdown: one line, and nothing that Markdown or HTML would read.
std::string plain(const std::string& text) {
  std::string out;
  for (const char c : printable(text)) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      if (std::string_view("|`*_[]\\").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
  }
  return out;
}

std::string last_part(const std::string& path) {
  const size_t slash = path.find_last_of('/', path.find_last_not_of('/'));
  return slash == std::string::npos ? path : path.substr(slash + 1, path.find_last_not_of('/') - slash);
}

// The name of a model: its folder, or of a folder in a hub's cache the model's own.
std::string model_name(const std::string& path) {
  const size_t at = path.find("/models--");
  if (at == std::string::npos) return last_part(path);
  std::string name = path.substr(at + 9, path.find('/', at + 9) - at - 9);
  const size_t dashes = name.find("--");
  if (dashes != std::string::npos) name.replace(dashes, 2, "/");
  return name;
}

// A command line with the names of its files alone.
std::string without_paths(const std::string& command) {
  std::string out, word;
  for (const char c : command + " ") {
    if (c != ' ') {
      word += c;
      continue;
    }
    const size_t equals = word.find("=/");
    if (word.starts_with('/')) {
      word = last_part(word);
    } else if (equals != std::string::npos) {
      word = word.substr(0, equals + 1) + last_part(word.substr(equals + 1));
    }
    out += (out.empty() ? "" : " ") + word;
    word.clear();
  }
  return out;
}

std::string score_text(const std::optional<SplitNumbers>& numbers) {
  if (!numbers) return "-";
  std::string text = fmt::format("{:.1f}", 100 * numbers->score);
  if (numbers->interval)
    text += fmt::format(" [{:.1f}, {:.1f}]", 100 * numbers->interval->low, 100 * numbers->interval->high);
  return text;
}

std::string table_of(const RunRecord& run) {
  std::string text =
      "| method | experts | size | test % [95%] | points against full | recovery % | p |\n"
      "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n";
  const MethodNumbers* const full = run.full();
  for (const MethodNumbers& method : run.methods) {
    const std::optional<SplitNumbers>& test = method.test;
    text += fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", plain(method.name), method.experts,
                        gib_text(method.bytes), score_text(test),
                        test && full != nullptr && full->test && &method != full
                            ? fmt::format("{:+.1f}", 100 * (test->score - full->test->score))
                            : "-",
                        test && test->recovery ? fmt::format("{:.1f}", 100 * *test->recovery) : "-",
                        test && test->p_vs_full ? fmt::format("{:.2g}", *test->p_vs_full) : "-");
  }
  return text;
}

std::string how_made(const RunRecord& run) {
  const MethodNumbers* const last = run.final_method();
  std::string text;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) text += fmt::format("| {} | {} |\n", name, plain(value));
  };
  text += "| | |\n| --- | --- |\n";
  add("source", model_name(run.fact("model", "path")));
  add("source hash", run.fact("model", "hash"));
  if (last != nullptr) {
    add("experts a layer", fmt::format("{}, {} active per token", last->experts, last->top_k));
    add("size", gib_text(last->bytes));
    add("plan", last->name);
  }
  add("task", run.task + (run.protocol.empty() ? "" : ", protocol " + run.protocol));
  add("metric", run.metric);
  for (const char* split : {"train", "dev", "test"}) add(split, run.fact("data", split));
  add("merge algorithm", run.algorithm);
  add("evaluations", std::to_string(run.archive.size()));
  add("seed", run.seed);
  if (last != nullptr && last->plan) {
    const bool logits = last->plan->router_space == RouterSpace::kLogits;
    add("router", logits ? "logits of the experts that stay, softmax over them alone"
                         : "softmax over all of the source's experts, mapped afterwards");
  }
  add("program", run.fact("", "version").empty() ? "" : "eep " + run.fact("", "version"));
  return text;
}

}  // namespace

std::string model_card_of_runs(std::span<const RunRecord> runs) {
  const RunRecord& first = runs[0];
  const std::string source = model_name(first.fact("model", "path"));
  std::string card = "---\n";
  if (!source.empty())
    card += "base_model: " + Json(source).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  card += "tags: [mixture-of-experts, expert-pruning, eep]\n---\n\n";
  card += fmt::format("# {}\n\n", plain(runs.size() > 1 ? fmt::format("{} runs over {}", runs.size(), source)
                                        : first.name.empty() ? first.label
                                                             : first.name));
  card +=
      "Experts pruned and merged without gradients (Efficient Expert Pruning, arXiv 2407.00945). Nothing but "
      "the "
      "routers' gates and the routed experts differs from the source.\n";
  for (const RunRecord& run : runs) {
    if (runs.size() > 1) card += fmt::format("\n## {}\n", plain(run.label));
    if (!run.finished) card += "\nThis run has not finished: there are no final scores.\n";
    if (run.finished) card += "\n" + table_of(run);
    card += "\n" + how_made(run);
    const std::string command = without_paths(run.fact("", "command"));
    if (!command.empty()) card += "\nMade by\n\n    " + printable(command) + "\n";
  }
  card +=
      "\nScores are of the task's own test items, intervals by Wilson (right or wrong) or the normal "
      "approximation, p "
      "by McNemar's exact test or sign flips on the same items. A search fits its train items: other tasks "
      "may lose "
      "more than the table says, and were not looked at.\n";
  return card;
}

}  // namespace eep
