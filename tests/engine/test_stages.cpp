// Layers divided over stages, here threads: scores, tokens and statistics have the bits of one process.
#include <doctest/doctest.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "engine/calibration.h"
#include "engine/forward.h"
#include "engine/stages.h"
#include "kernels/common/error.h"
#include "tests/engine/same_statistics.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

// A call as it crosses from process to process.
struct Call {
  StageCall::Kind kind = StageCall::Kind::kScore;
  std::vector<ExpertPlan> plans;
  Prompts prompts;
  bool over = false;
};

// What stages send each other.
class Exchange {
 public:
  template <typename Queue>
  void put(Queue& queue, typename Queue::value_type value) {
    const std::lock_guard lock(mutex_);
    queue.push_back(std::move(value));
    changed_.notify_all();
  }
  template <typename Queue>
  auto take(Queue& queue) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !queue.empty(); });
    auto value = std::move(queue.front());
    queue.pop_front();
    return value;
  }
  std::deque<std::string>& messages(int from, int to) {
    const std::lock_guard lock(mutex_);
    return messages_[{from, to}];
  }
  // Rows in the sender's memory, or a copy of them.
  struct Rows {
    std::span<const float> memory;
    std::vector<float> copy;
  };
  std::deque<Rows>& rows(int from, int to) {
    const std::lock_guard lock(mutex_);
    return rows_[{from, to}];
  }
  // Reads the sender's memory no sooner than the receiver comes to it.
  void take_rows(int from, int to, std::span<float> memory) {
    const Rows taken = take(rows(from, to));
    const std::span<const float> source = taken.copy.empty() ? taken.memory : std::span(taken.copy);
    REQUIRE(source.size() == memory.size());
    const std::lock_guard lock(mutex_);
    std::copy(source.begin(), source.end(), memory.begin());
    ++taken_[from];
    changed_.notify_all();
  }
  void await_taken(int from, int64_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return taken_[from] >= count; });
  }
  std::deque<Call>& calls(int to) {
    const std::lock_guard lock(mutex_);
    return calls_[to];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, std::deque<std::string>> messages_;
  std::map<std::pair<int, int>, std::deque<Rows>> rows_;
  std::map<int, int64_t> taken_;  // of each sender
  std::map<int, std::deque<Call>> calls_;
};

// The two ways of rows: from where they lie, which is then to stay as it is until they are taken, or as
// copies.
enum class Way { kInPlace, kCopied };

class ThreadLink : public StageLink {
 public:
  ThreadLink(Exchange& exchange, int stage, std::vector<LayerRange> layers, size_t room, Way way)
      : exchange_(exchange), stage_(stage), layers_(std::move(layers)), room_(room), way_(way) {}
  int stage() const override { return stage_; }
  const std::vector<LayerRange>& layers() const override { return layers_; }
  size_t least_room() const override { return room_; }
  void announce(const StageCall& call) override {
    Call copy{call.kind, {call.plans.begin(), call.plans.end()}, {}, false};
    if (call.prompts != nullptr) copy.prompts = *call.prompts;
    for (int stage = 1; stage < stages(); ++stage) exchange_.put(exchange_.calls(stage), copy);
  }
  void send(int stage, std::string bytes) override {
    exchange_.put(exchange_.messages(stage_, stage), std::move(bytes));
  }
  std::string receive(int stage) override { return exchange_.take(exchange_.messages(stage, stage_)); }
  void send_rows(int stage, const float* rows, int64_t floats) override {
    const std::span<const float> memory(rows, static_cast<size_t>(floats));
    ++sent_;
    if (way_ == Way::kInPlace) return exchange_.put(exchange_.rows(stage_, stage), {memory, {}});
    exchange_.put(exchange_.rows(stage_, stage), {{}, {memory.begin(), memory.end()}});
  }
  void await_rows() noexcept override {
    if (way_ == Way::kInPlace) exchange_.await_taken(stage_, sent_);
  }
  void receive_rows(int stage, float* rows, int64_t floats) override {
    exchange_.take_rows(stage, stage_, {rows, static_cast<size_t>(floats)});
  }
  int64_t sent() const { return sent_; }

 private:
  Exchange& exchange_;
  int stage_;
  std::vector<LayerRange> layers_;
  size_t room_;
  Way way_;
  int64_t sent_ = 0;
};

// A model over so many threads; the first stage is the caller's.
class Stages {
 public:
  Stages(const SyntheticModel& model, int count, size_t room, Way way, const Prompts* text = nullptr,
         const CalibrationOptions* options = nullptr) {
    const std::vector<LayerRange> layers = divide_layers(model.raw.config, cpu_ops(), count);
    for (int stage = 0; stage < count; ++stage) {
      links_.push_back(std::make_unique<ThreadLink>(exchange_, stage, layers, room, way));
      weights_.push_back(std::make_unique<Weights>(
          model.raw, cpu_ops(),
          plan_weights(model.raw.config, cpu_ops(), 0, layers[static_cast<size_t>(stage)])));
      weights_.back()->set_link(links_.back().get());
    }
    for (int stage = 1; stage < count; ++stage)
      threads_.emplace_back([this, stage, text, options] { serve(stage, text, options); });
  }
  ~Stages() {
    for (size_t stage = 1; stage < links_.size(); ++stage) {
      Call over;
      over.over = true;
      exchange_.put(exchange_.calls(static_cast<int>(stage)), over);
    }
    for (std::thread& thread : threads_) thread.join();
  }
  const Weights& weights() const { return *weights_[0]; }
  size_t bytes(size_t stage) const { return weights_[stage]->plan().resident; }
  int64_t rows_sent() const { return links_[0]->sent(); }

