# bench/kernels_bench.cc becomes kernels_bench: the kernels alone, beside what the machine can do.
find_package(benchmark REQUIRED)
add_executable(kernels_bench bench/kernels_bench.cc)
target_include_directories(kernels_bench PRIVATE src)
target_link_libraries(kernels_bench PRIVATE moxie_library benchmark::benchmark)
