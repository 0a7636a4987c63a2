// The kinds of charts that a report is made of, each drawn to one SVG. Whatever is drawn is in the structure;
// numbers that readers may want are in the marks' notes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/report/axis.h"
#include "loaders/tasks/statistics.h"

namespace eep {

struct ChartText {
  std::string id;           // unique on the page
  std::string title;        // of the alternative text, and of the figure
  std::string description;  // what is to be seen
};

// ---- points and lines over two axes

struct XyMark {
  double x = 0, y = 0;
  std::optional<Interval> interval{};  // of y
  std::string note{};
};

struct XySeries {
  std::string name;  // "": not in the legend
  int colour = 0;    // also the shape of its points
  bool line = true, points = true;
  bool step = false;   // the line keeps a value until the next
  bool faint = false;  // a cloud behind the others
  std::vector<XyMark> marks{};
};

struct XyLevel {  // a horizontal line with its name at the right
  std::string name;
  double y = 0;
};

struct XyPhase {  // a stretch of x with its name above
  std::string name;
  double from = 0, to = 0;
};

struct XyChart {
  ChartText text;
  std::string x_label, y_label;
  std::vector<XySeries> series{};
  std::vector<XyLevel> levels{};
  std::vector<XyPhase> phases{};
  bool whole_x = false;
  bool percent = false;    // y is a fraction, its labels are percent
  bool percent_x = false;  // the same of x
  bool from_zero = false;
  double height = 280;  // of the plot, pixels
  double width = 760;   // of the picture
};

std::string draw(const XyChart& chart);

// ---- rows of points with intervals

struct RowMark {
  double x = 0;
  std::optional<Interval> interval{};
  std::string note{};
};

struct RowChart {
  ChartText text;
  std::string x_label;
  std::vector<std::string> series{};  // names
  struct Row {
    std::string name;
    std::vector<std::optional<RowMark>> marks{};  // [series]
  };
  std::vector<Row> rows{};
  std::optional<double> reference{};  // a vertical line
  bool percent = false;
};

std::string draw(const RowChart& chart);

// ---- rows of bars, the parts of a row one after the other

struct BarChart {
  ChartText text;
  std::string x_label;
  std::vector<std::string> series{};
  struct Row {
    std::string name;
    std::vector<double> parts{};       // [series], 0 or more
    std::vector<std::string> notes{};  // [series]
    std::string end{};                 // written behind the bar
  };
  std::vector<Row> rows{};
  std::vector<int> colours{};  // [series]; empty: in their order
};

std::string draw(const BarChart& chart);

// ---- a grid of values

struct Grid {
  ChartText text;
  std::string row_label, column_label, value_label;
  std::vector<std::string> rows{}, columns{};
  std::vector<std::optional<double>> values{};  // [rows, columns]
  std::vector<std::string> notes{};             // [rows, columns]
  std::vector<std::string> cell_texts{};        // [rows, columns], or empty
  std::vector<uint8_t> marked{};                // [rows, columns] a frame, or empty
  struct Arc {                                  // within a row, from a column to another
    size_t row = 0, from = 0, to = 0;
    double weight = 1;  // 0..1, its width
    std::string note{};
  };
  std::vector<Arc> arcs{};
  std::string marked_name{}, arc_name{};  // for the legend
  bool is_signed = false;                 // negative values have a colour of their own
  double most = 0;                        // of |value|; 0: the largest there is
  double cell = 0;                        // pixels; 0: what fits
};

std::string draw(const Grid& grid);

}  // namespace eep
