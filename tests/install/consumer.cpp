// Uses one function of two rooms through the installed headers and libraries.
#include <cstdio>

#include "eep/engine/expert_plan.h"
#include "eep/kernels/noise.h"

int main() {
  const eep::ExpertPlan plan = eep::identity_plan({1, 1}, 4, 2);
  eep::check_plan(plan, {1, 1}, 4, "consumer");
  // Random123's known answer: Philox4x32-10 of zeros.
  const bool known = eep::philox({0, 0, 0, 0}, 0)[0] == 0x6627e8d5u;
  std::printf("%zu groups, %s\n", plan.groups.size(), known ? "ok" : "wrong numbers");
  return known ? 0 : 1;
}
