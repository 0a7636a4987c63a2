// Genomes: canonical form, hash, plans.
#include "es/genome.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>

#include "es/bytes.h"
#include "es/criteria.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/subsets.h"

namespace eep {
namespace {

[[noreturn]] void fail_space(const std::string& what) { throw Error(ExitCode::kConfig, "plan", what); }

// 1, 0, -1: does row a stand before row b when larger entries stand first.
int order_rows(const float* a, const float* b, int32_t experts) {
  for (int32_t expert = 0; expert < experts; ++expert) {
    if (a[expert] != b[expert]) return a[expert] > b[expert] ? 1 : -1;
  }
  return 0;
}

const float* row_of(const std::vector<float>& matrix, int32_t row, int32_t experts) {
  return matrix.data() + static_cast<size_t>(row) * static_cast<size_t>(experts);
}

GroupGenes canonical_group(const GroupGenes& group, int32_t experts) {
  std::vector<int32_t> rows(static_cast<size_t>(group.kept));
  std::iota(rows.begin(), rows.end(), 0);
  std::sort(rows.begin(), rows.end(), [&](int32_t a, int32_t b) {
    const int32_t main_a = main_expert(row_of(group.w_em, a, experts), experts);
    const int32_t main_b = main_expert(row_of(group.w_em, b, experts), experts);
    if (main_a != main_b) return main_a < main_b;
    const int rm = order_rows(row_of(group.w_rm, a, experts), row_of(group.w_rm, b, experts), experts);
    if (rm != 0) return rm > 0;
    return order_rows(row_of(group.w_em, a, experts), row_of(group.w_em, b, experts), experts) > 0;
  });
  GroupGenes sorted;
  sorted.kept = group.kept;
  sorted.w_rm.reserve(group.w_rm.size());
  sorted.w_em.reserve(group.w_em.size());
  for (const int32_t row : rows) {
    for (int32_t expert = 0; expert < experts; ++expert) {
      sorted.w_rm.push_back(row_of(group.w_rm, row, experts)[expert] + 0.0f);  // -0 + 0 = +0
      sorted.w_em.push_back(row_of(group.w_em, row, experts)[expert] + 0.0f);
    }
  }
  return sorted;
}

}  // namespace

bool GenomeSpace::keeps_all() const {
  return std::all_of(kept.begin(), kept.end(), [&](int32_t count) { return count == experts; });
}

void check_space(const GenomeSpace& space) {
  if (space.experts < 1 || space.experts > kMaxExperts) {
    fail_space("impossible number of experts" +
               expected_got("1.." + std::to_string(kMaxExperts), space.experts));
  }
  if (space.kept.empty() || space.kept.size() != space.layers.size()) {
    fail_space("impossible number of layer groups" +
               expected_got(std::to_string(std::max<size_t>(space.layers.size(), 1)), space.groups()));
  }
  if (space.top_k < 1) fail_space("impossible top_k" + expected_got("1 or more", space.top_k));
  if (space.top_k_least > space.top_k) {
    fail_space("impossible least top_k" +
               expected_got("at most " + std::to_string(space.top_k), space.top_k_least));
  }
  std::vector<int32_t> layers;
  for (size_t group = 0; group < space.kept.size(); ++group) {
    if (space.kept[group] < 1 || space.kept[group] > space.experts) {
      fail_space("impossible number of kept experts in group " + std::to_string(group) +
                 expected_got("1.." + std::to_string(space.experts), space.kept[group]));
    }
    if (space.layers[group].empty()) fail_space("group " + std::to_string(group) + " has no layer");
    if (space.counts_vary() && (space.kept[group] < space.least || space.kept[group] > space.most)) {
      fail_space(
          "impossible number of kept experts in group " + std::to_string(group) +
          expected_got(std::to_string(space.least) + ".." + std::to_string(space.most), space.kept[group]));
    }
    layers.insert(layers.end(), space.layers[group].begin(), space.layers[group].end());
  }
  std::sort(layers.begin(), layers.end());
  const auto twice = std::adjacent_find(layers.begin(), layers.end());
  if (twice != layers.end()) fail_space("layer " + std::to_string(*twice) + " is in two groups");
}

std::optional<std::string> wrong_counts(const GenomeSpace& space, const Genome& genome) {
  if (genome.top_k != 0 && (genome.top_k < space.top_k_least || genome.top_k > space.top_k)) {
    return "another number of active experts" +
           expected_got(std::to_string(space.top_k_least) + ".." + std::to_string(space.top_k), genome.top_k);
  }
  int64_t total = 0;
  for (size_t group = 0; group < space.kept.size(); ++group) {
    const int32_t kept = genome.groups[group].kept;
    const int32_t least = space.counts_vary() ? space.least : space.kept[group];
    const int32_t most = space.counts_vary() ? space.most : space.kept[group];
    if (kept < least || kept > most) {
      const std::string wanted =
          least == most ? std::to_string(least) : std::to_string(least) + ".." + std::to_string(most);
      return "another number of kept experts" + expected_got(wanted, kept);
    }
    total += kept * static_cast<int64_t>(space.layers[group].size());
  }
  if (!space.counts_vary() || total <= space.total) return std::nullopt;
  return "more kept experts in all layers" + expected_got("at most " + std::to_string(space.total), total);
}

int64_t one_hot_count(const GenomeSpace& space) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  int64_t count = 1;
  for (const int32_t kept : space.kept) {
    const int64_t choices = binomial(space.experts, kept);
    count = choices > kMax / count ? kMax : count * choices;
  }
  return count;
}

