find_package(GTest REQUIRED)
include(GoogleTest)

# What takes longer has stopped. Sanitizers compute many times as long.
set(test_patience_s 600)
if(MOXIE_SANITIZE)
  set(test_patience_s 1800)
endif()

# All test programs, without the command line that the slow tests drive.
add_custom_target(test_programs)

# Where the checkout lies: the only object that depends on it.
add_library(source_dir OBJECT ${CMAKE_SOURCE_DIR}/tests/support/source_dir.cc)
target_include_directories(source_dir PRIVATE tests)
target_compile_definitions(source_dir PRIVATE MOXIE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")

# One test program for each folder: src/<folder>/**_test.cc and tests/<folder>/*_test.cc. Names of
# tests begin with ${test_prefix}, where the caller sets it.
function(moxie_test_program name)
  if(NOT ARGN)
    return()
  endif()
  add_executable(${name} ${ARGN} $<TARGET_OBJECTS:source_dir>)
  add_dependencies(test_programs ${name})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE moxie_library nlohmann_json::nlohmann_json GTest::gtest
                                        GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST TEST_PREFIX "${test_prefix}"
                       PROPERTIES TIMEOUT ${test_patience_s})
endfunction()

file(GLOB folders RELATIVE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/src/*)
foreach(folder ${folders})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${folder}/*_test.cc)
  moxie_test_program(${folder}_test ${sources})
endforeach()
file(GLOB folders RELATIVE ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/tests/*)
foreach(folder ${folders})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${folder}/*_test.cc)
  moxie_test_program(tests_${folder} ${sources})
endforeach()

# Sanitizers see the kernels natively; emulated and instrumented they take minutes.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT MOXIE_SANITIZE)
  add_subdirectory(${CMAKE_SOURCE_DIR}/tests/emulated)
endif()

# Tests in Python: tests/<folder>/*_test.py, run with $MOXIE the program under test. Exit status 77
# is a skip (no reference implementation, no data), with its reason printed. Some install packages
# first, which may take most of the time.
file(GLOB python_tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/*/*_test.py)
foreach(source ${python_tests})
  get_filename_component(folder ${source} DIRECTORY)
  get_filename_component(folder ${folder} NAME)
  get_filename_component(name ${source} NAME_WE)
  add_test(NAME ${folder}.${name} COMMAND ${CMAKE_SOURCE_DIR}/scripts/python ${source})
  set_tests_properties(${folder}.${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1800 LABELS slow
    ENVIRONMENT "MOXIE=${CMAKE_BINARY_DIR}/moxie;MOXIE_BUILD=${CMAKE_BINARY_DIR};PYTHONPATH=${CMAKE_SOURCE_DIR}/tests/support")
endforeach()
add_test(NAME docs.include_table COMMAND ${CMAKE_SOURCE_DIR}/scripts/python ${CMAKE_SOURCE_DIR}/scripts/check_includes.py)

# What tests/cli/memory_refused_test.py preloads; sanitizers have allocators of their own.
if(NOT MOXIE_SANITIZE)
  add_library(refusing_memory SHARED ${CMAKE_SOURCE_DIR}/tests/support/refusing_memory.cc)
  target_link_libraries(refusing_memory PRIVATE ${CMAKE_DL_LIBS})
endif()
# What tests/server/bound_test.py preloads.
add_library(counting_maps SHARED ${CMAKE_SOURCE_DIR}/tests/support/counting_maps.cc)
target_link_libraries(counting_maps PRIVATE ${CMAKE_DL_LIBS})
# What tests/tokenizer/*_test.py drive.
add_executable(tokenizer_tool ${CMAKE_SOURCE_DIR}/tests/tokenizer/tokenizer_tool.cc)
target_link_libraries(tokenizer_tool PRIVATE moxie_library)
# What tests/constraints/*_test.py drive.
add_executable(constraint_tool ${CMAKE_SOURCE_DIR}/tests/constraints/constraint_tool.cc)
target_include_directories(constraint_tool PRIVATE tests)
target_link_libraries(constraint_tool PRIVATE moxie_library nlohmann_json::nlohmann_json)
add_test(NAME docs.names_exist COMMAND ${CMAKE_SOURCE_DIR}/scripts/python ${CMAKE_SOURCE_DIR}/scripts/check_docs.py)

# A weak symbol (an inline function, a template instance) of a file with instruction-set flags could
# become the whole program's copy of it, which older processors cannot run.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT MOXIE_SANITIZE AND CMAKE_NM)
  add_test(NAME KernelSets.DefineNoWeakSymbols
           COMMAND sh -c "! '${CMAKE_NM}' -A --defined-only amx/*.o avx2/*.o avx512/*.o avx512_bf16/*.o | grep ' [VWu] '"
           WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/CMakeFiles/moxie_library.dir/src/kernels)
endif()
