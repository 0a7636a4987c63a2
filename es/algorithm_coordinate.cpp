// coordinate: descent over kept subsets, one layer group at a time. Where a group has few subsets all of them
// are tried with the other groups as they are, and the best one stays; else drawn swaps of one expert, and
// the first generation with a better one moves on. When no group gets better the best genome so far is
// kicked, by swaps in a few groups, and the descent begins again (iterated local search). What the archive
// knows is looked up, not asked for. State: the genome that is varied, the group, and how far its subsets are
// gone through; each a function of the archive.
#include <algorithm>
#include <numeric>
#include <utility>

#include "es/algorithms.h"
#include "es/kept_sets.h"
#include "es/random.h"
#include "kernels/common/subsets.h"

namespace eep {
namespace {

struct CoordinateParameters {
  int32_t subsets = 256;  // a group with more has its swaps tried, at most so many a visit
  int32_t kicks = 2;      // swaps of a kick

  bool operator==(const CoordinateParameters&) const = default;
};

void visit(ParameterVisitor& v, CoordinateParameters& p) {
  v.integer("subsets", p.subsets, 1, 1000000);
  v.integer("kicks", p.kicks, 1, 1000);
}

class Coordinate final : public Algorithm {
 public:
  explicit Coordinate(const CoordinateParameters& parameters) : parameters_(parameters) {}

  void begin(PhaseSetting setting) override { setting_ = std::move(setting); }

  std::vector<Candidate> ask(const AskContext& context) const override {
    std::vector<Candidate> candidates = initial_candidates(context, /*initial=*/1, /*distinct=*/true);
    if (!candidates.empty()) return candidates;
    Place place = place_;
    return walk(&place, context.archive, context.archive.size(), context.count);
  }

  void tell(const Archive& archive, int64_t begin, int64_t end) override {
    if (begin < setting_.phase_begin || begin >= setting_.phase_begin + setting_.evaluations) return;
    const auto initial = std::max<int64_t>(1, static_cast<int64_t>(setting_.starts.size()));
    if (begin < setting_.phase_begin + initial) {
      place_.best = archive.best(setting_.phase_begin, end);
      place_.center = kept_sets(archive[place_.best].genome, experts());
      return;
    }
    walk(&place_, archive, begin, end - begin);
    for (int64_t i = begin; i < end; ++i) improve(&place_, archive, i);
  }

  // While the first descent lasts its best is the bar; a kicked one, which the next generation may begin,
  // starts below the best.
  std::optional<int64_t> last_parent(const Archive& archive) const override {
    if (place_.best < 0 || place_.kicks > 0) return std::nullopt;
    Place next = place_;
    walk(&next, archive, archive.size(), 1);
    return next.kicks > 0 ? std::nullopt : std::optional(place_.best);
  }

 private:
  // Where the descent stands.
  struct Place {
    KeptSets center;
    int64_t best = -1;      // evaluation: the best of this visit, the center's own included
    size_t group = 0;       // that is visited
    uint32_t visit = 0;     // visits before this one
    size_t next = 0;        // in the order of its neighbours
    int32_t unchanged = 0;  // groups in a row that did not get better
    uint32_t kicks = 0;
  };

  int32_t experts() const { return setting_.space.experts; }

  static void improve(Place* place, const Archive& archive, int64_t evaluation) {
    if (archive[evaluation].dropped) return;
    if (place->best < 0 || archive.compare(archive[evaluation].result, archive[place->best].result) > 0)
      place->best = evaluation;
  }

  bool exhaustive(const Place& place) const {
    const auto kept = static_cast<int32_t>(place.center[place.group].size());
    return binomial(experts(), kept) <= parameters_.subsets;
  }

