// " (expected X, got Y)": how an Error's text says what was wanted and what was there.
#pragma once

#include <concepts>
#include <string>
#include <string_view>

namespace eep {

// What a message shows of a value: texts as they are, whole numbers in decimal. Others are written by who
// knows how: a bool, a char and a number with a fraction have more than one spelling.
template <typename Value>
std::string shown_value(const Value& value) {
  if constexpr (std::convertible_to<const Value&, std::string_view>) {
    return std::string(std::string_view(value));
  } else {
    static_assert(std::integral<Value> && !std::same_as<Value, bool> && !std::same_as<Value, char>,
                  "format the value and give the text");
    return std::to_string(value);
  }
}

template <typename Wanted, typename Got>
std::string expected_got(const Wanted& wanted, const Got& got) {
  return " (expected " + shown_value(wanted) + ", got " + shown_value(got) + ")";
}

}  // namespace eep
