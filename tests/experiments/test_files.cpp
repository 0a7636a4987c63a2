// Files that are not what they should be: links in a circle, directories and pipes in a file's place, no
// permission, read errors, models larger than memory. One line that says so, the right exit code, no waiting.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>

#include "engine/raw_model.h"
#include "experiments/program/mapped_fault.h"
#include "tests/experiments/process.h"
#include "tests/experiments/sparse_model.h"

using namespace eep;
using namespace eep::test;

namespace {

namespace fs = std::filesystem;

// A copy of a golden model, to damage.
std::string copy_model(const TempDir& directory) {
  fs::copy(kGoldenModel, directory("model"), fs::copy_options::recursive);
  return directory("model");
}

void check_refused(const Outcome& outcome, int code, const std::string& what) {
  check_one_error(outcome, code, what);
  const std::string rest = outcome.err.substr(outcome.err.find("eep: error: "));
  CHECK(rest.substr(0, rest.find('\n')).find(what) != std::string::npos);  // not in the hint
}

void replace_by_pipe(const std::string& path) {
  fs::remove(path);
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
}

void replace_by_link(const std::string& path, const std::string& target) {
  fs::remove(path);
  fs::create_symlink(target, path);
}

}  // namespace

TEST_CASE("files: links in a circle and links to nothing") {
  for (const std::string name : {"config.json", "model.safetensors", "generation_config.json"}) {
    CAPTURE(name);
    TempDir directory;
    const std::string model = copy_model(directory);
    replace_by_link(model + "/" + name, name);
    check_refused(eep::test::eep({"inspect", model}), 74,
                  name + ": cannot open: Too many levels of symbolic links");
    replace_by_link(model + "/" + name, "gone");
    check_refused(eep::test::eep({"inspect", model}), 66, name + ": cannot open: No such file");
  }
  TempDir directory;
  fs::create_symlink("b", directory("a"));
  fs::create_symlink("a", directory("b"));
  check_refused(eep::test::eep({"inspect", directory("a")}), 74, "Too many levels of symbolic links");
  check_refused(eep::test::eep({"verify", directory("a")}), 74, "Too many levels of symbolic links");
  check_refused(eep::test::eep({"run", directory("a")}), 74, "Too many levels of symbolic links");
  const Outcome exported =
      eep::test::eep({"export", kGoldenModel, "--plan", kGoldenModel + "/plans/one_hot_logits.json", "--out",
                      directory("a")});
  check_refused(exported, 2, "is a file or a link");
  const std::string model = copy_model(directory);
  replace_by_link(model + "/tokenizer.json", "gone");
  check_refused(eep::test::eep({"tokenize", model, "--text", "a"}), 66, "tokenizer.json: cannot open");
  const Outcome side = eep::test::eep(
      {"export", model, "--plan", kGoldenModel + "/plans/one_hot_logits.json", "--out", directory("out")});
  check_refused(side, 66, "tokenizer.json: cannot open");
  CHECK(!fs::exists(directory("out")));
  CHECK(!fs::exists(directory("out.partial")));
}

TEST_CASE("files: directories and pipes in a file's place") {
  {
    TempDir directory;
    const std::string model = copy_model(directory);
    fs::remove(model + "/model.safetensors");
    fs::create_directory(model + "/model.safetensors");
    check_refused(eep::test::eep({"inspect", model}), 74, "model.safetensors: not a regular file");
    fs::remove(model + "/model.safetensors");
    replace_by_pipe(model + "/model.safetensors");
    check_refused(eep::test::eep({"inspect", model}), 74, "model.safetensors: not a regular file");
  }
  {
    TempDir directory;
    const std::string model = copy_model(directory);
    fs::remove(model + "/model.safetensors");
    directory.write("model/model.safetensors.index.json",
                    R"({"metadata": {}, "weight_map": {"model.norm.weight": "plans"}})");
    check_refused(eep::test::eep({"inspect", model}), 74, "plans: not a regular file");
    fs::remove(model + "/config.json");
    fs::create_directory(model + "/config.json");
    fs::copy(kGoldenModel + "/model.safetensors", model + "/model.safetensors");
    check_refused(eep::test::eep({"inspect", model}), 74, "config.json: cannot read: Is a directory");
  }
  TempDir directory;
  check_refused(eep::test::eep({"convert", directory("."), "--out", directory("out")}), 74,
                "not a regular file");
  check_refused(eep::test::eep({"import-coefficients", directory("."), "--out", directory("p.json")}), 74,
                "not a regular file");
  check_refused(eep::test::eep({"inspect", kGoldenModel + "/config.json"}), 66, "no such model directory");
}

TEST_CASE("files: a pipe that nothing is written to is not waited for") {
  TempDir directory;
  const std::string model = copy_model(directory);
  replace_by_pipe(model + "/config.json");
  check_refused(eep::test::eep({"inspect", model}), 74, "a pipe that nothing is written to");
}

