// A picture as inline SVG. Colours are classes that the page's style sheet gives a light and a dark value:
// c0..c7 (series), ink, grid and so on; nothing here names a colour.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace eep {

// Text for the content or a quoted attribute of HTML and XML: & < > " ' as entities; what is not UTF-8, and
// characters that XML does not allow, as U+FFFD.
std::string escape_markup(std::string_view text);
// At most `most` characters, the last one an ellipsis where there were more.
std::string shorten(std::string_view text, size_t most);
// The width of a text in the page's font of `size` pixels, about.
double text_width(std::string_view text, double size);

inline constexpr double kFontSize = 12;
inline constexpr int kSeriesColours = 8;
std::string colour_class(int series);  // c0, c1, ..., again from c0

enum class Anchor : uint8_t { kStart, kMiddle, kEnd };

class Svg {
 public:
  // id: unique on the page. title and description are the picture's alternative text.
  Svg(const std::string& id, double width, double height, std::string_view title,
      std::string_view description);

  // `note`: shown by browsers while the pointer rests on the mark, read out by screen readers; may be "".
  void line(double x1, double y1, double x2, double y2, std::string_view classes);
  void rect(double x, double y, double width, double height, std::string_view classes,
            std::string_view note = {}, double opacity = 1);
  // Shapes differ, as colours alone tell too little: disc, square, triangle, diamond, cross, ring, ...
  void marker(int shape, double x, double y, double radius, std::string_view classes,
              std::string_view note = {});
  void path(std::string_view data, std::string_view classes, std::string_view note = {}, double opacity = 1);
  void polyline(const std::vector<std::pair<double, double>>& points, std::string_view classes);
  void text(double x, double y, std::string_view text, Anchor anchor = Anchor::kStart,
            std::string_view classes = {});
  void turned_text(double x, double y, double degrees, std::string_view text, Anchor anchor);

  std::string str() const;

 private:
  void close(const char* element, std::string_view classes, std::string_view note, double opacity = 1);

  std::string body_;
};

// A coordinate: two decimals at most.
std::string coordinate(double value);

}  // namespace eep
