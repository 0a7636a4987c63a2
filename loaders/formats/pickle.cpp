// The stack machine: values live in one list and refer to each other by index, so that a hostile file can
// build neither cycles that are walked nor anything larger than itself.
#include "loaders/formats/pickle.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/mapped_file.h"
#include "loaders/formats/json.h"
#include "loaders/formats/zip.h"

namespace eep {

namespace {

constexpr size_t kMaxFile = size_t{256} << 20;
constexpr int64_t kMaxElements = int64_t{1} << 24;  // of all tensors together
constexpr size_t kMaxRank = 8, kMaxTensors = 4096;

enum class Kind { kNone, kBool, kInt, kFloat, kText, kTuple, kDict, kGlobal, kStorage, kTensor };

struct Value {
  Kind kind = Kind::kNone;
  int64_t integer = 0;
  double real = 0;
  std::string text;           // kText, kGlobal ("module.name"), kStorage (key)
  std::vector<size_t> items;  // kTuple; kDict: key, value, key, value, ...; kTensor: index of storage
  std::vector<int64_t> shape, stride;
  int64_t offset = 0;
};

constexpr const char* kRebuild = "torch._utils._rebuild_tensor_v2";
constexpr const char* kFloatStorage = "torch.FloatStorage";
constexpr const char* kOrderedDict = "collections.OrderedDict";

class Machine {
 public:
  Machine(const uint8_t* data, size_t size, std::string where)
      : data_(data), size_(size), where_(std::move(where)) {}

  // The index of the result.
  size_t run() {
    for (;;) {
      const uint8_t opcode = *take(1);
      if (opcode == '.') return pop();
      step(opcode);
    }
  }
  const Value& at(size_t index) const { return values_[index]; }
  [[noreturn]] void fail(const std::string& what) const { throw Error(ExitCode::kData, where_, what); }

 private:
  const uint8_t* take(size_t bytes) {
    if (bytes > size_ - at_) fail("the pickle ends early");
    return data_ + std::exchange(at_, at_ + bytes);
  }
  size_t number(size_t bytes) {
    const uint8_t* p = take(bytes);
    size_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value |= size_t{p[i]} << (8 * i);
    return value;
  }
  std::string line() {
    std::string text;
    for (char c; (c = static_cast<char>(*take(1))) != '\n';) {
      if (text.size() == 256) fail("a name in the pickle is too long");
      text += c;
    }
    return text;
  }

