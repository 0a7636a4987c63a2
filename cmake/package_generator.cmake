# Read by cpack once a generator: the tarball is one piece, with the libraries that cmake/package_bundle.cmake
# adds.
if(CPACK_GENERATOR STREQUAL "TGZ")
  set(projects "")
  foreach(component ${CPACK_COMPONENTS_ALL})
    list(APPEND projects "${CPACK_EEP_BUILD};eep;${component};/")
  endforeach()
  set(CPACK_INSTALL_CMAKE_PROJECTS ${projects})
  set(CPACK_PRE_BUILD_SCRIPTS ${CPACK_EEP_BUNDLE})
endif()
