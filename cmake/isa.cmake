# src/cpu/isa: the same algorithms once per instruction set. Each file has its own flags; nothing else in the tree may be
# compiled for more than the baseline, so that one binary starts everywhere.
set(isa_folder ${PROJECT_SOURCE_DIR}/src/cpu/isa)
set(isa_avx2_options -mavx2 -mfma -mf16c)
set(isa_avx512_options ${isa_avx2_options} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
set(int8_avx512_options -mavx512vnni)
set(half_avx512_fp16_options -mavx512fp16)
set(half_avx512_bf16_options -mavx512bf16)
set(isa_avx_vnni_options ${isa_avx2_options} -mavxvnni)

set(isa_names scalar)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  list(APPEND isa_names avx2 avx512)
  set(int8_only_names avx_vnni)
  set(half_names avx512_fp16 avx512_bf16)
  target_compile_definitions(inkstone_cpu PRIVATE INKSTONE_X86)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # The compiler warns of its own headers: GCC bug 105593.
  list(APPEND isa_avx512_options -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
foreach(name ${isa_names})
  target_sources(inkstone_cpu PRIVATE ${isa_folder}/isa_${name}.cpp)
  # Products and sums fuse where the algorithm says so, not where a compiler likes to.
  set_source_files_properties(${isa_folder}/isa_${name}.cpp
                              PROPERTIES COMPILE_OPTIONS "-ffp-contract=off;${isa_${name}_options}")
endforeach()
foreach(name ${isa_names} ${int8_only_names})
  target_sources(inkstone_cpu PRIVATE ${isa_folder}/int8_${name}.cpp)
  set_source_files_properties(${isa_folder}/int8_${name}.cpp
                              PROPERTIES COMPILE_OPTIONS "-ffp-contract=off;${isa_${name}_options};${int8_${name}_options}")
endforeach()
foreach(name ${half_names})
  target_sources(inkstone_cpu PRIVATE ${isa_folder}/half_${name}.cpp)
  set_source_files_properties(${isa_folder}/half_${name}.cpp
                              PROPERTIES COMPILE_OPTIONS "-ffp-contract=off;${isa_avx512_options};${half_${name}_options}")
endforeach()