TEST_CASE("files: a plan may come through a pipe") {
  TempDir directory;
  const std::string plan = kGoldenModel + "/plans/one_hot_logits.json", pipe = directory("pipe");
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const pid_t writer = ::fork();
  REQUIRE(writer >= 0);
  if (writer == 0) {
    ::usleep(100000);  // the reader is there first
    std::ofstream(pipe) << slurp(plan);
    ::_exit(0);
  }
  const std::vector<std::string> ids{"--ids", "1 2 3", "--out"};
  const Outcome outcome = eep::test::eep(
      {"logits", kGoldenModel, "--ids", "1 2 3", "--out", directory("l.safetensors"), "--plan", pipe});
  CAPTURE(outcome.err);
  CHECK(outcome.code == 0);
  ::waitpid(writer, nullptr, 0);
}

TEST_CASE("files: read errors") {
  TempDir directory;
  const std::string model = copy_model(directory);
  replace_by_link(model + "/config.json", "/proc/self/mem");  // its first page cannot be read
  check_refused(eep::test::eep({"inspect", model}), 74, "config.json: cannot read: Input/output error");

  const std::string file = directory.write("cut", std::string(1 << 16, 'x')), err = directory("err");
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    report_mapped_faults();
    const MappedFile mapped(file);
    if (::truncate(file.c_str(), 0) != 0) ::_exit(1);
    ::_exit(static_cast<const volatile uint8_t*>(mapped.data())[5000]);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 74);
  CHECK(slurp(err) ==
        "eep: error: " + file + ": cannot read: the disk failed, or the file was cut short while in use\n");
}

TEST_CASE("files: missing permissions") {
  RunLimits nobody;
  nobody.unprivileged = true;
  if (eep::test::eep({"--version"}, nobody).code != 0) {
    MESSAGE("skipped: another user cannot run the program here");
    return;
  }
  TempDir directory;
  const std::string model = copy_model(directory);
  REQUIRE(::chmod(directory("").c_str(), 0755) == 0);
  if (eep::test::eep({"inspect", model}, nobody).code != 0) {
    MESSAGE("skipped: another user cannot reach temporary files here");
    return;
  }
  for (const char* name : {"config.json", "model.safetensors"}) {
    CAPTURE(std::string(name));
    const std::string path = model + "/" + name;
    REQUIRE(::chmod(path.c_str(), 0) == 0);
    check_refused(eep::test::eep({"inspect", model}, nobody), 74,
                  std::string(name) + ": cannot open: Permission denied");
    REQUIRE(::chmod(path.c_str(), 0644) == 0);
  }
  REQUIRE(::chmod(model.c_str(), 0644) == 0);  // listed, but nothing in it can be opened
  check_refused(eep::test::eep({"inspect", model}, nobody), 74, "Permission denied");
  REQUIRE(::chmod(model.c_str(), 0755) == 0);
  REQUIRE(::chmod(directory("").c_str(), 0600) == 0);
  check_refused(eep::test::eep({"inspect", model}, nobody), 74, "Permission denied");
  REQUIRE(::chmod(directory("").c_str(), 0755) == 0);

  const std::string plan = model + "/plans/one_hot_logits.json";
  fs::create_directory(directory("read_only"));
  REQUIRE(::chmod(directory("read_only").c_str(), 0555) == 0);
  const std::string out = directory("read_only/out");
  check_refused(eep::test::eep({"export", model, "--plan", plan, "--out", out}, nobody), 74,
                "Permission denied");
  check_refused(eep::test::eep({"logits", model, "--ids", "1", "--out", out}, nobody), 74,
                "Permission denied");
  check_refused(eep::test::eep({"run", kSource + "/experiments/demo/demo.yaml", "--output", out}, nobody), 74,
                "Permission denied");
  CHECK(fs::is_empty(directory("read_only")));
}

TEST_CASE("files: a model larger than memory") {
  TempDir directory;
  const int64_t memory = static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  SparseModel large;
  large.vocab_size = int64_t{1} << 23;
  large.hidden_size = memory / large.vocab_size / 64 * 64 + 64;  // embeddings of more than twice the memory
  if (!large.write(directory, "model")) {
    MESSAGE("skipped: no file of " << 2 * large.vocab_size * large.hidden_size << " bytes can be made here");
    return;
  }
  const Outcome inspected = eep::test::eep({"inspect", directory("model")});
  CAPTURE(inspected.err);
  CHECK(inspected.code == 0);
  RunLimits small;
  small.address_space = rlim_t{1} << 30;
  check_refused(eep::test::eep({"inspect", directory("model")}, small), 74, "model.safetensors: cannot map");
}
