# One CMake target per leaf folder. The link lines (DEPS) are the layer rule of docs/architecture.md;
# tests/lint checks the includes against it.
include(GNUInstallDirs)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

option(SHOAL_UNITY "Compile several sources as one (CI and tools/demo)" OFF)
set(SHOAL_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")
if(SHOAL_UNITY)
  set(CMAKE_UNITY_BUILD ON)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 24)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Werror -Wshadow
                    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor> $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
                    -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports both inside its own std::string and std::variant at -O2 (GCC bugs 105651, 105562).
  add_compile_options(-Wno-restrict -Wno-maybe-uninitialized)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # libstdc++ 12 implements std::stable_sort with a function that it marks deprecated itself.
  add_compile_options(-Wno-deprecated-declarations)
endif()
add_compile_definitions(MSGPACK_NO_BOOST SPDLOG_COMPILED_LIB SPDLOG_FMT_EXTERNAL)
include_directories(${CMAKE_SOURCE_DIR})
if(SHOAL_SANITIZE)
  # Checks of every pointer's value and alignment take a third of the build's time; the address sanitizer sees null as well.
  add_compile_options(-fsanitize=${SHOAL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
                      -fno-sanitize=null,alignment)
  add_link_options(-fsanitize=${SHOAL_SANITIZE})
endif()

# shoal_library(name DEPS a b PRIVATE_LIBS x): every .cc of the folder, minus EXCLUDE.
function(shoal_library name)
  cmake_parse_arguments(ARG "" "" "DEPS;PRIVATE_LIBS;EXCLUDE" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "*.cc")
  foreach(skip ${ARG_EXCLUDE})
    list(REMOVE_ITEM sources "${CMAKE_CURRENT_SOURCE_DIR}/${skip}")
  endforeach()
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_LIBS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARG_DEPS} ${ARG_PRIVATE_LIBS})
  endif()
endfunction()

# Every test of the labels unit and contract: what a sanitizer build is for.
add_custom_target(unit_tests)

# shoal_test(name LABEL unit DEPS a b): one GoogleTest binary from every .cc of the folder.
function(shoal_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "DEPS;ARGS" ${ARGN})
  if(NOT SHOAL_TESTS)
    return()
  endif()
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS "*.cc")
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} gtest gtest_main gmock)
  # What is tested is optimised; the test itself need not be, and compiles faster so.
  target_compile_options(${name} PRIVATE -O0)
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  if(ARG_LABEL MATCHES "^(unit|contract)$")
    add_dependencies(unit_tests ${name})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()
