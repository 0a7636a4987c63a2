// Evaluations as they are made, kept so that one which was ended goes on: an append-only file of records.
//
//   records { u32 kind  u32 bytes  u64 XXH3-64 of both and the body  body }
//   scores: key  i32 begin  { f32 log-probability  i32 arg-max }...   of one plan, positions [begin, ...)
//   answer: key  i32 item  i32 token...                               what was generated for one item
//
// Whatever follows a record that is damaged, as the last one of a killed process may be, is cut off. A rank
// that writes no files gives its records to the one that does.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/score.h"

namespace eep {

class EvaluationJournal {
 public:
  // Of a plan on the prompts it was scored on.
  using Key = std::pair<uint64_t, uint64_t>;

  // Reads what the file holds; it is made by the first record. Throws Error(kIo).
  explicit EvaluationJournal(std::string path);
  // Knows nothing at first; records go there.
  explicit EvaluationJournal(std::function<void(std::string)> sink) : sink_(std::move(sink)) {}
  EvaluationJournal(const EvaluationJournal&) = delete;
  EvaluationJournal& operator=(const EvaluationJournal&) = delete;
  ~EvaluationJournal();

  // What an earlier process has kept. False, null: not known.
  bool known_scores(const Key& key, int32_t begin, std::span<TokenScore> scores) const;
  const std::vector<int32_t>* known_answer(const Key& key, int32_t item) const;

  // In the file once flush() has returned. Throw Error(kIo).
  void add_scores(const Key& key, int32_t begin, std::span<const TokenScore> scores);
  void add_answer(const Key& key, int32_t item, std::span<const int32_t> tokens);
  void flush();
  // Records of another rank, and those that are known of a plan.
  void add_records(std::string_view records) { waiting_ += records; }
  bool knows_any() const { return !known_.empty(); }
  // Called by flush() first: adds what has come from elsewhere.
  void set_tributary(std::function<void()> tributary) { tributary_ = std::move(tributary); }
  std::string known_records(const Key& key) const;
  void learn(std::string_view records) { read(records); }
  // Nothing in it is needed any more.
  void clear();
  void remove();

 private:
  struct Known {
    std::vector<TokenScore> scores;
    std::vector<uint8_t> has;  // [scores]
    std::map<int32_t, std::vector<int32_t>> answers;
  };
  size_t read(std::string_view bytes);  // how many of them are whole records
  void read_record(uint32_t kind, std::string_view body);

  std::function<void(std::string)> sink_;
  std::function<void()> tributary_;
  std::string path_;
  int file_ = -1;
  bool empty_ = true;
  std::string waiting_;
  std::map<Key, Known> known_;
};

}  // namespace eep
