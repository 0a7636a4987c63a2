// The folder of a model, as users name it.
#pragma once

#include <string>

namespace eep {

// Throws kNoInput if it is no directory, with what to give instead of a file, or of the name of a hub's
// model.
void require_model_directory(const std::string& path);

}  // namespace eep
