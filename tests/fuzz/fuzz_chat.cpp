// Chat templates: any text is a template.
#include "loaders/text/chat_template.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text = fuzz::text_of(data, size);
  fuzz::accepts([&] {
    eep::render_chat({text, "<s>", "</s>", "fuzz"},
                     {{"system", "S"}, {"user", " a "}, {"assistant", "b"}, {"user", "c\n"}});
  });
  return 0;
}
