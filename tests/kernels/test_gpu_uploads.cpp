// Copies and other work beside the work of a device: neither before the work whose data they overwrite nor
// after the work that waits for them. On the host executor once as late as they may and once at once; on a
// GPU as it comes.
#include "kernels/gpu/gpu_beside.h"
#include "tests/kernels/gpu_support.h"

#ifndef EEP_TEST_CUDA
#include "kernels/gpu/gpu_uploads.h"
#endif

using namespace eep;
using namespace eep::test;

namespace {

// Runs body(device) for each way in which copies can fall.
template <typename Body>
void on_devices(const Body& body) {
#ifdef EEP_TEST_CUDA
  body(gpu_device());
#else
  for (const bool at_once : {false, true}) {
    CAPTURE(at_once);
    simt::Stream stream;
    gpu::UploadStream uploads;
    gpu::BesideStream beside;
    uploads.at_once = beside.at_once = at_once;
    Device device = open_simt(0);
    device.stream = &stream;
    device.uploads = &uploads;
    device.beside = &beside;
    body(device);
    close_simt(device);
  }
#endif
}

}  // namespace

TEST_CASE("uploads: copies fall between the work before and the work that waits for them") {
  constexpr int64_t kCount = 100000;  // of one value each: long enough for a GPU to be caught in the middle
  constexpr size_t kBytes = kCount * sizeof(int);
  on_devices([](const Device& device) {
    int* host[2];
    for (int value : {0, 1}) {
      host[value] = static_cast<int*>(GPU_ROW(allocate_host)(kBytes, device));
      for (int64_t i = 0; i < kCount; ++i) host[value][i] = 5 + value;
    }
    int* const buffer = static_cast<int*>(GPU_ROW(allocate)(kBytes, device));
    int* const seen = static_cast<int*>(GPU_ROW(allocate)(3 * kBytes, device));
    GPU_ROW(clear)(buffer, kBytes, device);
    GPU_ROW(copy)(seen, buffer, kBytes, device);  // the zeros
    for (int value : {0, 1}) {
      GPU_ROW(upload_ahead)(buffer, host[value], kBytes, value, device);
      GPU_ROW(await_upload)(value, device);
      GPU_ROW(copy)(seen + (1 + value) * kCount, buffer, kBytes, device);
    }
    std::vector<int> back(3 * kCount), expected(kCount, 0);
    GPU_ROW(download)(back.data(), seen, 3 * kBytes, device);
    expected.resize(2 * kCount, 5);
    expected.resize(3 * kCount, 6);
    CHECK(back == expected);
    GPU_ROW(release)(buffer, device);
    GPU_ROW(release)(seen, device);
    for (int* memory : host) GPU_ROW(release_host)(memory, device);
  });
}

TEST_CASE("beside: such work falls between the fork and the join") {
  constexpr int64_t kCount = 100000;
  constexpr size_t kBytes = kCount * sizeof(int);
  on_devices([](const Device& device) {
    const std::vector<int> first(kCount, 5), second(kCount, 6);
    int* memory[4];  // the source, what the side makes of it, and what is seen of both
    for (int*& part : memory) part = static_cast<int*>(GPU_ROW(allocate)(kBytes, device));
    GPU_ROW(upload)(memory[0], first.data(), kBytes, device);
    GPU_ROW(clear)(memory[1], kBytes, device);
    GPU_ROW(copy)(memory[2], memory[1], kBytes, device);  // before the fork: the zeros
    const Device side = GPU_ROW(fork_beside)(device);
    GPU_ROW(copy)(memory[1], memory[0], kBytes, side);
    GPU_ROW(join_beside)(device);
    GPU_ROW(copy)(memory[3], memory[1], kBytes, device);  // after the join: the source as it was
    GPU_ROW(upload)(memory[0], second.data(), kBytes, device);
    std::vector<int> back(kCount);
    GPU_ROW(download)(back.data(), memory[2], kBytes, device);
    CHECK(back == std::vector<int>(kCount, 0));
    GPU_ROW(download)(back.data(), memory[3], kBytes, device);
    CHECK(back == first);
    for (int* part : memory) GPU_ROW(release)(part, device);
  });
}

TEST_CASE("uploads: a device says how much memory it has, the host executor none of its own") {
  on_devices([](const Device& device) {
    const DeviceMemory memory = GPU_ROW(memory)(device);
    CHECK(memory.free <= memory.total);
#ifdef EEP_TEST_CUDA
    CHECK(memory.free > 0);
#else
    CHECK(memory.total == 0);
#endif
  });
}
