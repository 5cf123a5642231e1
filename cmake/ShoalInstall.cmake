# The install tree: programs, the Python SDK, and the C++ SDK as the package `shoal` (find_package(shoal), shoal::cpp).
#
#   bin/shoald, bin/shoal                                           lib/shoal/python/{shoal,compat,_shoal_native}
#   include/shoal-cpp/{shoal,protocol}                              lib/libshoal_{cpp,wire,base}.a, lib/cmake/shoal
include(CMakePackageConfigHelpers)

set(SHOAL_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/shoal)

# shoal_install_sdk(target EXPORT_NAME name): a library that programs of users are linked with.
function(shoal_install_sdk target)
  cmake_parse_arguments(ARG "" "EXPORT_NAME" "" ${ARGN})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${ARG_EXPORT_NAME})
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}>
                                              $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/shoal-cpp>)
  install(TARGETS ${target} EXPORT shoal ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT sdk)
endfunction()

install(EXPORT shoal FILE shoalTargets.cmake NAMESPACE shoal:: DESTINATION ${SHOAL_CMAKE_DIR} COMPONENT sdk)
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/shoalConfig.cmake.in ${CMAKE_BINARY_DIR}/shoalConfig.cmake
                              INSTALL_DESTINATION ${SHOAL_CMAKE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/shoalConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/shoalConfig.cmake ${CMAKE_BINARY_DIR}/shoalConfigVersion.cmake
        DESTINATION ${SHOAL_CMAKE_DIR} COMPONENT sdk)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/protocol/base ${CMAKE_SOURCE_DIR}/protocol/wire
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/shoal-cpp/protocol COMPONENT sdk FILES_MATCHING PATTERN "*.h")
install(DIRECTORY ${CMAKE_SOURCE_DIR}/sdk/cpp/include/shoal DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/shoal-cpp
        COMPONENT sdk FILES_MATCHING PATTERN "*.hpp")
# Agents look for it from where their program is, so it is lib/ on every distribution.
install(DIRECTORY ${CMAKE_SOURCE_DIR}/sdk/python/shoal ${CMAKE_SOURCE_DIR}/sdk/python/compat DESTINATION lib/shoal/python
        COMPONENT agent FILES_MATCHING PATTERN "*.py" PATTERN "py.typed" PATTERN "__pycache__" EXCLUDE)
