// parameters: the numbers that a search is told. A struct of them states its fields once, in a function
//   void visit(ParameterVisitor& v, P& p) { v.number("sigma", p.sigma, 0, 10); ... }
// which is walked by whoever reads, writes, describes (JSON Schema), checks or fingerprints them.
#pragma once

#include <any>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace eep {

// Every range is inclusive.
class ParameterVisitor {
 public:
  virtual ~ParameterVisitor() = default;
  virtual void number(const char* name, double& value, double smallest, double largest) = 0;
  virtual void integer(const char* name, int32_t& value, int32_t smallest, int32_t largest) = 0;
  virtual void flag(const char* name, bool& value) = 0;
  // value: a place in names.
  virtual void choice(const char* name, uint8_t& value, std::span<const std::string_view> names) = 0;
  // Not for files: checked and fingerprinted alone.
  virtual void constant(const char* name, double& value, double smallest, double largest) = 0;
};

// An enum whose values are places in names.
template <typename Enum>
void visit_choice(ParameterVisitor& v, const char* name, Enum& value,
                  std::span<const std::string_view> names) {
  auto place = static_cast<uint8_t>(value);
  v.choice(name, place, names);
  value = static_cast<Enum>(place);
}

// Throws Error(kConfig) `WHERE.NAME: value out of range ...`; walk it over any parameters.
class ParameterCheck final : public ParameterVisitor {
 public:
  explicit ParameterCheck(std::string_view where) : where_(where) {}

  void number(const char* name, double& value, double smallest, double largest) override;
  void integer(const char* name, int32_t& value, int32_t smallest, int32_t largest) override;
  void flag(const char* /*name*/, bool& /*value*/) override {}
  void choice(const char* name, uint8_t& value, std::span<const std::string_view> names) override;
  void constant(const char* name, double& value, double smallest, double largest) override;

 private:
  std::string_view where_;
};

// A struct of parameters by value, whatever its type: copied, compared and walked. An empty one has none.
class Parameters {
 public:
  Parameters() = default;
  // P: copyable, comparable by ==, with a visit() as above.
  template <typename P>
  static Parameters of(P values) {
    Parameters made;
    made.values_ = std::move(values);
    made.walk_ = [](ParameterVisitor& v, std::any& any) { visit(v, *std::any_cast<P>(&any)); };
    made.equal_ = [](const std::any& a, const std::any& b) {
      return *std::any_cast<P>(&a) == *std::any_cast<P>(&b);
    };
    return made;
  }

  bool empty() const { return !values_.has_value(); }
  void walk(ParameterVisitor& v) {
    if (walk_ != nullptr) walk_(v, values_);
  }
  // P: the type that it was made of, else std::bad_any_cast.
  template <typename P>
  P& as() {
    return std::any_cast<P&>(values_);
  }
  template <typename P>
  const P& as() const {
    return std::any_cast<const P&>(values_);
  }

  bool operator==(const Parameters& other) const {
    if (values_.type() != other.values_.type()) return false;
    return empty() || equal_(values_, other.values_);
  }

 private:
  std::any values_;
  void (*walk_)(ParameterVisitor&, std::any&) = nullptr;
  bool (*equal_)(const std::any&, const std::any&) = nullptr;
};

}  // namespace eep
