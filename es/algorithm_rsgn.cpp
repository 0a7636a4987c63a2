// rsgn. Two generations make a step: theta and P probes; theta and the steps of three ridges, on other items.
// The best of the latter is the new theta, and its ridge the new one. With memory three more steps stand for
// choice, of a quadratic that all probes have measured. State: which evaluation is theta, the ridges, how far
// the random basis is used up, and the quadratic, all of them functions of the archive.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "es/algorithms.h"
#include "es/coordinates.h"
#include "es/curvature_memory.h"
#include "es/gauss_newton.h"
#include "es/rsgn.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

constexpr std::array<double, 3> kRidgeFactors = {0.5, 1.0, 2.0};
constexpr double kRejected = 4.0;  // ridge times this where theta itself is the best
constexpr std::array<double, 3> kMemoryFactors = {0.3, 1.0, 3.3};
constexpr int64_t kMostRemembered = 8192;  // coefficients: 0.5 GB

class Rsgn final : public Algorithm {
 public:
  explicit Rsgn(const RsgnParameters& parameters)
      : parameters_(parameters), ridge_(parameters.ridge), memory_ridge_(parameters.ridge) {}

  AlgorithmNeeds needs() const override { return {true, true, true, parameters_.memory}; }

  void begin(PhaseSetting setting) override {
    setting_ = std::move(setting);
    const int64_t least = 2 + trials();
    if (setting_.evaluations < least) {
      throw Error(ExitCode::kConfig, "search.merge.evaluations",
                  "too few for one step of rsgn" +
                      expected_got(fmt::format("{} or more", least), setting_.evaluations));
    }
    if (parameters_.memory) check_remembered();
    if (!setting_.starts.empty()) start_at(setting_.starts.back().genome);
  }

  int64_t shard(const Archive& archive) const override {
    if (theta_ < 0 && probes_ < 0) return setting_.shard;
    const int64_t last = archive[archive.size() - 1].result.n;
    const int64_t most = std::min(parameters_.growth_most * setting_.shard,
                                  std::max(setting_.shard, setting_.train_items / 2));
    if (probes_ >= 0 || last >= most || gains(archive)) return last;
    return std::min(2 * last, most);
  }

  std::vector<Candidate> ask(const AskContext& context) const override {
    return probes_ < 0 ? probes(context) : steps(context);
  }

  void tell(const Archive& archive, int64_t begin, int64_t end) override {
    if (begin < setting_.phase_begin) {
      if (end == setting_.phase_begin && !basis_) start_at(archive[archive.best(0, end)].genome);
      return;
    }
    if (probes_ < 0) {
      probes_ = begin;
      theta_ = begin;
      const auto [basis, row] = directions_of(end - begin - 1);
      basis_number_ = basis;
      basis_row_ = row;
      if (memory_)
        memory_->learn(basis_->rows(basis, row, end - begin - 1), quadratic_at_zero(rivals(archive, end)));
      return;
    }
    int64_t best = begin;
    for (int64_t i = begin + 1; i < end; ++i) {
      const double value = archive[i].result.tiebreak;
      if (value > archive[best].result.tiebreak || std::isnan(archive[best].result.tiebreak)) best = i;
    }
    const auto place = static_cast<size_t>(best - begin);  // 0: theta; the steps of ridges; those of memory
    const auto scale = [&](double* ridge, double factor) {
      *ridge = std::min(std::max(*ridge * factor, parameters_.ridge_least), parameters_.ridge_most);
    };
    if (place <= kRidgeFactors.size()) scale(&ridge_, place == 0 ? kRejected : kRidgeFactors[place - 1]);
    if (place == 0) scale(&memory_ridge_, kRejected);
    if (place > kRidgeFactors.size()) scale(&memory_ridge_, kMemoryFactors[place - 1 - kRidgeFactors.size()]);
    if (memory_) {
      std::vector<double> moved = to_coordinates(archive[best].genome);
      const std::vector<double> from = to_coordinates(archive[begin].genome);
      for (size_t i = 0; i < moved.size(); ++i) moved[i] -= from[i];
      memory_->move(moved);
    }
    basis_row_ += begin - probes_ - 1;
    theta_ = best;
    probes_ = -1;
  }

  int64_t result() const override { return theta_; }

 private:
  void check_remembered() const {
    int64_t coefficients = 0;
    for (const int32_t kept : setting_.space.kept) coefficients += 2 * int64_t{kept} * setting_.space.experts;
    if (coefficients <= kMostRemembered) return;
    throw Error(ExitCode::kConfig, "search.merge.rsgn.memory",
                "too many coefficients to remember" +
                    expected_got(fmt::format("{} or fewer", kMostRemembered), coefficients));
  }

  void start_at(const Genome& genome) {
    start_ = genome;
    const size_t d = to_coordinates(genome).size();
    basis_.emplace(setting_.seed, static_cast<int64_t>(d));
    if (parameters_.memory) memory_.emplace(d);
  }

  // Evaluations that judge a step: theta, and a step of each ridge.
  int64_t trials() const {
    return 1 + static_cast<int64_t>(kRidgeFactors.size() + (parameters_.memory ? kMemoryFactors.size() : 0));
  }

  // What the probes of evaluations [probes_, end) measured.
  Rivals rivals(const Archive& archive, int64_t end) const {
    std::vector<const Decisions*> probes;
    for (int64_t i = probes_ + 1; i < end; ++i) probes.push_back(&archive[i].result.decisions);
    return make_rivals(archive[probes_].result.decisions, probes, parameters_.length);
  }

