// algorithms: the table of search algorithms. One is added by its file, es/algorithm_<name>.cpp, and its two
// lines here; what its own parameters are called in the experiment file its file alone says.
#pragma once

#include <array>
#include <span>

#include "es/algorithm.h"

namespace eep {

AlgorithmRow cma_algorithm();
AlgorithmRow coordinate_algorithm();
AlgorithmRow eep_algorithm();
AlgorithmRow eep_released_algorithm();
AlgorithmRow genetic_algorithm();
AlgorithmRow hill_climb_algorithm();
AlgorithmRow level_switch_algorithm();
AlgorithmRow openai_es_algorithm();
AlgorithmRow random_algorithm();
AlgorithmRow rsgn_algorithm();
AlgorithmRow sep_cma_algorithm();
AlgorithmRow snes_algorithm();

inline std::span<const AlgorithmRow> algorithms() {
  static const std::array rows{
      eep_algorithm(),       eep_released_algorithm(), hill_climb_algorithm(), random_algorithm(),
      rsgn_algorithm(),      snes_algorithm(),         cma_algorithm(),        sep_cma_algorithm(),
      openai_es_algorithm(), coordinate_algorithm(),   genetic_algorithm(),    level_switch_algorithm(),
  };
  return rows;
}

}  // namespace eep
