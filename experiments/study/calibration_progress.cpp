#include "experiments/study/calibration_progress.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>

#include "es/bytes.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr std::string_view kMagic = "eep-calibration-state 2\n";
constexpr const char* kWhere = "calibration state";
// Between writes: less is lost than a second's work or a chunk; large states are written less often.
constexpr std::chrono::milliseconds kPeriod{1000};
constexpr int kWritesShare = 10;

}  // namespace

std::string write_calibration_state(const CalibrationState& state, const std::string& identity) {
  std::string out(kMagic);
  put(static_cast<uint32_t>(identity.size()), out);
  out += identity;
  put(static_cast<uint64_t>(state.rows), out);
  for (const std::string& layer : state.layers) {
    put(static_cast<uint64_t>(layer.size()), out);
    out += layer;
  }
  put(static_cast<uint64_t>(XXH3_64bits(out.data(), out.size())), out);
  return out;
}

bool read_calibration_state(std::string_view bytes, const std::string& identity, CalibrationState* state) {
  constexpr size_t kSum = sizeof(uint64_t);
  if (bytes.size() < kMagic.size() + kSum || !bytes.starts_with(kMagic)) return false;
  std::string_view tail = bytes.substr(bytes.size() - kSum);
  bytes.remove_suffix(kSum);
  if (take<uint64_t>(tail, kWhere) != XXH3_64bits(bytes.data(), bytes.size())) return false;
  CalibrationState read;
  try {
    bytes.remove_prefix(kMagic.size());
    if (take_bytes(bytes, take<uint32_t>(bytes, kWhere), kWhere) != identity) return false;
    read.rows = static_cast<int64_t>(take<uint64_t>(bytes, kWhere));
    while (!bytes.empty()) {
      const auto size = take<uint64_t>(bytes, kWhere);
      read.layers.emplace_back(take_bytes(bytes, static_cast<size_t>(size), kWhere));
    }
  } catch (const Error&) {
    return false;
  }
  *state = std::move(read);
  return true;
}

ExpertStatistics calibrate_resumably(
    const std::function<ExpertStatistics(const CalibrationOptions& options)>& pass,
    const CalibrationOptions& options, const std::string& file, const std::string& identity) {
  using Clock = std::chrono::steady_clock;
  CalibrationOptions resumable = options;
  resumable.begin = [&](CalibrationState* state) {
    if (file_exists(file)) read_calibration_state(read_file(file, SIZE_MAX), identity, state);
  };
  Clock::time_point next = Clock::now() + kPeriod;
  resumable.keep = [&](const std::function<CalibrationState()>& state) {
    const Clock::time_point start = Clock::now();
    if (start < next) return;
    write_file_atomic(file, write_calibration_state(state(), identity));
    const Clock::time_point end = Clock::now();
    next = end + std::max<Clock::duration>(kPeriod, kWritesShare * (end - start));
  };
  ExpertStatistics statistics = pass(resumable);
  ::unlink(file.c_str());
  return statistics;
}

}  // namespace eep
