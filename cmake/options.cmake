# Options and the flags of every target of ours.
option(EEP_TESTS "build the tests" ON)
option(EEP_BENCH "configure the benchmarks (target bench)" ON)
option(EEP_FUZZ "configure the libFuzzer targets (target fuzzers; clang++ only)" OFF)
option(EEP_OPENMP "several CPU threads; off for ThreadSanitizer, which cannot see into OpenMP runtimes" ON)
# Such a build is quick, and does not notice an #include that is missing.
option(EEP_PCH "precompile the headers that most sources include" OFF)
set(EEP_SANITIZE "" CACHE STRING "sanitizers, as in -fsanitize=: address,undefined or thread")

find_program(EEP_CCACHE ccache)
if(EEP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${EEP_CCACHE})
  if(EEP_PCH)  # what ccache asks before it keeps such objects
    set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${EEP_CCACHE})
    if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
      add_compile_options(-Xclang -fno-pch-timestamp)
    endif()
  endif()
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
  if(EEP_SANITIZE MATCHES "address")
    # Tests start the program again and again, and UndefinedBehaviorSanitizer's tables hold addresses by the
    # million: at a fixed place none of them is relocated.
    set(is_program $<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>)
    target_link_options(eep_flags INTERFACE $<BUILD_INTERFACE:$<${is_program}:-no-pie>>)
  endif()
endif()
# For what decides rather than computes, tests too: most of its time is the compiler's.
add_library(eep_cold INTERFACE)
if(EEP_SANITIZE)
  target_compile_options(eep_cold INTERFACE -O0)
else()
  target_compile_options(eep_cold INTERFACE $<$<CONFIG:Release>:-O1>)
endif()
if(NOT EEP_OPENMP)
  list(APPEND flags -Wno-unknown-pragmas)
  if(EEP_SANITIZE)
    # kernels/cpu/parallel.h
    target_compile_definitions(eep_flags INTERFACE $<BUILD_INTERFACE:EEP_PLAIN_THREADS>)
  endif()
endif()
target_compile_options(eep_flags INTERFACE "$<BUILD_INTERFACE:${flags}>")

# eep_compile_apart(OPTION SOURCE...): these sources of a target with one option more, so without its
# precompiled headers.
function(eep_compile_apart option)
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS ${option} SKIP_PRECOMPILE_HEADERS ON)
endfunction()

# eep_precompile(TARGET [HEADER...]): with EEP_PCH, the standard library and these headers once for a target.
function(eep_precompile target)
  if(EEP_PCH)
    target_precompile_headers(${target} PRIVATE <algorithm> <array> <chrono> <cmath> <filesystem> <fstream>
                              <functional> <map> <memory> <mutex> <optional> <random> <set> <span> <sstream>
                              <string> <thread> <unordered_map> <variant> <vector> ${ARGN})
  endif()
endfunction()
