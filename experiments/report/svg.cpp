#include "experiments/report/svg.h"

#include <fmt/format.h>

#include <cmath>

#include "loaders/formats/unicode.h"

namespace eep {
namespace {

const char* anchor_name(Anchor anchor) {
  return anchor == Anchor::kStart ? "start" : anchor == Anchor::kMiddle ? "middle" : "end";
}

// XML 1.0 has no place for other control characters, not even as entities.
bool allowed(uint32_t c) {
  return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c != 0x7f && c != 0xfffe && c != 0xffff);
}

}  // namespace

std::string escape_markup(std::string_view text) {
  const std::string valid = replace_invalid_utf8(text);
  std::string out;
  out.reserve(valid.size());
  for (size_t at = 0; at < valid.size();) {
    const auto [code, length] = decode_utf8(valid, at);
    if (!allowed(code)) {
      append_utf8(out, 0xfffd);
    } else if (code == '&') {
      out += "&amp;";
    } else if (code == '<') {
      out += "&lt;";
    } else if (code == '>') {
      out += "&gt;";
    } else if (code == '"') {
      out += "&quot;";
    } else if (code == '\'') {
      out += "&#39;";
    } else {
      out.append(valid, at, static_cast<size_t>(length));
    }
    at += static_cast<size_t>(length);
  }
  return out;
}

std::string shorten(std::string_view text, size_t most) {
  const std::string valid = replace_invalid_utf8(text);
  size_t count = 0, cut = 0;
  for (size_t at = 0; at < valid.size(); ++count) {
    if (count + 1 == most) cut = at;
    if (count == most) return valid.substr(0, cut) + "\u2026";
    at += static_cast<size_t>(decode_utf8(valid, at).bytes);
  }
  return valid;
}

double text_width(std::string_view text, double size) {
  const std::string valid = replace_invalid_utf8(text);
  double width = 0;
  for (size_t at = 0; at < valid.size();) {
    const auto [code, length] = decode_utf8(valid, at);
    const bool narrow = code < 0x80 && std::string_view("iljtf.,:;'|!()[] ").find(static_cast<char>(code)) !=
                                           std::string_view::npos;
    const bool wide = code >= 0x1100 || code == 'm' || code == 'w' || code == 'M' || code == 'W';
    width += narrow ? 0.32 : wide ? 0.95 : 0.58;
    at += static_cast<size_t>(length);
  }
  return width * size;
}

std::string colour_class(int series) { return fmt::format("c{}", series % kSeriesColours); }

std::string coordinate(double value) {
  if (!std::isfinite(value)) value = 0;
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

Svg::Svg(const std::string& id, double width, double height, std::string_view title,
         std::string_view description) {
  body_ = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "role=\"img\" aria-labelledby=\"{2}-title {2}-desc\">\n<title id=\"{2}-title\">{3}</title>"
      "<desc id=\"{2}-desc\">{4}</desc>\n",
      coordinate(width), coordinate(height), escape_markup(id), escape_markup(title),
      escape_markup(description));
}

void Svg::close(const char* element, std::string_view classes, std::string_view note, double opacity) {
  if (!classes.empty()) body_ += fmt::format(" class=\"{}\"", classes);
  if (opacity < 1) body_ += fmt::format(" fill-opacity=\"{}\"", coordinate(opacity));
  if (note.empty()) {
    body_ += "/>\n";
  } else {
    body_ += fmt::format("><title>{}</title></{}>\n", escape_markup(note), element);
  }
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view classes) {
  body_ += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"", coordinate(x1), coordinate(y1),
                       coordinate(x2), coordinate(y2));
  close("line", classes, {});
}

void Svg::rect(double x, double y, double width, double height, std::string_view classes,
               std::string_view note, double opacity) {
  body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", coordinate(x), coordinate(y),
                       coordinate(width), coordinate(height));
  close("rect", classes, note, opacity);
}

void Svg::marker(int shape, double x, double y, double radius, std::string_view classes,
                 std::string_view note) {
  const auto at = [&](double dx, double dy) {
    return coordinate(x + dx * radius) + " " + coordinate(y + dy * radius);
  };
  switch (shape % kSeriesColours) {
    case 0:
    case 5:
      body_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\"", coordinate(x), coordinate(y),
                           coordinate(radius));
      close("circle", std::string(classes) + (shape % kSeriesColours == 5 ? " hollow" : ""), note);
      return;
    case 1:
    case 6:
      path(fmt::format("M{}L{}L{}L{}Z", at(-0.9, -0.9), at(0.9, -0.9), at(0.9, 0.9), at(-0.9, 0.9)),
           std::string(classes) + (shape % kSeriesColours == 6 ? " hollow" : ""), note);
      return;
    case 2:
      path(fmt::format("M{}L{}L{}Z", at(0, -1.15), at(1.1, 0.85), at(-1.1, 0.85)), classes, note);
      return;
    case 3:
      path(fmt::format("M{}L{}L{}L{}Z", at(0, -1.25), at(1.25, 0), at(0, 1.25), at(-1.25, 0)), classes, note);
      return;
    case 4:
      path(fmt::format("M{}L{}M{}L{}", at(-1, -1), at(1, 1), at(-1, 1), at(1, -1)),
           std::string(classes) + " hollow", note);
      return;
    default:
      path(fmt::format("M{}L{}L{}Z", at(0, 1.15), at(1.1, -0.85), at(-1.1, -0.85)), classes, note);
      return;
  }
}

void Svg::path(std::string_view data, std::string_view classes, std::string_view note, double opacity) {
  body_ += fmt::format("<path d=\"{}\"", data);
  close("path", classes, note, opacity);
}

void Svg::polyline(const std::vector<std::pair<double, double>>& points, std::string_view classes) {
  body_ += "<polyline points=\"";
  for (size_t i = 0; i < points.size(); ++i)
    body_ +=
        fmt::format("{}{},{}", i > 0 ? " " : "", coordinate(points[i].first), coordinate(points[i].second));
  body_ += '"';
  close("polyline", classes, {});
}

void Svg::text(double x, double y, std::string_view text, Anchor anchor, std::string_view classes) {
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\"{}>{}</text>\n", coordinate(x),
                       coordinate(y), anchor_name(anchor),
                       classes.empty() ? std::string() : fmt::format(" class=\"{}\"", classes),
                       escape_markup(text));
}

void Svg::turned_text(double x, double y, double degrees, std::string_view text, Anchor anchor) {
  body_ += fmt::format("<text transform=\"translate({} {}) rotate({})\" text-anchor=\"{}\">{}</text>\n",
                       coordinate(x), coordinate(y), coordinate(degrees), anchor_name(anchor),
                       escape_markup(text));
}

std::string Svg::str() const { return body_ + "</svg>\n"; }

}  // namespace eep
