// cpu_target: every target can be forced and is then in use; unknown names are a usage error.
#include <doctest/doctest.h>

#include "kernels/common/error.h"
#include "kernels/cpu/cpu_target.h"
#include "kernels/rmsnorm.h"

using namespace eep;

TEST_CASE("cpu_target: forced targets are used, auto is the best") {
  const std::vector<std::string> targets = cpu_targets();
  REQUIRE(!targets.empty());
  CHECK(targets.back() == "plain");
  for (const std::string& target : targets) {
    set_cpu_target(target);
    CHECK(cpu_target() == target);
    float x = 3, weight = 2, out = 0;
    RmsNormArgs args;
    args.x = &x;
    args.rows = args.dim = 1;
    args.weight = &weight;
    args.out = &out;
    rmsnorm_cpu(args, Device{});
    CHECK(out == 2.0f);
    CHECK(cpu_target() == target);
  }
  set_cpu_target("auto");
  CHECK(cpu_target() == targets.front());
  CHECK(cpu_targets() == targets);
}

TEST_CASE("cpu_target: an unknown name is refused and changes nothing") {
  const std::string before = cpu_target();
  try {
    set_cpu_target("mmx");
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kUsage);
    CHECK(std::string(error.what()).find("mmx") != std::string::npos);
    CHECK(std::string(error.what()).find("plain") != std::string::npos);
  }
  CHECK(cpu_target() == before);
}
