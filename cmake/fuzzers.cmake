# tests/fuzz/NAME_fuzzer.cc becomes build-fuzz/NAME_fuzzer; its corpus is tests/fuzz/corpus/NAME/.
file(GLOB fuzzers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/*_fuzzer.cc)
foreach(source ${fuzzers})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE src tests)
  target_link_libraries(${name} PRIVATE moxie_library nlohmann_json::nlohmann_json)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endforeach()
