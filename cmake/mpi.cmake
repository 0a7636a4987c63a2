# MPI, for runs over several ranks: a library of its own, which the program loads when it is one of them.
# Without MPI everything else works, and eep doctor says so.
option(EEP_MPI "runs over several ranks, where MPI is found" ON)
set(EEP_HAVE_MPI OFF)
if(EEP_MPI AND NOT EEP_SANITIZE AND NOT EEP_FUZZ)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI QUIET COMPONENTS CXX)
  if(MPI_CXX_FOUND)
    set(EEP_HAVE_MPI ON)
  else()
    message(STATUS "MPI is not found: a run is one rank")
  endif()
endif()
