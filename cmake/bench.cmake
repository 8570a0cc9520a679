# bench/NAME_bench.cc becomes NAME_bench: kernels_bench is the kernels alone, beside what the machine
# can do; constraint_bench the token masks of constrained answers.
find_package(benchmark REQUIRED)
foreach(name kernels constraint)
  add_executable(${name}_bench bench/${name}_bench.cc)
  target_include_directories(${name}_bench PRIVATE src tests)
  target_link_libraries(${name}_bench PRIVATE moxie_library benchmark::benchmark)
endforeach()
