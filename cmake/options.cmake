# Options and the flags of every target of ours.
option(EEP_TESTS "build the tests" ON)
option(EEP_BENCH "configure the benchmarks (target bench)" ON)
option(EEP_FUZZ "configure the libFuzzer targets (target fuzzers; clang++ only)" OFF)
option(EEP_OPENMP "several CPU threads; off for ThreadSanitizer, which cannot see into OpenMP runtimes" ON)
set(EEP_SANITIZE "" CACHE STRING "sanitizers, as in -fsanitize=: address,undefined or thread")

find_program(EEP_CCACHE ccache)
if(EEP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${EEP_CCACHE})
endif()

# What every target of ours is compiled with; a project that uses the installed libraries gets the include
# path alone.
add_library(eep_flags INTERFACE)
target_compile_features(eep_flags INTERFACE cxx_std_20)
target_include_directories(eep_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                               $<INSTALL_INTERFACE:include>)
# -ffp-contract=off: a multiply and an add become one rounding only where the source says std::fma, so results
# do not depend on the compiler. -Wno-restrict: a false positive of g++ 12 in std::string (GCC bug 105651).
set(flags -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Werror -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND flags -Wno-restrict)
endif()
if(EEP_SANITIZE)
  list(APPEND flags -fsanitize=${EEP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND flags -Wno-maybe-uninitialized)  # false alarms of g++ 12 in instrumented code
  endif()
  target_link_options(eep_flags INTERFACE $<BUILD_INTERFACE:-fsanitize=${EEP_SANITIZE}>)
  target_compile_definitions(eep_flags INTERFACE $<BUILD_INTERFACE:EEP_SANITIZED>)
endif()
# For rooms that decide rather than compute: under a sanitizer, most of their time is the compiler's.
add_library(eep_cold INTERFACE)
if(EEP_SANITIZE)
  target_compile_options(eep_cold INTERFACE -O0)
endif()
if(NOT EEP_OPENMP)
  list(APPEND flags -Wno-unknown-pragmas)
  if(EEP_SANITIZE)
    # kernels/cpu/parallel.h
    target_compile_definitions(eep_flags INTERFACE $<BUILD_INTERFACE:EEP_PLAIN_THREADS>)
  endif()
endif()
target_compile_options(eep_flags INTERFACE "$<BUILD_INTERFACE:${flags}>")
