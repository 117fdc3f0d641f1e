// What stands in the way of a GPU, told of machines that are not at hand, and where CUDA's libraries are looked for.
#include <functional>
#include <gmock/gmock.h>

#include "cuda/library_folders.h"
#include "engine/machine.h"

namespace inkstone {
namespace {

using ::testing::Contains;
using ::testing::StartsWith;

/// A machine that lacks nothing.
CudaFindings usable_gpu() {
  return {.is_built = true, .program = 13000, .driver = 13010, .devices = 2, .name = "GPU", .major = 9};
}

TEST(CudaFindingsTest, EveryObstacleHasItsReasonAndAutomaticRunsOnTheCpuThen) {
  struct Case {
    std::function<void(CudaFindings&)> change;
    std::string reason;
    bool is_noted = true;
  };
  const Case kCases[] = {
      {[](CudaFindings& f) { f.is_built = false; }, "this program was built without CUDA", false},
      {[](CudaFindings& f) { f.driver = 0, f.fault = "driver version is insufficient"; }, "no NVIDIA driver was found",
       false},
      {[](CudaFindings& f) { f.driver = 12040, f.fault = "driver version is insufficient"; },
       "the NVIDIA driver is for CUDA 12.4, this program for 13.0"},
      {[](CudaFindings& f) { f.fault = "system not yet initialized"; }, "system not yet initialized"},
      {[](CudaFindings& f) { f.devices = 0; }, "no GPU was found"},
      {[](CudaFindings& f) { f.index = 2; }, "the number of GPUs is 2, counted from 0"},
      {[](CudaFindings& f) { f.index = -1; }, "the number of GPUs is 2, counted from 0"},
      {[](CudaFindings& f) { f.major = 7, f.minor = 5; }, "GPU has compute capability 7.5, 8.0 is needed"},
      {[](CudaFindings& f) { f.library_fault = "libcublasLt.so.13 is needed"; }, "libcublasLt.so.13 is needed"}};
  for (const Case& c : kCases) {
    CudaFindings found = usable_gpu();
    c.change(found);
    EXPECT_THAT(obstacle_of(found).text(), StartsWith(c.reason + "; run on cpu, or "));
    const DeviceChoice choice = choose_device(DeviceKind::automatic, found);
    EXPECT_EQ(choice.kind, DeviceKind::cpu) << c.reason;
    EXPECT_EQ(choice.note, c.is_noted ? "device auto runs on cpu: " + c.reason : "");
    EXPECT_EQ(choose_device(DeviceKind::cuda, found).kind, DeviceKind::cuda) << "which then says why it cannot";
  }
}

TEST(CudaFindingsTest, AnIndexThatIsNotThereIsToldWhichAre) {
  CudaFindings found = usable_gpu();
  found.index = 3;
  EXPECT_EQ(obstacle_of(found).text(),
            "the number of GPUs is 2, counted from 0; run on cpu, or on one of cuda:0 to cuda:1");
  found.devices = 1;
  EXPECT_EQ(obstacle_of(found).text(), "the number of GPUs is 1, counted from 0; run on cpu, or on cuda:0");
}

TEST(CudaFindingsTest, NothingIsInTheWayOfAGpuOfCapability8WithAnyDriverOfItsCuda) {
  for (const int driver : {13000, 13010, 14000}) {
    CudaFindings found = usable_gpu();
    found.driver = driver;
    found.index = 1;
    found.major = 8;
    EXPECT_EQ(obstacle_of(found).text(), "");
    const DeviceChoice choice = choose_device(DeviceKind::automatic, found);
    EXPECT_EQ(choice.kind, DeviceKind::cuda);
    EXPECT_EQ(choice.note, "");
  }
}

TEST(CudaLibraryFoldersTest, TheToolkitOfTheEnvironmentComesBeforeTheUsualOnes) {
  const std::vector<std::string> usual = cuda_library_folders(nullptr, "");
  EXPECT_THAT(usual, Contains("/usr/local/cuda/lib64"));
  std::vector<std::string> named = cuda_library_folders("/home/toolkit", "/path/toolkit");
  ASSERT_GT(named.size(), usual.size());
  EXPECT_EQ(named.front(), "/home/toolkit/lib64");
  EXPECT_THAT(named, Contains("/path/toolkit/lib"));
  named.erase(named.begin(), named.end() - static_cast<std::ptrdiff_t>(usual.size()));
  EXPECT_EQ(named, usual);
}

}  // namespace
}  // namespace inkstone