 private:
  void serve(int stage, const Prompts* text, const CalibrationOptions* options) {
    const Weights& own = *weights_[static_cast<size_t>(stage)];
    PopulationForward forward(own, 0);
    for (;;) {
      const Call call = exchange_.take(exchange_.calls(stage));
      if (call.over) return;
      if (call.kind == StageCall::Kind::kCalibrate) {
        calibrate(own, 0, *text, *options);
      } else {
        forward.follow({call.kind, call.plans, &call.prompts, nullptr});
      }
    }
  }

  Exchange exchange_;
  std::vector<std::unique_ptr<ThreadLink>> links_;
  std::vector<std::unique_ptr<Weights>> weights_;
  std::vector<std::thread> threads_;
};

Prompts prompts_of(const ModelConfig& config) {
  PromptBuilder builder;
  const std::vector<int32_t> stem = random_tokens(config, 9, 7);
  for (uint32_t i = 0; i < 10; ++i) {
    std::vector<int32_t> tokens(stem.begin(), stem.begin() + 3 + static_cast<int64_t>(i % 4));
    for (const int32_t token : random_tokens(config, 2 + i % 5, 50 + i)) tokens.push_back(token);
    builder.add(tokens, static_cast<int32_t>(tokens.size()) - 2, i % 2 == 0);
  }
  return builder.build(nullptr);
}

// Some agree in their first layers, some in none.
std::vector<ExpertPlan> plans_of(const ModelConfig& config) {
  const auto experts = static_cast<int32_t>(config.num_experts), top_k = static_cast<int32_t>(config.top_k);
  const auto groups = static_cast<int32_t>(config.sparse_layers());
  std::vector<ExpertPlan> plans{identity_plan(config.sparse, experts, top_k)};
  for (const bool dense : {false, true}) {
    for (uint32_t i = 0; i < 3; ++i)
      plans.push_back(random_plan(config, 4, groups, RouterSpace::kLogits, dense, 10 + i));
  }
  ExpertPlan child = plans[4];
  child.groups.back() = plans[5].groups.back();
  plans.push_back(child);
  return plans;
}

// With little memory there are more chunks, and the memory of one is soon wanted again.
constexpr std::pair<size_t, Way> kRoomsAndWays[] = {
    {0, Way::kInPlace}, {200000, Way::kInPlace}, {0, Way::kCopied}, {200000, Way::kCopied}};

bool same_bits(const std::vector<TokenScore>& a, const std::vector<TokenScore>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(TokenScore)) == 0;
}

// Knows the scores of a candidate's first part, and counts what is made.
class HalfKnown : public ScoreKeeper {
 public:
  HalfKnown(const std::vector<std::vector<TokenScore>>& scores, int32_t until)
      : scores_(scores), until_(until) {}
  bool known(size_t plan, int32_t begin, std::span<TokenScore> scores) override {
    if (plan % 2 == 0 || begin >= until_) return false;
    std::copy_n(scores_[plan].begin() + begin, scores.size(), scores.begin());
    return true;
  }
  void made(size_t plan, int32_t begin, std::span<const TokenScore> scores) override {
    right_ = right_ && std::memcmp(scores_[plan].data() + begin, scores.data(), scores.size_bytes()) == 0;
    ++made_;
  }
  void chunk_done() override { ++chunks_; }
  int made_ = 0, chunks_ = 0;
  bool right_ = true;

 private:
  const std::vector<std::vector<TokenScore>>& scores_;
  int32_t until_;
};

}  // namespace

TEST_CASE("stages: layers are divided so that the largest stage is small, and each has some") {
  ModelConfig config = tiny_config(Family::kMixtral);
  config.num_layers = 7;
  config.sparse.assign(7, 1);
  for (int stages = 1; stages <= 7; ++stages) {
    const std::vector<LayerRange> ranges = divide_layers(config, cpu_ops(), stages);
    REQUIRE(ranges.size() == static_cast<size_t>(stages));
    int64_t next = 0;
    size_t largest = 0;
    for (const LayerRange& range : ranges) {
      CHECK(range.begin == next);
      CHECK(range.size() >= 1);
      next = range.end;
      largest = std::max(largest, Weights::packed_bytes(config, cpu_ops(), range));
    }
    CHECK(next == 7);
    // No other division is better: all of them, by brute force over the cuts.
    size_t least = SIZE_MAX;
    for (uint32_t cuts = 0; cuts < 64; ++cuts) {
      if (__builtin_popcount(cuts) != stages - 1) continue;
      size_t most = 0;
      int64_t begin = 0;
      for (int64_t end = 1; end <= 7; ++end) {
        if (end < 7 && (cuts >> (end - 1) & 1) == 0) continue;
        most = std::max(most, Weights::packed_bytes(config, cpu_ops(), {begin, end}));
        begin = end;
      }
      least = std::min(least, most);
    }
    CHECK(largest == least);
  }
  CHECK_THROWS_AS(divide_layers(config, cpu_ops(), 8), Error);
}

