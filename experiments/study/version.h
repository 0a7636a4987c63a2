#pragma once

namespace eep {

#ifndef EEP_VERSION
#define EEP_VERSION "unknown"
#endif
inline constexpr const char* kVersion = EEP_VERSION;

}  // namespace eep
