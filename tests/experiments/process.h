// The program as a process: what it prints, how it ends, and killing it at a chosen moment.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace eep::test {

inline std::string slurp(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// A directory of this test alone, removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "eep-program-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator()(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream((*this)(name), std::ios::binary) << text;
    return (*this)(name);
  }

 private:
  std::string path_;
};

struct Outcome {
  int code = -1;  // exit code, or -signal
  std::string out, err;

  size_t error_lines() const {
    size_t lines = 0;
    for (char c : err) lines += c == '\n';
    return lines;
  }
};

struct RunLimits {
  int signal = 0;  // sent after `microseconds`
  int64_t microseconds = 0;
  std::string once_there{};                                      // a file: they begin when it exists
  int times = 1;                                                 // that it is sent, 50 ms apart
  std::vector<std::string> launcher{};                           // words before the program: mpirun -n 2
  std::vector<std::pair<std::string, std::string>> variables{};  // of the environment
  rlim_t file_size = RLIM_INFINITY;
  rlim_t address_space = RLIM_INFINITY;
  rlim_t private_memory = RLIM_INFINITY;  // what is not a view of a file
  bool unprivileged = false;              // as user nobody: permissions mean nothing to root
};

inline Outcome eep(const std::vector<std::string>& arguments, const RunLimits& limits = {}) {
  TempDir scratch;
  const std::string out = scratch("out"), err = scratch("err");
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::setenv("EEP_TASKS", (std::string(EEP_SOURCE_DIR) + "/experiments/tasks").c_str(), 1);
    for (const auto& [name, value] : limits.variables) ::setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> argv;
    for (const std::string& word : limits.launcher) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(const_cast<char*>(limits.launcher.empty() ? "eep" : EEP_PROGRAM));
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    if (limits.file_size != RLIM_INFINITY) {
      const rlimit limit{limits.file_size, limits.file_size};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      ::signal(SIGXFSZ, SIG_IGN);
    }
    for (const auto& [kind, bytes] :
         {std::pair{RLIMIT_AS, limits.address_space}, {RLIMIT_DATA, limits.private_memory}}) {
      const rlimit limit{bytes, bytes};
      if (bytes != RLIM_INFINITY) ::setrlimit(kind, &limit);
    }
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    constexpr uid_t kNobody = 65534;
    if (limits.unprivileged && ::geteuid() == 0 && (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0)) {
      ::_exit(126);
    }
    if (limits.launcher.empty()) ::execv(EEP_PROGRAM, argv.data());
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  if (limits.signal != 0) {
    siginfo_t over{};
    while (!limits.once_there.empty() && !std::filesystem::exists(limits.once_there) && over.si_pid == 0) {
      ::usleep(1000);
      ::waitid(P_PID, static_cast<id_t>(child), &over, WEXITED | WNOHANG | WNOWAIT);
    }
    ::usleep(static_cast<useconds_t>(limits.microseconds));
    for (int time = 0; time < limits.times; ++time) {
      if (time > 0) ::usleep(50000);
      ::kill(child, limits.signal);
    }
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  outcome.out = slurp(out);
  outcome.err = slurp(err);
  return outcome;
}

// One error line (and at most a hint) at the end of stderr, whatever was said of the work before it; `what`
// is in it, or in the hint.
inline void check_one_error(const Outcome& outcome, int code, const std::string& what) {
  CAPTURE(outcome.err);
  CHECK(outcome.code == code);
  const size_t at = outcome.err.find("eep: error: ");
  REQUIRE(at != std::string::npos);
  const std::string rest = outcome.err.substr(at);
  CHECK(rest.find(what) != std::string::npos);
  CHECK(std::count(rest.begin(), rest.end(), '\n') ==
        (rest.find("eep: hint: ") == std::string::npos ? 1 : 2));
}

// Programs that want a processor, for each that there is: a promise of seconds is one of a machine that is
// ours.
inline int64_t waiting_programs() {
  double load = 0;
  if (::getloadavg(&load, 1) != 1) return 1;
  return 1 + static_cast<int64_t>(load / static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN)));
}

inline const std::string kSource = EEP_SOURCE_DIR;
inline const std::string kDemoModel = kSource + "/experiments/demo/mixtral";
inline const std::string kGoldenModel = kSource + "/tests/golden/mixtral_f32";

}  // namespace eep::test
