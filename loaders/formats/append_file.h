// Lines added to a file that grows.
#pragma once

#include <string>
#include <string_view>

namespace eep {

// Adds to the end of a file, or makes it. Not atomic: a killed write may leave a part. Throws kIo with the
// system's reason.
void append_to_file(const std::string& path, std::string_view bytes);

}  // namespace eep
