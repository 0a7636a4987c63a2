#include "experiments/study/search_files.h"

#include "es/search_state.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr const char* kStateFile = "checkpoints/search.state";
constexpr size_t kMostStateBytes = size_t{1} << 40;

Json json_of(const SearchSpent& spent) {
  return {{"prune_seconds", spent.prune}, {"merge_seconds", spent.merge},
          {"tokens", spent.computed},     {"tokens_without_sharing", spent.asked},
          {"tokens_kept", spent.kept},    {"decode_steps", spent.steps},
          {"drafted", spent.drafted},     {"accepted", spent.accepted}};
}

SearchSpent read_spent(const std::string& file) {
  const Json json = parse_json(read_file(file), file);
  const auto count = [&](const char* name) { return json.value(name, int64_t{0}); };
  return {json.value("prune_seconds", 0.0),
          json.value("merge_seconds", 0.0),
          count("tokens"),
          count("tokens_without_sharing"),
          count("tokens_kept"),
          count("decode_steps"),
          count("drafted"),
          count("accepted")};
}

// Metrics are written before the checkpoint that they describe; a run that was killed between the two, or
// within a line, left lines that are to be made again. One whole line a generation remains.
void keep_metrics(const std::string& file, int64_t evaluations) {
  if (!file_exists(file)) return;
  const std::string text = read_file(file);
  size_t end = 0;
  for (int64_t number = 1;; ++number) {
    const size_t next = text.find('\n', end);
    if (next == std::string::npos) break;
    const Json line = parse_json(std::string_view(text).substr(end, next - end), file, number);
    const auto done = line.is_object() ? line.find("evaluations") : line.end();
    if (done == line.end() || !done->is_number_integer() || done->get<int64_t>() > evaluations) break;
    end = next + 1;
  }
  if (end != text.size()) write_file_atomic(file, std::string_view(text).substr(0, end));
}

Json metrics_of(const Search& search, const SearchProgress& progress, double seconds) {
  const ArchiveEntry& best = search.archive()[progress.best];
  return {{"phase", to_string(progress.phase)},
          {"generation", progress.generation},
          {"evaluations", progress.end},
          {"evaluated", progress.evaluated},
          {"best", best.result.fitness},
          {"best_tiebreak", best.result.tiebreak},
          {"generation_best", progress.generation_best < 0
                                  ? Json()  // all of them dropped
                                  : Json(search.archive()[progress.generation_best].result.fitness)},
          {"wall_s", seconds}};
}

std::string archive_lines(const Archive& archive, int64_t begin, int64_t end, FitnessKind fitness) {
  std::string lines;
  for (int64_t i = begin; i < end; ++i) lines += archive_line(archive[i], fitness) + "\n";
  return lines;
}

}  // namespace

SearchFiles::SearchFiles(const std::string& folder, FitnessKind fitness)
    : state_(folder + kStateFile),
      times_(folder + "checkpoints/search.json"),
      archive_(folder + "archive.jsonl"),
      metrics_(folder + "metrics.jsonl"),
      fitness_(fitness),
      clock_(std::chrono::steady_clock::now()) {}

std::unique_ptr<Search> SearchFiles::open(const GenomeSpace& space, const SearchConfig& config,
                                          const std::vector<WarmStart>& starts, bool* resumed) {
  std::unique_ptr<Search> search;
  *resumed = file_exists(state_);
  if (*resumed) {
    // A killed run may have left a part of its last generation; an older program, another version.
    const std::string bytes = read_file(state_, kMostStateBytes);
    search = std::make_unique<Search>(space, config, starts, whole_generations(bytes), kStateFile);
    write_file_atomic(state_, search->state());
    if (file_exists(times_)) spent_ = read_spent(times_);
  } else {
    search = std::make_unique<Search>(space, config, starts);
  }
  // The archive file is a view of the checkpoint: whatever a killed run left behind it is replaced.
  write_file_atomic(archive_, archive_lines(search->archive(), 0, search->archive().size(), fitness_));
  if (!file_exists(metrics_)) write_file_atomic(metrics_, "");  // append_file adds to one that is there
  keep_metrics(metrics_, search->archive().size());
  return search;
}

void SearchFiles::start_clock(const WorkCounts& work) {
  before_ = spent_;
  work_before_ = work;
  clock_ = std::chrono::steady_clock::now();
}

void SearchFiles::add(const Search& search, const SearchProgress& progress, const WorkCounts& work) {
  const auto now = std::chrono::steady_clock::now();
  (progress.phase == Phase::kPrune ? spent_.prune : spent_.merge) +=
      std::chrono::duration<double>(now - clock_).count();
  clock_ = now;
  spent_.computed = before_.computed + work.tokens_computed - work_before_.tokens_computed;
  spent_.asked = before_.asked + work.tokens_asked - work_before_.tokens_asked;
  spent_.kept = before_.kept + work.tokens_kept - work_before_.tokens_kept;
  spent_.steps = before_.steps + work.decode_steps - work_before_.decode_steps;
  spent_.drafted = before_.drafted + work.drafted - work_before_.drafted;
  spent_.accepted = before_.accepted + work.accepted - work_before_.accepted;
  append_file(metrics_, metrics_of(search, progress, spent_.seconds()).dump() + "\n");
  write_file_atomic(times_, json_of(spent_).dump() + "\n");
  if (progress.first == 0) {
    write_file_atomic(state_, search.state());
  } else {
    append_file(state_, search.state_of(progress.first, progress.end));
  }
  append_file(archive_, archive_lines(search.archive(), progress.first, progress.end, fitness_));
}

}  // namespace eep