Genome one_hot_genome(const GenomeSpace& space, const std::vector<std::vector<int32_t>>& experts) {
  Genome genome;
  for (const std::vector<int32_t>& rows : experts) {
    const PlanGroup group = one_hot_group({}, rows, space.experts);
    genome.groups.push_back({group.kept, group.router_mapping, group.expert_merging});
  }
  return genome;
}

Genome identity_genome(const GenomeSpace& space) {
  std::vector<int32_t> all(static_cast<size_t>(space.experts));
  std::iota(all.begin(), all.end(), 0);
  return one_hot_genome(space, std::vector<std::vector<int32_t>>(space.kept.size(), all));
}

bool is_one_hot(const Genome& genome, int32_t experts) {
  return std::all_of(genome.groups.begin(), genome.groups.end(), [&](const GroupGenes& group) {
    std::vector<int32_t> rows = one_hot_rows(group.w_em, group.kept, experts);
    std::sort(rows.begin(), rows.end());
    return !rows.empty() && group.w_rm == group.w_em &&
           std::adjacent_find(rows.begin(), rows.end()) == rows.end();
  });
}

int32_t main_expert(const float* row, int32_t experts) {
  return static_cast<int32_t>(std::max_element(row, row + experts) - row);
}

Genome canonical(const Genome& genome, int32_t experts) {
  Genome sorted;
  sorted.top_k = genome.top_k;
  sorted.groups.reserve(genome.groups.size());
  for (const GroupGenes& group : genome.groups) sorted.groups.push_back(canonical_group(group, experts));
  return sorted;
}

GenomeHash canonical_hash(const Genome& genome, int32_t experts) {
  std::string bytes;
  put(experts, bytes);
  put(static_cast<uint32_t>(genome.groups.size()), bytes);
  for (const GroupGenes& group : canonical(genome, experts).groups) {
    put(group.kept, bytes);
    for (const float value : group.w_rm) put(value, bytes);
    for (const float value : group.w_em) put(value, bytes);
  }
  if (genome.top_k > 0) put(genome.top_k, bytes);
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.high64, hash.low64};
}

std::string to_string(const GenomeHash& hash) {
  char text[40];
  std::snprintf(text, sizeof(text), "xxh3:%016llx%016llx", static_cast<unsigned long long>(hash.high),
                static_cast<unsigned long long>(hash.low));
  return text;
}

ExpertPlan to_plan(const GenomeSpace& space, const Genome& genome) {
  ExpertPlan plan;
  plan.top_k = genome.top_k > 0 ? genome.top_k : space.top_k;
  plan.router_space = space.router_space;
  const Genome sorted = canonical(genome, space.experts);
  for (size_t group = 0; group < sorted.groups.size(); ++group) {
    const GroupGenes& genes = sorted.groups[group];
    plan.groups.push_back({space.layers[group], genes.kept, space.experts, genes.w_rm, genes.w_em});
  }
  return plan;
}

Genome from_plan(const GenomeSpace& space, const ExpertPlan& plan, const char* where) {
  const auto fail = [&](const std::string& what) { throw Error(ExitCode::kConfig, where, what); };
  const auto group_of = [&](int32_t layer) {
    for (const PlanGroup& group : plan.groups) {
      if (std::find(group.layers.begin(), group.layers.end(), layer) != group.layers.end()) return &group;
    }
    throw Error(ExitCode::kConfig, where, "the plan lacks layer " + std::to_string(layer));
  };
  if (skips_experts(plan)) fail("the plan skips experts token by token, which a search does not");
  Genome genome;
  for (size_t index = 0; index < space.layers.size(); ++index) {
    GroupGenes genes;
    for (const int32_t layer : space.layers[index]) {
      const PlanGroup& part = *group_of(layer);
      const size_t size = static_cast<size_t>(std::max(part.kept, 0)) * static_cast<size_t>(space.experts);
      const std::string name = " in layer " + std::to_string(layer);
      if (part.experts != space.experts) {
        fail("another number of experts" + name + expected_got(std::to_string(space.experts), part.experts));
      }
      if (!space.counts_vary() && part.kept != space.kept[index]) {
        fail("another number of kept experts" + name +
             expected_got(std::to_string(space.kept[index]), part.kept));
      }
      if (part.router_mapping.size() != size || part.expert_merging.size() != size) {
        fail("ragged matrix" + name);
      }
      const auto finite = [](float value) { return std::isfinite(value); };
      if (!std::all_of(part.router_mapping.begin(), part.router_mapping.end(), finite) ||
          !std::all_of(part.expert_merging.begin(), part.expert_merging.end(), finite)) {
        fail("a number that is not finite" + name);
      }
      GroupGenes found =
          canonical_group({part.kept, part.router_mapping, part.expert_merging}, space.experts);
      if (genes.kept == 0)
        genes = std::move(found);
      else if (found != genes)
        fail("layers of one group differ" + name);
    }
    genome.groups.push_back(std::move(genes));
  }
  if (space.top_k_varies() && plan.top_k != space.top_k) genome.top_k = plan.top_k;
  if (const auto wrong = wrong_counts(space, genome)) fail(*wrong);
  return genome;
}

}  // namespace eep
