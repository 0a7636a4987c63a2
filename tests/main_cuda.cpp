// main of tests_cuda: one line and 77 where no GPU can run the cases, the GPU's name above them where one
// can. Each case is named before it runs, so that a log shows which one did not end.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "kernels/common/error.h"
#include "kernels/gpu/gpu_memory.h"

namespace {

class Names : public doctest::IReporter {
 public:
  explicit Names(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData& test) override {
    std::printf("-- %s\n", test.m_name);
    std::fflush(stdout);
  }
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    std::printf("-- %s: %d of %d checks, %.2f s\n", stats.testCaseSuccess ? "ok" : "FAILED",
                stats.numAssertsCurrentTest - stats.numAssertsFailedCurrentTest, stats.numAssertsCurrentTest,
                stats.seconds);
    std::fflush(stdout);
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("names", 1, Names);

}  // namespace

int main(int argc, char** argv) {
  try {
    eep::close_cuda(eep::open_cuda(0));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tests_cuda: %s\n", error.what());
    return 77;
  }
  std::printf("%s\n", eep::device_text_cuda(0).c_str());
  return doctest::Context(argc, argv).run();
}