TEST_CASE("stages: scores have the bits of one process, whatever the memory, known ones included") {
  for (const Family family : kFamilies) {
    const ModelConfig config = tiny_config(family);
    const SyntheticModel model(config, 5);
    const Weights whole(model.raw, cpu_ops());
    const Prompts prompts = prompts_of(config);
    const std::vector<ExpertPlan> plans = plans_of(config);
    PopulationForward alone(whole, 0);
    const auto expected = alone.score(plans, prompts);
    for (const int count : {2, 3}) {
      for (const std::pair<size_t, Way>& choice : kRoomsAndWays) {
        const auto room = choice.first;
        CAPTURE(family_name(family));
        CAPTURE(count);
        CAPTURE(room);
        const Stages stages(model, count, room, choice.second);
        CHECK(stages.bytes(0) < whole.plan().resident);
        PopulationForward forward(stages.weights(), 0);
        const auto scores = forward.score(plans, prompts);
        for (size_t plan = 0; plan < plans.size(); ++plan) CHECK(same_bits(scores[plan], expected[plan]));
        if (room == 0) {  // plans go in more than one batch, which share less
          CHECK(forward.work().tokens_computed >= alone.work().tokens_computed);
          CHECK(forward.work().tokens_computed <= forward.work().tokens_asked);
        }
        HalfKnown keeper(expected, static_cast<int32_t>(prompts.scores.size() / 2));
        const auto again = forward.score(plans, prompts, &keeper);
        for (size_t plan = 0; plan < plans.size(); ++plan) CHECK(same_bits(again[plan], expected[plan]));
        CHECK(keeper.right_);
        CHECK(keeper.made_ > 0);
        if (room != 0) CHECK(keeper.chunks_ > 3);
        CHECK(stages.rows_sent() > 0);
      }
    }
  }
}

TEST_CASE("stages: greedy tokens are those of one process, with drafts too") {
  for (const Family family : kFamilies) {
    const ModelConfig config = tiny_config(family);
    const SyntheticModel model(config, 5);
    const Weights whole(model.raw, cpu_ops());
    const std::vector<ExpertPlan> plans = plans_of(config);
    std::vector<std::vector<std::vector<int32_t>>> prompts(plans.size());
    for (size_t candidate = 0; candidate < plans.size(); ++candidate) {
      for (uint32_t i = 0; i < 1 + candidate % 3; ++i)
        prompts[candidate].push_back(random_tokens(config, 1 + 7 * i, 60 + i));
    }
    GenerateOptions options;
    options.max_new = 9;
    PopulationForward alone(whole, 0);
    const auto expected = alone.generate(plans, prompts, options, nullptr);
    std::vector<int32_t> guess;
    const auto draft = [&](int32_t candidate, int32_t sequence, std::span<const int32_t> made) {
      const auto& output = expected[static_cast<size_t>(candidate)][static_cast<size_t>(sequence)];
      guess.assign(output.begin() + static_cast<int64_t>(made.size()), output.end());
      if (guess.size() > 2) guess[2] = (guess[2] + 1) % 53;
      return std::span<const int32_t>(guess);
    };
    for (const int count : {2, 3}) {
      for (const std::pair<size_t, Way>& choice : kRoomsAndWays) {
        const auto room = choice.first;
        CAPTURE(family_name(family));
        CAPTURE(count);
        CAPTURE(room);
        const Stages stages(model, count, room, choice.second);
        PopulationForward forward(stages.weights(), 0);
        CHECK(forward.generate(plans, prompts, options, nullptr) == expected);
        CHECK(forward.generate(plans, prompts, options, nullptr, draft) == expected);
        CHECK(forward.work().accepted > 0);
      }
    }
  }
}

TEST_CASE("stages: statistics of calibration are those of one process") {
  for (const Family family : kFamilies) {
    const ModelConfig config = tiny_config(family);
    const SyntheticModel model(config, 31);
    const Weights whole(model.raw, cpu_ops());
    const Prompts text = prompts_of(config);
    CalibrationOptions options;
    options.subset_kept = {2, 3};
    options.subset_batch = 16;
    options.subset_tokens = 40;
    options.details = options.every_expert = true;
    const ExpertStatistics expected = calibrate(whole, 0, text, options);
    for (const int count : {2, 3}) {
      CAPTURE(family_name(family));
      CAPTURE(count);
      const Stages stages(model, count, 0, count == 2 ? Way::kInPlace : Way::kCopied, &text, &options);
      const ExpertStatistics made = calibrate(stages.weights(), 0, text, options);
      check_same(made, expected);
      REQUIRE(expected.layers[0].subset_errors.size() == 2);
    }
  }
}
