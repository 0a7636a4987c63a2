# Whether nvcc is here and of use. Without it everything builds but the CUDA backend: eep doctor says so.
option(EEP_CUDA "machine code for NVIDIA GPUs, where nvcc is found" ON)
# Machine code for sm_80 and sm_90a, and PTX, which the driver compiles for what comes after them.
set(EEP_CUDA_CODE -gencode=arch=compute_80,code=[sm_80,compute_80] -gencode=arch=compute_90a,code=sm_90a)
set(EEP_HAVE_CUDA OFF)
if(EEP_CUDA AND NOT EEP_SANITIZE AND NOT EEP_FUZZ)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(EEP_HAVE_CUDA ON)
    set(CMAKE_CUDA_ARCHITECTURES OFF)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  else()
    message(STATUS "nvcc is not found: the CUDA backend is left out (--device cuda), its kernels still run "
                   "on the host")
  endif()
endif()