  // What the group may keep instead, in the order in which it is tried; its own set is among them.
  std::vector<std::vector<int32_t>> neighbours(const Place& place) const {
    const std::vector<int32_t>& own = place.center[place.group];
    if (exhaustive(place)) return all_subsets(experts(), static_cast<int32_t>(own.size()));
    std::vector<std::vector<int32_t>> sets{own};
    for (size_t leaves = 0; leaves < own.size(); ++leaves) {
      for (int32_t enters = 0; enters < experts(); ++enters) {
        if (std::binary_search(own.begin(), own.end(), enters)) continue;
        std::vector<int32_t> set = own;
        set[leaves] = enters;
        std::sort(set.begin(), set.end());
        sets.push_back(std::move(set));
      }
    }
    // Fisher and Yates, as far as this visit goes; its own set stays in front.
    const size_t last = std::min(sets.size(), static_cast<size_t>(parameters_.subsets) + 1);
    for (size_t i = 1; i < last; ++i) {
      const Address address{
          setting_.seed, Purpose::kNeighbour, place.visit, 0, 0, static_cast<uint32_t>(i), 0};
      std::swap(sets[i], sets[i + random_below(address, sets.size() - i)]);
    }
    sets.resize(last);
    return sets;
  }

  // The visit is over, or a swap was better: its best becomes the center, and the next group's turn comes.
  void move_on(Place* place, const Archive& archive) const {
    KeptSets best = kept_sets(archive[place->best].genome, experts());
    place->unchanged = best == place->center ? place->unchanged + 1 : 1;
    place->center = std::move(best);
    place->group = (place->group + 1) % place->center.size();
    ++place->visit;
    place->next = 0;
  }

  void kick(Place* place, const Archive& archive, int64_t limit) const {
    place->center = kept_sets(archive[archive.best(setting_.phase_begin, limit)].genome, experts());
    std::vector<int32_t> open;  // groups that do not keep everything
    for (size_t group = 0; group < place->center.size(); ++group) {
      if (static_cast<int32_t>(place->center[group].size()) < experts())
        open.push_back(static_cast<int32_t>(group));
    }
    for (uint32_t i = 0; i < static_cast<uint32_t>(parameters_.kicks); ++i) {
      const Address which{setting_.seed, Purpose::kKick, place->kicks, i};
      swap_expert(&place->center, open[random_below(which, open.size())], experts(),
                  {setting_.seed, place->kicks, i});
    }
    ++place->kicks;
    place->best = -1;
    place->unchanged = 0;
  }

  // The next `count` genomes that evaluations [0, limit) do not have, as far as they can be said before these
  // are known.
  std::vector<Candidate> walk(Place* place, const Archive& archive, int64_t limit, int64_t count) const {
    constexpr int32_t kIdle = 10000;  // visits without a new genome: there may be none left
    std::vector<Candidate> candidates;
    for (int32_t idle = 0; candidates.empty(); ++idle) {
      if (place->best >= 0 && !exhaustive(*place) &&
          kept_sets(archive[place->best].genome, experts()) != place->center) {
        move_on(place, archive);
      }
      if (place->unchanged >= static_cast<int32_t>(place->center.size())) kick(place, archive, limit);
      if (idle == kIdle) {
        candidates.push_back({one_hot_genome(setting_.space, place->center), "repeat"});
        break;
      }
      const std::vector<std::vector<int32_t>> sets = neighbours(*place);
      for (; place->next < sets.size() && static_cast<int64_t>(candidates.size()) < count; ++place->next) {
        KeptSets changed = place->center;
        changed[place->group] = sets[place->next];
        Genome genome = one_hot_genome(setting_.space, changed);
        const int64_t known = archive.find(canonical_hash(genome, experts()));
        // What was dropped was below the best of the first descent, not of a kicked one.
        if (known >= 0 && known < limit && !(archive[known].dropped && place->kicks > 0)) {
          improve(place, archive, known);
        } else {
          candidates.push_back({std::move(genome), exhaustive(*place) ? "subset" : "swap"});
        }
      }
      if (candidates.empty()) move_on(place, archive);
    }
    return candidates;
  }

  CoordinateParameters parameters_;
  PhaseSetting setting_;
  Place place_;
};

}  // namespace

AlgorithmRow coordinate_algorithm() {
  return own_algorithm<Coordinate, CoordinateParameters>(
      "coordinate", "kept subsets group by group: all of them, or swaps, until no group gets better", true,
      false);
}

}  // namespace eep
