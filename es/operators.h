// operators: the variation and selection operators of EEP's released search, as pure functions. Who is being
// made (seed, generation, individual) is an argument; every random number is addressed with it (es/random.h).
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "es/archive.h"
#include "es/genome.h"
#include "es/parameters.h"

namespace eep {

// How far down the ranking a parent may stand.
enum class ParentRule : uint8_t {
  kWindow,        // the released code's "absolute": within so many points of the best
  kRanking,       // the released code's "ranking": the first so many; for a fitness that is not in points
  kRankedWindow,  // the window, cut to the first so many: where ties are ranked, a plateau still has a slope
  kAuto,          // the one that suits the search's fitness; outside a search kWindow
};

// Defaults are the values of the released code, except the two *_rank, which it does not publish.
struct OperatorParameters {
  int32_t initial = 31;                  // random one-hot genomes at the start (max_init_num + 1)
  double flag_probability = 0.25;        // a matrix takes part (weight_change_prob, transfer_change_prob)
  double row_probability = 0.15;         // a row of a flagged W_EM gets another expert
  double element_probability = 0.25;     // an element of a flagged matrix gets noise
  double sigma = 0.065;                  // of that noise
  double normalise_probability = 0.1;    // a child's W_EM rows are divided by their sums
  double crossover_probability = 0.3;    // merge phase alone
  double crossover_first_parent = 0.6;   // a row, or an unflagged matrix, comes from parent 1
  double mutation_window_points = 3.0;   // percentage points of the metric
  double crossover_window_points = 1.0;  // percentage points of the metric
  int32_t crossover_window_minimum = 6;
  double points_per_unit = 100.0;  // fitness is a fraction: 1.0 is 100 points
  ParentRule parent_rule = ParentRule::kAuto;
  int32_t mutation_rank = 16;  // kRanking, kRankedWindow
  int32_t crossover_rank = 8;  // kRanking, kRankedWindow

  bool operator==(const OperatorParameters&) const = default;
};

void visit(ParameterVisitor& v, OperatorParameters& p);

// kMetric: kWindow; kMetricThenLoglik: kRankedWindow; kLoglik: kRanking.
ParentRule parent_rule_of(FitnessKind kind);

// The child that a number is drawn for.
struct Child {
  uint64_t seed = 0;
  uint32_t generation = 0;
  uint32_t individual = 0;
};

struct GroupFlags {
  bool w_em = false;
  bool w_rm = false;

  bool operator==(const GroupFlags&) const = default;
};

// Each of the 2G matrices with the given probability; drawn again until one is flagged if at_least_one.
std::vector<GroupFlags> draw_flags(int32_t groups, double probability, bool at_least_one, const Child& child);

// Uniform kept-subset of each group, ascending, W_RM = W_EM. `attempt` numbers redraws.
Genome random_one_hot(const GenomeSpace& space, const Child& child, uint32_t attempt);

// Every row of a flagged W_EM, with row_probability, is given an expert drawn from those that no other row
// uses (its own included); W_RM gets the same row. Flags of W_RM are ignored. Never yields an expert twice.
Genome discrete_mutation(const Genome& parent, int32_t experts, std::span<const GroupFlags> flags /* [G] */,
                         double row_probability, const Child& child);

// Every element of a flagged matrix, with element_probability, gets sigma * N(0, 1) added.
Genome gaussian_mutation(const Genome& parent, int32_t experts, std::span<const GroupFlags> flags /* [G] */,
                         double element_probability, double sigma, const Child& child);

// Have the genomes as many rows in every group?
bool same_shape(const Genome& a, const Genome& b);

// Of genomes of the same shape. A flagged matrix row by row, an unflagged one whole: from parent 1 with
// probability first_parent, else from parent 2. W_EM and W_RM are drawn independently of each other.
Genome crossover(const Genome& parent1, const Genome& parent2, int32_t experts,
                 std::span<const GroupFlags> flags /* [G] */, double first_parent, const Child& child);

// Divides every row of every W_EM (never W_RM) by its sum; a row whose |sum| is below 1e-6 stays as it is.
Genome normalised_rows(const Genome& genome, int32_t experts);

// The evaluations of an archive that saw all items from best to worst, made once for all children of a
// generation. Equal ones stand in an order drawn for each child.
class Ranking {
 public:
  explicit Ranking(const Archive& archive);

  int64_t size() const { return static_cast<int64_t>(order_.size()); }
  std::span<const double> fitness() const { return fitness_; }  // [N] from best to worst
  int64_t evaluation(int64_t position) const { return order_[static_cast<size_t>(position)]; }
  // The evaluation at a position, and at two different positions, of this child's order.
  int64_t at(int64_t position, const Child& child) const;
  std::pair<int64_t, int64_t> at(int64_t first, int64_t second, const Child& child) const;

 private:
  struct Run {
    int64_t begin = 0;
    int64_t end = 0;
  };

  std::vector<int64_t> order_;   // [N] equal ones by evaluation
  std::vector<double> fitness_;  // [N]
  std::vector<Run> run_;         // [N] positions of the equal ones
};

// How many of the ranked members may be drawn, given their fitness from best to worst (NaN: worse than all).
// Mutation: those within the window and the first one past it. Crossover: those within the window, at least
// crossover_window_minimum. Both at most fitness.size().
int64_t mutation_window(std::span<const double> fitness /* [N] */, const OperatorParameters& parameters);
int64_t crossover_window(std::span<const double> fitness /* [N] */, const OperatorParameters& parameters);

}  // namespace eep