  int64_t rows() const { return basis_->rows(); }

  // Directions of the next generation: what is left is spent evenly on as many steps as have P directions
  // each, or on one more where that would be more directions than there are.
  int64_t count_directions(int64_t left) const {
    const int64_t most = std::min<int64_t>(parameters_.directions, rows());
    int64_t generations = std::max<int64_t>(1, left / (most + 1 + trials()));
    if (left / generations - 1 - trials() > rows()) ++generations;
    return std::clamp<int64_t>(left / generations - 1 - trials(), 1, rows());
  }

  // Which rows of which basis `count` directions are: the next ones, or where too few are left, the first of
  // another basis.
  std::pair<uint32_t, int64_t> directions_of(int64_t count) const {
    if (basis_row_ + count <= rows()) return {basis_number_, basis_row_};
    return {basis_number_ + 1, 0};
  }

  const Genome& theta(const Archive& archive) const { return theta_ >= 0 ? archive[theta_].genome : start_; }

  std::vector<Candidate> probes(const AskContext& context) const {
    const Genome& center = theta(context.archive);
    const std::vector<double> at = to_coordinates(center);
    const int64_t count = std::min<int64_t>(count_directions(left(context.archive)), context.count - 1);
    const auto [basis, first] = directions_of(count);
    const std::vector<double> rows = basis_->rows(basis, first, count);
    std::vector<Candidate> candidates{{center, "mean"}};
    std::vector<double> moved(at.size());
    for (size_t row = 0; row < static_cast<size_t>(count); ++row) {
      for (size_t i = 0; i < at.size(); ++i)
        moved[i] = at[i] + parameters_.length * rows[row * at.size() + i];
      candidates.push_back({from_coordinates(center, moved), "probe"});
    }
    return candidates;
  }

  std::vector<Candidate> steps(const AskContext& context) const {
    const Archive& archive = context.archive;
    const Genome& center = archive[theta_].genome;
    const int64_t count = archive.size() - probes_ - 1;
    const Rivals measured = rivals(archive, archive.size());
    const std::vector<double> rows = basis_->rows(basis_number_, basis_row_, count);
    const std::vector<double> at = to_coordinates(center);
    std::vector<Candidate> candidates{{center, "mean"}};
    for (const double factor : kRidgeFactors) {
      const std::vector<double> step = ridge_step(measured, ridge_ * factor);
      std::vector<double> moved = at;
      for (size_t row = 0; row < step.size(); ++row) {
        for (size_t i = 0; i < at.size(); ++i) moved[i] += step[row] * rows[row * at.size() + i];
      }
      candidates.push_back({from_coordinates(center, moved), "step"});
    }
    for (size_t i = 0; memory_ && i < kMemoryFactors.size(); ++i) {
      std::vector<double> moved = memory_->step(memory_ridge_ * kMemoryFactors[i]);
      for (size_t k = 0; k < at.size(); ++k) moved[k] += at[k];
      candidates.push_back({from_coordinates(center, moved), "remembered"});
    }
    if (static_cast<int64_t>(candidates.size()) > context.count)
      candidates.resize(static_cast<size_t>(context.count));
    return candidates;
  }

  int64_t left(const Archive& archive) const {
    return setting_.phase_begin + setting_.evaluations - archive.size();
  }

  // Has the step that was just told gained more than its error? Per item, against theta on the same items.
  bool gains(const Archive& archive) const {
    int64_t first = archive.size() - 1;
    while (first > 0 && archive[first - 1].generation == archive[first].generation) --first;
    if (theta_ == first) return false;
    const std::vector<double> before = item_means(archive[first].result.decisions);
    const std::vector<double> after = item_means(archive[theta_].result.decisions);
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < before.size(); ++i) {
      sum += after[i] - before[i];
      squares += (after[i] - before[i]) * (after[i] - before[i]);
    }
    const auto n = static_cast<double>(before.size());
    const double mean = sum / n;
    const double error = std::sqrt(std::max(0.0, squares / n - mean * mean) / n);
    return mean >= parameters_.growth_errors * error;
  }

  RsgnParameters parameters_;
  PhaseSetting setting_;
  Genome start_;
  mutable std::optional<RandomBasis> basis_;  // a cache: its rows depend on their address alone
  double ridge_, memory_ridge_;
  std::optional<CurvatureMemory> memory_;
  int64_t theta_ = -1;   // evaluation
  int64_t probes_ = -1;  // first evaluation of the probes whose steps are next, or -1
  uint32_t basis_number_ = 0;
  int64_t basis_row_ = 0;  // next direction; while probes_ >= 0 the first of theirs
};

}  // namespace

void visit(ParameterVisitor& v, RsgnParameters& p) {
  v.integer("directions", p.directions, 1, 4096);
  v.number("length", p.length, 1e-4, 10);
  v.number("ridge", p.ridge, 1e-6, 1e6);
  v.number("ridge_least", p.ridge_least, 1e-6, 1e6);
  v.number("ridge_most", p.ridge_most, 1e-6, 1e6);
  v.number("growth_errors", p.growth_errors, 0, 100);
  v.integer("growth_most", p.growth_most, 1, 1024);
  v.flag("memory", p.memory);
}

AlgorithmRow rsgn_algorithm() {
  return own_algorithm<Rsgn, RsgnParameters>(
      "rsgn", "Gauss-Newton steps in random directions, from every decision's log-probability", false, true);
}

}  // namespace eep
