# Libraries, all Debian packages (packages.txt).
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(fmt REQUIRED)
find_package(hwy REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
find_package(Threads REQUIRED)

# OpenMP or nothing: without it the pragmas are comments and _OPENMP is not defined.
add_library(eep_openmp INTERFACE)
if(EEP_OPENMP)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  target_link_libraries(eep_openmp INTERFACE OpenMP::OpenMP_CXX)
endif()
