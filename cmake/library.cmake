# The one library that users link: all modules, with only the public API visible.
get_property(modules GLOBAL PROPERTY INKSTONE_MODULES)
add_library(inkstone SHARED)
foreach(module ${modules})
  target_sources(inkstone PRIVATE $<TARGET_OBJECTS:${module}>)
  get_target_property(libraries ${module} LINK_LIBRARIES)
  list(FILTER libraries EXCLUDE REGEX "^inkstone_(core|ops|reference|cpu|io|model)$")
  target_link_libraries(inkstone PRIVATE ${libraries})
endforeach()
target_include_directories(inkstone PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_compile_features(inkstone PUBLIC cxx_std_20)
set_target_properties(inkstone PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
                      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
add_library(Inkstone::inkstone ALIAS inkstone)