  void push(Value value) {
    stack_.push_back(values_.size());
    values_.push_back(std::move(value));
  }
  void push_int(int64_t integer) {
    Value value;
    value.kind = Kind::kInt;
    value.integer = integer;
    push(std::move(value));
  }
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  size_t pop() {
    if (stack_.size() <= floor()) fail("the pickle takes from an empty stack");
    const size_t top = stack_.back();
    stack_.pop_back();
    return top;
  }
  std::vector<size_t> pop_to_mark() {
    if (marks_.empty()) fail("the pickle has no mark to go back to");
    const auto begin = stack_.begin() + static_cast<int64_t>(marks_.back());
    std::vector<size_t> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::vector<size_t> items) {
    Value value;
    value.kind = Kind::kTuple;
    value.items = std::move(items);
    push(std::move(value));
  }
  void pop_tuple(size_t count) {
    std::vector<size_t> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    push_tuple(std::move(items));
  }
  void put(size_t slot) {
    if (stack_.size() <= floor()) fail("the pickle takes from an empty stack");
    memo_[slot] = stack_.back();
  }
  void get(size_t slot) {
    const auto found = memo_.find(slot);
    if (found == memo_.end()) fail("the pickle uses a value that it never stored");
    stack_.push_back(found->second);
  }
  void set_items(const std::vector<size_t>& items) {
    if (stack_.size() <= floor()) fail("the pickle takes from an empty stack");
    Value& target = values_[stack_.back()];
    if (target.kind != Kind::kDict || items.size() % 2 != 0) fail("the pickle sets items of no dictionary");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  void step(uint8_t opcode) {
    Value value;
    switch (opcode) {
      case 0x80:  // PROTO
        if (const size_t protocol = number(1); protocol < 2 || protocol > 5) {
          fail("pickle protocol not supported" + expected_got("2..5", protocol));
        }
        return;
      case '(':  // MARK
        return marks_.push_back(stack_.size());
      case '}':  // EMPTY_DICT
        value.kind = Kind::kDict;
        return push(std::move(value));
      case ')':  // EMPTY_TUPLE
        return push_tuple({});
      case 't':  // TUPLE
        return push_tuple(pop_to_mark());
      case 0x85:  // TUPLE1, TUPLE2, TUPLE3
      case 0x86:
      case 0x87:
        return pop_tuple(opcode - 0x84u);
      case 'N':  // NONE
        return push(std::move(value));
      case 0x88:  // NEWTRUE, NEWFALSE
      case 0x89:
        value.kind = Kind::kBool;
        value.integer = opcode == 0x88;
        return push(std::move(value));
      case 'J':  // BININT
        return push_int(static_cast<int32_t>(number(4)));
      case 'K':  // BININT1
        return push_int(static_cast<int64_t>(number(1)));
      case 'M':  // BININT2
        return push_int(static_cast<int64_t>(number(2)));
      case 'G':  // BINFLOAT, big-endian
        value.kind = Kind::kFloat;
        value.real = big_endian_double(take(8));
        return push(std::move(value));
      case 'X': {  // BINUNICODE
        const size_t bytes = number(4);
        value.kind = Kind::kText;
        value.text.assign(reinterpret_cast<const char*>(take(bytes)), bytes);
        return push(std::move(value));
      }
      case 'q':  // BINPUT, LONG_BINPUT
        return put(number(1));
      case 'r':
        return put(number(4));
      case 'h':  // BINGET, LONG_BINGET
        return get(number(1));
      case 'j':
        return get(number(4));
      case 'c':  // GLOBAL
        return global();
      case 'Q':  // BINPERSID
        return storage();
      case 'R':  // REDUCE
        return reduce();
      case 's': {  // SETITEM
        const size_t second = pop(), first = pop();
        return set_items({first, second});
      }
      case 'u':  // SETITEMS
        return set_items(pop_to_mark());
      default:
        fail(fmt::format("pickle opcode 0x{:02x} is not one that a dictionary of float tensors needs",
                         opcode));
    }
  }

  static double big_endian_double(const uint8_t* bytes) {
    uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits = bits << 8 | bytes[i];
    return std::bit_cast<double>(bits);
  }

  void global() {
    const std::string module = line();
    Value value;
    value.kind = Kind::kGlobal;
    value.text = module + "." + line();
    if (value.text != kRebuild && value.text != kFloatStorage && value.text != kOrderedDict) {
      fail("the pickle names " + printable(value.text) + ", which is not called here");
    }
    push(std::move(value));
  }

  const Value& item(const Value& tuple, size_t index, Kind kind, const char* what) const {
    if (index >= tuple.items.size() || values_[tuple.items[index]].kind != kind) fail(what);
    return values_[tuple.items[index]];
  }

  // ("storage", FloatStorage, key, "cpu", elements)
  void storage() {
    const Value& tuple = values_[pop()];
    const char* wrong =
        "a storage is not described as PyTorch does (\"storage\", FloatStorage, key, device, n)";
    if (tuple.kind != Kind::kTuple || tuple.items.size() != 5) fail(wrong);
    if (item(tuple, 0, Kind::kText, wrong).text != "storage") fail(wrong);
    if (item(tuple, 1, Kind::kGlobal, wrong).text != kFloatStorage) fail(wrong);
    Value value;
    value.kind = Kind::kStorage;
    value.text = item(tuple, 2, Kind::kText, wrong).text;
    item(tuple, 3, Kind::kText, wrong);
    value.integer = item(tuple, 4, Kind::kInt, wrong).integer;
    push(std::move(value));
  }

  std::vector<int64_t> extents(const Value& tuple, const char* what) const {
    std::vector<int64_t> numbers;
    if (tuple.items.size() > kMaxRank) fail(what);
    for (size_t i = 0; i < tuple.items.size(); ++i) {
      numbers.push_back(item(tuple, i, Kind::kInt, what).integer);
      if (numbers.back() < 0 || numbers.back() > kMaxElements) fail(what);
    }
    return numbers;
  }

  void reduce() {
    const Value &arguments = values_[pop()], &callable = values_[pop()];
    const char* wrong = "a tensor is not described as PyTorch does (storage, offset, shape, stride, ...)";
    if (callable.kind != Kind::kGlobal || arguments.kind != Kind::kTuple)
      fail("the pickle calls no function");
    Value value;
    if (callable.text == kOrderedDict && arguments.items.empty()) {
      value.kind = Kind::kDict;
      return push(std::move(value));
    }
    if (callable.text != kRebuild || arguments.items.size() < 6) fail(wrong);
    item(arguments, 0, Kind::kStorage, wrong);
    value.kind = Kind::kTensor;
    value.items = {arguments.items[0]};
    value.offset = item(arguments, 1, Kind::kInt, wrong).integer;
    value.shape = extents(item(arguments, 2, Kind::kTuple, wrong), wrong);
    value.stride = extents(item(arguments, 3, Kind::kTuple, wrong), wrong);
    if (value.offset < 0 || value.offset > kMaxElements || value.shape.size() != value.stride.size()) {
      fail(wrong);
    }
    push(std::move(value));
  }

  const uint8_t* data_;
  size_t size_;
  std::string where_;
  size_t at_ = 0;
  std::vector<Value> values_;
  std::vector<size_t> stack_, marks_;
  std::map<size_t, size_t> memo_;
};

class Tensors {
 public:
  Tensors(const Machine& machine, const std::vector<ZipMember>& members, std::string root)
      : machine_(machine), members_(members), root_(std::move(root)) {}

