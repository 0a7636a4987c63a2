// Prompts that share nothing: for statistics of texts, where each text's tokens count as often as it is
// there.
#pragma once

#include <span>

#include "engine/prompts.h"

namespace eep {

// One after the other, with their tries as they are; scores are left out.
Prompts prompts_apart(std::span<const Prompts> parts);
// Rows [begin, end), which are whole trees; scores are left out.
Prompts prompts_between(const Prompts& prompts, int64_t begin, int64_t end);

}  // namespace eep
