# cmake --install: the program, public headers (<prefix>/include, used as "eep/engine/forward.h"), static
# libraries, a CMake package, a pkg-config file, man page, shell completion, JSON schema, licence.
# find_package(eep) then offers eep::eep (all rooms) and eep::<room>.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(eep_all INTERFACE)
target_link_libraries(eep_all INTERFACE eep_loaders eep_es eep_engine eep_kernels)
set_target_properties(eep_all PROPERTIES EXPORT_NAME eep)
set_target_properties(eep_flags PROPERTIES EXPORT_NAME flags)
set_target_properties(eep_openmp PROPERTIES EXPORT_NAME openmp)
foreach(room kernels engine es loaders)
  set_target_properties(eep_${room} PROPERTIES EXPORT_NAME ${room})
endforeach()
install(CODE "set(EEP_SOURCE [==[${PROJECT_SOURCE_DIR}]==])
set(EEP_BINARY [==[${PROJECT_BINARY_DIR}]==])
set(EEP_INCLUDEDIR [==[${CMAKE_INSTALL_INCLUDEDIR}]==])")
install(SCRIPT ${PROJECT_SOURCE_DIR}/cmake/install_headers.cmake)

# What the components program and mpi have is packaged (cmake/package.cmake). The tarball's libraries lie
# beside the plugin; a run path of the older kind holds for their own dependencies too.
file(RELATIVE_PATH libraries ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR}/eep)
set_target_properties(eep PROPERTIES INSTALL_RPATH "\$ORIGIN/${libraries}")
target_link_options(eep PRIVATE -Wl,--disable-new-dtags)
install(TARGETS eep RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
if(TARGET eep_mpi)
  install(TARGETS eep_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/eep COMPONENT mpi)
endif()
set_target_properties(eep_kernels_simt PROPERTIES EXPORT_NAME kernels_simt)
install(TARGETS eep_all eep_flags eep_openmp eep_kernels eep_kernels_simt eep_engine eep_es eep_loaders
        EXPORT eep ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
set(EEP_CUDA_LIBRARIES "")
if(TARGET eep_kernels_cuda)
  set_target_properties(eep_kernels_cuda PROPERTIES EXPORT_NAME kernels_cuda)
  install(TARGETS eep_kernels_cuda EXPORT eep ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  set(EEP_CUDA_LIBRARIES "-leep_kernels_cuda ${EEP_CUDA_RUNTIME} -lpthread -ldl -lrt")
endif()
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/eep)
install(EXPORT eep NAMESPACE eep:: FILE eepTargets.cmake DESTINATION ${package})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/eepConfig.cmake.in eepConfig.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(eepConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/eepConfig.cmake ${PROJECT_BINARY_DIR}/eepConfigVersion.cmake
        DESTINATION ${package})

# The file finds its prefix from where it lies, so that --prefix may be given at installation.
file(RELATIVE_PATH EEP_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
set(EEP_OPENMP_LIBRARY "")
if(EEP_OPENMP)
  set(EEP_OPENMP_LIBRARY ${OpenMP_CXX_FLAGS})
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/eep.pc.in eep.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/eep.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(FILES ${PROJECT_SOURCE_DIR}/man/eep.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
install(FILES ${PROJECT_SOURCE_DIR}/man/eep.bash
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME eep COMPONENT program)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)
install(FILES ${PROJECT_SOURCE_DIR}/share/experiment.schema.json DESTINATION ${CMAKE_INSTALL_DATADIR}/eep
        COMPONENT program)
# Tasks are found by name in share/eep/tasks, and their data beside it.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/experiments/tasks DESTINATION ${CMAKE_INSTALL_DATADIR}/eep
        COMPONENT program
        FILES_MATCHING PATTERN *.yaml)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/experiments/demo/data DESTINATION ${CMAKE_INSTALL_DATADIR}/eep/demo
        COMPONENT program)