  PthTensor read(const std::string& name, const Value& tensor) {
    const Value& storage = machine_.at(tensor.items[0]);
    const ZipMember* member = nullptr;
    for (const ZipMember& each : members_) {
      if (each.name == root_ + "data/" + storage.text) member = &each;
    }
    const std::string shown = "tensor " + printable(name) + ": ";
    if (member == nullptr) machine_.fail(shown + "no member data/" + printable(storage.text));
    const int64_t stored = static_cast<int64_t>(member->size / 4);
    if (member->size % 4 != 0 || storage.integer != stored) {
      machine_.fail(
          shown + "wrong size of its storage" +
          expected_got(fmt::format("{} floats", storage.integer), fmt::format("{} bytes", member->size)));
    }
    PthTensor out{name, tensor.shape, {}};
    int64_t count = 1, last = tensor.offset;
    for (size_t axis = 0; axis < tensor.shape.size(); ++axis) {
      const int64_t extent = tensor.shape[axis];
      count *= extent;
      if (count + elements_ > kMaxElements) machine_.fail(shown + "too large");
      if (extent > 0) last += (extent - 1) * tensor.stride[axis];
    }
    if (count > 0 && last >= stored) machine_.fail(shown + "reaches beyond its storage");
    elements_ += count;
    std::vector<int64_t> index(tensor.shape.size(), 0);
    for (int64_t i = 0; i < count; ++i) {
      int64_t place = tensor.offset;
      for (size_t axis = 0; axis < index.size(); ++axis) place += index[axis] * tensor.stride[axis];
      out.values.push_back(little_endian_float(member->data + 4 * place));
      for (size_t axis = index.size(); axis-- > 0;) {
        if (++index[axis] < tensor.shape[axis]) break;
        index[axis] = 0;
      }
    }
    return out;
  }

 private:
  static float little_endian_float(const uint8_t* p) {
    return std::bit_cast<float>(uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 |
                                uint32_t{p[3]} << 24);
  }

  const Machine& machine_;
  const std::vector<ZipMember>& members_;
  std::string root_;
  int64_t elements_ = 0;
};

}  // namespace

PthFile parse_pth(const uint8_t* data, size_t size, const std::string& where) {
  const std::vector<ZipMember> members = read_zip(data, size, where);
  if (members.empty()) throw Error(ExitCode::kData, where, "an empty zip archive");
  // The first folder need not be the file's name.
  const std::string root = members[0].name.substr(0, members[0].name.find('/') + 1);
  const ZipMember* program = nullptr;
  for (const ZipMember& member : members) {
    if (member.name == root + "data.pkl") program = &member;
    if (member.name == root + "byteorder" &&
        std::string(reinterpret_cast<const char*>(member.data), member.size) != "little") {
      throw Error(ExitCode::kData, where, "byte order not supported (expected little)");
    }
  }
  if (program == nullptr) throw Error(ExitCode::kData, where, "no member data.pkl: not a file of torch.save");
  Machine machine(program->data, program->size, where);
  size_t result = machine.run();
  PthFile file;
  if (machine.at(result).kind == Kind::kTuple && machine.at(result).items.size() == 2) {
    const Value& metric = machine.at(machine.at(result).items[1]);
    if (metric.kind != Kind::kFloat && metric.kind != Kind::kInt) {
      machine.fail("the second part of the pair is no number");
    }
    file.metric = metric.kind == Kind::kFloat ? metric.real : static_cast<double>(metric.integer);
    result = machine.at(result).items[0];
  }
  const Value& dictionary = machine.at(result);
  if (dictionary.kind != Kind::kDict) machine.fail("holds no dictionary");
  Tensors tensors(machine, members, root);
  for (size_t i = 0; i < dictionary.items.size(); i += 2) {
    const Value& key = machine.at(dictionary.items[i]);
    const Value& value = machine.at(dictionary.items[i + 1]);
    if (key.kind != Kind::kText) machine.fail("a key of the dictionary is no text");
    for (const PthTensor& other : file.tensors) {
      if (other.name == key.text) machine.fail("key " + printable(key.text) + " is there twice");
    }
    if (value.kind != Kind::kTensor) machine.fail("key " + printable(key.text) + " holds no float tensor");
    if (file.tensors.size() >= kMaxTensors) machine.fail("too many tensors");
    file.tensors.push_back(tensors.read(key.text, value));
  }
  return file;
}

PthFile read_pth(const std::string& path) {
  const MappedFile file(path);
  if (file.size() > kMaxFile) {
    throw Error(ExitCode::kData, path,
                "file too large" + expected_got(fmt::format("at most {} bytes", kMaxFile), file.size()));
  }
  return parse_pth(file.data(), file.size(), path);
}

}  // namespace eep
