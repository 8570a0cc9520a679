# Only files below an instruction set's folder get its flags, and they include nothing but
# intrinsics and kernel headers, so no other code of the program needs that instruction set.
function(moxie_kernel_flags folder)
  get_filename_component(root ${CMAKE_CURRENT_FUNCTION_LIST_DIR} DIRECTORY)
  file(GLOB sources CONFIGURE_DEPENDS ${root}/src/kernels/${folder}/*.cc)
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  # Fuzzers meet no kernel, and instrumented these templates take clang many minutes.
  if(MOXIE_BUILD_FUZZERS)
    list(APPEND ARGN -fno-sanitize=all -O0)
  endif()
  if(sources)
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "${ARGN}")
  endif()
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  moxie_kernel_flags(avx2 -mavx2 -mfma -mf16c)
  set(avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512)
  moxie_kernel_flags(avx512 ${avx512})
  moxie_kernel_flags(amx ${avx512} -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64")
  moxie_kernel_flags(neon_dot -march=armv8.2-a+dotprod)
  moxie_kernel_flags(neon_i8mm -march=armv8.2-a+dotprod+i8mm)
endif()
