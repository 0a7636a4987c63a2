# Options and the flags of every target of ours.
option(EEP_TESTS "build the tests" ON)
option(EEP_BENCH "build the microbenchmarks" OFF)
set(EEP_SANITIZE "" CACHE STRING "sanitizers, as in -fsanitize=: address,undefined or thread")

add_library(eep_flags INTERFACE)
target_compile_features(eep_flags INTERFACE cxx_std_20)
# -ffp-contract=off: a multiply and an add become one rounding only where the source says std::fma, so results do not depend on the compiler.
target_compile_options(eep_flags INTERFACE -Wall -Wextra -Werror -ffp-contract=off)
target_include_directories(eep_flags INTERFACE ${PROJECT_SOURCE_DIR})
if(EEP_SANITIZE)
  target_compile_options(eep_flags INTERFACE -fsanitize=${EEP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(eep_flags INTERFACE -fsanitize=${EEP_SANITIZE})
endif()
