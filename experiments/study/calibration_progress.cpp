#include "experiments/study/calibration_progress.h"

#include <unistd.h>
#include <xxhash.h>

#include "es/bytes.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr std::string_view kMagic = "eep-calibration-state\n";
constexpr const char* kWhere = "calibration state";
constexpr std::chrono::milliseconds kPeriod{
    1000};  // between writes: less is lost than a second's work or a chunk

template <typename T>
void put_all(const std::vector<T>& values, std::string& out) {
  for (const T value : values) put(value, out);
}

template <typename T>
void take_all(std::string_view& bytes, std::vector<T>* values) {
  for (T& value : *values) value = take<T>(bytes, kWhere);
}

template <typename T>
std::vector<T> take_some(std::string_view& bytes, uint64_t count) {
  if (count > bytes.size() / sizeof(T)) throw Error(ExitCode::kData, kWhere, "truncated");
  std::vector<T> values(static_cast<size_t>(count));
  take_all(bytes, &values);
  return values;
}

}  // namespace

std::string write_calibration_state(const CalibrationState& state, const std::string& identity) {
  std::string out(kMagic);
  put(static_cast<uint32_t>(identity.size()), out);
  out += identity;
  put(static_cast<uint64_t>(state.rows), out);
  put(static_cast<uint64_t>(state.statistics.tokens), out);
  for (size_t slot = 0; slot < state.pending.size(); ++slot) {
    const LayerStatistics& layer = state.statistics.layers[slot];
    for (const std::vector<double>& sum : layer.sums) put_all(sum, out);
    for (const SubsetErrors& errors : layer.subset_errors) {
      put_all(errors.error, out);
      put(errors.norm, out);
    }
    const PendingRows& pending = state.pending[slot];
    put(static_cast<uint64_t>(pending.taken), out);
    put(static_cast<uint64_t>(pending.x.size()), out);
    put(static_cast<uint64_t>(pending.logits.size()), out);
    put_all(pending.x, out);
    put_all(pending.logits, out);
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
  CalibrationState read = *state;
  try {
    bytes.remove_prefix(kMagic.size());
    if (take_bytes(bytes, take<uint32_t>(bytes, kWhere), kWhere) != identity) return false;
    read.rows = static_cast<int64_t>(take<uint64_t>(bytes, kWhere));
    read.statistics.tokens = static_cast<int64_t>(take<uint64_t>(bytes, kWhere));
    for (size_t slot = 0; slot < read.pending.size(); ++slot) {
      LayerStatistics& layer = read.statistics.layers[slot];
      for (std::vector<double>& sum : layer.sums) take_all(bytes, &sum);
      for (SubsetErrors& errors : layer.subset_errors) {
        take_all(bytes, &errors.error);
        errors.norm = take<double>(bytes, kWhere);
      }
      PendingRows& pending = read.pending[slot];
      pending.taken = static_cast<int64_t>(take<uint64_t>(bytes, kWhere));
      const auto x = take<uint64_t>(bytes, kWhere), logits = take<uint64_t>(bytes, kWhere);
      pending.x = take_some<float>(bytes, x);
      pending.logits = take_some<float>(bytes, logits);
    }
  } catch (const Error&) {
    return false;
  }
  if (!bytes.empty()) return false;
  *state = std::move(read);
  return true;
}

ExpertStatistics calibrate_resumably(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                                     const CalibrationOptions& options, const std::string& file,
                                     const std::string& identity) {
  if (options.details || options.every_expert)  // their sums have no state to go on from
    return calibrate(weights, memory_budget, prompts, options);
  CalibrationOptions resumable = options;
  resumable.begin = [&](CalibrationState* state) {
    if (file_exists(file)) read_calibration_state(read_file(file, SIZE_MAX), identity, state);
  };
  auto last = std::chrono::steady_clock::now();
  resumable.keep = [&](const std::function<CalibrationState()>& state) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last < kPeriod) return;
    write_file_atomic(file, write_calibration_state(state(), identity));
    last = std::chrono::steady_clock::now();
  };
  ExpertStatistics statistics = calibrate(weights, memory_budget, prompts, resumable);
  ::unlink(file.c_str());
  return statistics;
}

}  // namespace eep
