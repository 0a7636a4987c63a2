// Task files and their items: YAML, NUL, JSONL.
#include "loaders/tasks/task.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Scratch scratch;
  const std::string text = fuzz::text_of(data, size);
  const size_t end = std::min(text.find('\0'), text.size());
  eep::Task task;
  const char* protocol = size % 2 == 0 ? "harness" : "eep";
  if (!fuzz::accepts([&] { task = eep::parse_task(text.substr(0, end), "fuzz.yaml", protocol); })) return 0;
  const size_t begin = std::min(end + 1, size);
  scratch.write("items.jsonl", data + begin, size - begin);
  task.data = {{"train", scratch.file("items.jsonl")}};  // never a path out of the input
  std::vector<eep::Item> items;
  if (!fuzz::accepts([&] { items = eep::load_items(task, "train"); })) return 0;
  fuzz::demand(!items.empty(), "no items and no error");
  eep::items_hash(items);
  for (const eep::Item& item : items) {
    if (task.kind == eep::TaskKind::kMultipleChoice) {
      fuzz::demand(item.label >= 0 && item.label < static_cast<int32_t>(item.choices.size()),
                   "no such choice");
    } else {
      eep::extract_answer(task.extract, item.prompt);
    }
  }
  return 0;
}
