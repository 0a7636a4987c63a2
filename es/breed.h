// breed: how EEP makes one child: whom from, and how they vary. Shared by the algorithms that use its
// operators.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "es/algorithm.h"

namespace eep {

struct Parents {
  int64_t first = -1;   // evaluation
  int64_t second = -1;  // evaluation; -1: no crossover
};

// In the merge phase with crossover_probability two different members of the crossover window, else one of
// the mutation window.
Parents select_parents(const Ranking& ranking, Phase phase, const OperatorParameters& parameters,
                       const Child& child);

// The worst evaluation that select_parents() may draw; none while it may draw every one.
std::optional<int64_t> last_parent(const Archive& archive, Phase phase, const OperatorParameters& parameters);

// Crossover if there is a second parent, then the phase's mutation with the same flags, then row
// normalisation with normalise_probability.
Genome vary(const Genome& first, const Genome* second, int32_t experts, Phase phase,
            std::span<const GroupFlags> flags /* [G] */, const OperatorParameters& parameters,
            const Child& child);

}  // namespace eep
