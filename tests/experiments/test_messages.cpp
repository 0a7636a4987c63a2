// What is said on stderr, and amounts of memory.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "experiments/program/messages.h"
#include "experiments/program/options.h"
#include "tests/experiments/process.h"

using namespace eep;

TEST_CASE("messages: the level decides what is shown, the log has all of it") {
  test::TempDir directory;
  std::ostringstream err;
  Messages messages(err, false, "warn");
  messages.log_to(directory("log.txt"));
  messages.info("one");
  messages.warn("two");
  messages.error(Error(ExitCode::kData, "a\nfile", "is\twrong", "try\nagain"));
  CHECK(err.str() == "eep: warning: two\neep: error: a?file: is?wrong\neep: hint: try?again\n");
  CHECK(test::slurp(directory("log.txt")) == "one\n" + err.str());
  CHECK_THROWS_AS(messages.log_to(directory("none/log.txt")), Error);
}

TEST_CASE("messages: no bar and no colour without a terminal, both with one") {
  std::ostringstream plain, terminal;
  Messages on_file(plain, false, "info"), on_terminal(terminal, true, "info");
  for (Messages* messages : {&on_file, &on_terminal}) {
    messages->progress("merge", 0, 4, "best 0.5");
    messages->progress("merge", 1, 4, "best 0.5");  // too soon after the first
    messages->progress("merge", 4, 4, "best 0.75");
    messages->warn("done");
  }
  CHECK(plain.str().find("merge 4/4") == 0);
  CHECK(plain.str().find("best 0.75\neep: warning: done\n") != std::string::npos);
  CHECK(plain.str().find('\033') == std::string::npos);
  CHECK(plain.str().find('\r') == std::string::npos);
  CHECK(terminal.str().find("[========================] merge 4/4") != std::string::npos);
  CHECK(terminal.str().find("\033[33meep: warning: done\033[0m\n") != std::string::npos);
}

TEST_CASE("messages: bytes are over once") {
  std::ostringstream err;
  Messages messages(err, true, "info");
  for (size_t done : {size_t{1}, size_t{700}, size_t{999}}) messages.byte_progress("export", done, 1000);
  CHECK(err.str().empty());
  ::usleep(1100000);  // what is over within a second is not worth a line
  messages.byte_progress("export", 1000, 1000);
  messages.finish_progress();
  const std::string said = err.str();
  CHECK(said.find("] export 1/1, 0.") != std::string::npos);
  CHECK(said.ends_with("/s, 0:00 left, MiB\n"));
  CHECK(std::count(said.begin(), said.end(), '\n') == 1);
}

TEST_CASE("messages: brief work is passed over, and a name that begins again has a new clock") {
  std::ostringstream err;
  Messages messages(err, false, "info");
  for (int64_t done : {0, 5, 10}) messages.brief_progress("choosing", done, 10, "answers");
  CHECK(err.str().empty());
  messages.progress("choosing", 10, 10, "of a search");
  CHECK(err.str().find("choosing 10/10, ") == 0);
  CHECK(err.str().ends_with(" left, of a search\n"));
  messages.progress("choosing", 2, 10, "the next");  // less done: the first of a new clock
  messages.progress("choosing", 2, 2, "the next");
  CHECK(err.str().ends_with("\nchoosing 2/2, the next\n"));
}

TEST_CASE("messages: durations") {
  CHECK(duration_text(-1) == "0:00");
  CHECK(duration_text(65.4) == "1:05");
  CHECK(duration_text(7384) == "2:03:04");
}

TEST_CASE("options: amounts of memory") {
  CHECK(parse_memory("1000000") == 1000000);
  CHECK(parse_memory("512k") == 512000);
  CHECK(parse_memory("1.5G") == 1500000000);
  CHECK(parse_memory("0.5M") == 500000);
  const double machine =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  CHECK(parse_memory("0.5") == static_cast<size_t>(machine * 0.5));
  for (const char* text : {"", "k", "0", "-1", "nan", "inf", "1e300", "5X", "5 M", "12MM", "1.5"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_memory(text), Error);
  }
}
