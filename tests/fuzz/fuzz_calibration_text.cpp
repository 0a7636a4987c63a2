// Text for calibration, JSON Lines or plain, with a chat template and without: documents have text, each is
// counted, and a second reading gives the same ones.
#include <vector>

#include "loaders/tasks/calibration_text.h"
#include "tests/fuzz/fuzz.h"

namespace {

// What the rows give, up to the one that is refused.
std::vector<std::string> documents(const std::string& path, const eep::CalibrationTextOptions& options) {
  std::vector<std::string> texts;
  fuzz::accepts([&] {
    eep::CalibrationText text(path, options);
    while (const auto document = text.next()) {
      fuzz::demand(!document->text.empty(), "a document without text");
      fuzz::demand(document->line >= 1, "a document without its line");
      texts.push_back(document->text);
    }
    fuzz::demand(text.counts().used == static_cast<int64_t>(texts.size()), "documents are not counted");
  });
  return texts;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Scratch scratch;
  eep::CalibrationTextOptions plain, rendered;
  plain.limit = 7;
  rendered.chat = eep::ChatTemplate{"{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}", "<s>",
                                    "</s>", "fuzz"};
  rendered.render_pairs = true;
  for (const char* name : {"rows.jsonl", "text.txt"}) {
    scratch.write(name, data, size);
    for (const eep::CalibrationTextOptions& options : {plain, rendered}) {
      const std::vector<std::string> first = documents(scratch.file(name), options);
      fuzz::demand(documents(scratch.file(name), options) == first, "another reading gives other texts");
    }
  }
  return 0;
}
