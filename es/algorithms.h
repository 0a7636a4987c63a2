// algorithms: the constructors behind make_algorithm, one a file.
#pragma once

#include <memory>

#include "es/algorithm.h"

namespace eep {

std::unique_ptr<Algorithm> make_eep(const OperatorParameters& parameters);
std::unique_ptr<Algorithm> make_eep_released(const OperatorParameters& parameters);
std::unique_ptr<Algorithm> make_hill_climb(const OperatorParameters& parameters);
std::unique_ptr<Algorithm> make_random(const OperatorParameters& parameters);

}  // namespace eep
