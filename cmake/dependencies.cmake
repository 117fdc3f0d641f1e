# What is not ours; docs/dependencies.md says why each is here.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc i18n)
find_package(PNG REQUIRED)
find_package(JPEG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(WEBP REQUIRED IMPORTED_TARGET libwebp libwebpmux)
pkg_check_modules(EXIF REQUIRED IMPORTED_TARGET libexif)

add_library(inkstone_images INTERFACE)
target_link_libraries(inkstone_images INTERFACE PNG::PNG JPEG::JPEG PkgConfig::WEBP PkgConfig::EXIF)

# Debian's oneDNN has no pkg-config file, and its CMake package names differ between releases.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
# The OpenMP runtime that Debian's oneDNN is linked to, whatever compiler builds us: its thread count is ours to set.
find_library(GOMP_LIBRARY NAMES libgomp.so.1 gomp REQUIRED)
add_library(inkstone_onednn INTERFACE)
target_include_directories(inkstone_onednn SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
target_link_libraries(inkstone_onednn INTERFACE ${DNNL_LIBRARY} ${GOMP_LIBRARY})
