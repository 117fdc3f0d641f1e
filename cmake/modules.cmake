# inkstone_module(NAME [FOLDER name] [LINK libraries...]): every .cpp in src/NAME, or in src/FOLDER, as the static library
# inkstone_NAME.
function(inkstone_module name)
  cmake_parse_arguments(ARG "" "FOLDER" "LINK" ${ARGN})
  if(NOT ARG_FOLDER)
    set(ARG_FOLDER ${name})
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${ARG_FOLDER}/*.cpp)
  add_library(inkstone_${name} STATIC ${sources})
  target_include_directories(inkstone_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(inkstone_${name} PUBLIC ${ARG_LINK})
  set_property(GLOBAL APPEND PROPERTY INKSTONE_MODULES inkstone_${name})
endfunction()

# inkstone_test(NAME [LINK libraries...]): every *_test.cpp in tests/NAME as one GoogleTest program. Where the cuda device is
# compiled, tests that by their names use a GPU run one at a time beside those that use none: one of them takes all memory of
# the GPU.
function(inkstone_test name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${name}/*.cpp)
  add_executable(${name}_test ${sources})
  target_include_directories(${name}_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name}_test PRIVATE INKSTONE_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data"
                             INKSTONE_MODELS="${PROJECT_SOURCE_DIR}/models")
  target_link_libraries(${name}_test PRIVATE ${ARG_LINK} GTest::gmock GTest::gtest_main)
  set(discovered TEST_PREFIX ${INKSTONE_TEST_PREFIX}${name}. NO_PRETTY_VALUES DISCOVERY_TIMEOUT 60)
  set(on_a_gpu *cuda*:*Cuda*:*Gpu*)
  if(INKSTONE_CUDA_STATUS MATCHES "^With ")
    gtest_discover_tests(${name}_test ${discovered} TEST_FILTER -${on_a_gpu} TEST_LIST ${name}_tests)
    gtest_discover_tests(${name}_test ${discovered} TEST_FILTER ${on_a_gpu} TEST_LIST ${name}_tests_on_a_gpu
                         PROPERTIES RESOURCE_LOCK gpu TIMEOUT 300)
  else()
    gtest_discover_tests(${name}_test ${discovered})
  endif()
endfunction()
