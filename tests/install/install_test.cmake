# cmake -D BUILD=... -D WORK=... -D SOURCE=... -D COMPILER=... -D GENERATOR=... -D FLAGS=... -P install_test.cmake
# Installs BUILD under WORK, builds the project in SOURCE against it and runs it from there.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(failed)
    message(FATAL_ERROR "${ARGN}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
set(prefix ${WORK}/prefix)
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${SOURCE} -B ${WORK}/build -D CMAKE_PREFIX_PATH=${prefix} -D CMAKE_CXX_COMPILER=${COMPILER}
    -D CMAKE_CXX_FLAGS=${FLAGS} -D CMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer ${WORK}/picture.png)
if(NOT EXISTS ${WORK}/picture.png)
  message(FATAL_ERROR "the consumer drew no picture\n${output}")
endif()
if(NOT output MATCHES " ${prefix}/share/inkstone/models/tiny")
  message(FATAL_ERROR "the consumer did not use the installed model\n${output}")
endif()

# The installed program finds its library and the model wherever the folder goes.
file(RENAME ${prefix} ${WORK}/moved)
run(${WORK}/moved/bin/inkstone generate --prompt "a red circle" --cfg 1 --steps 2 --size 64x64 --seed 0
    --output ${WORK}/again.png)
run(${CMAKE_COMMAND} -E compare_files ${WORK}/picture.png ${WORK}/again.png)
