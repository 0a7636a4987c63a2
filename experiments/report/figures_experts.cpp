// The plan: which experts stay, what is merged into them, how methods agree.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "experiments/report/charts.h"
#include "experiments/report/figures.h"
#include "experiments/report/plan_facts.h"
#include "experiments/report/svg.h"

namespace eep {
namespace {

constexpr size_t kMostArcs = 60;     // merges drawn over the map
constexpr size_t kMostMatrices = 6;  // groups whose matrices are drawn
constexpr int kBins = 40;            // of the histogram of coefficients
constexpr size_t kTopDonors = 12;

const LayerStatistics* statistics_of(const RunRecord& run, const LayerFacts& facts) {
  if (!run.statistics || run.statistics->experts != facts.experts) return nullptr;
  for (const LayerStatistics& layer : run.statistics->layers) {
    if (layer.layer == facts.layer) return &layer;
  }
  return nullptr;
}

const ExpertPlan* final_plan(const RunRecord& run) {
  const MethodNumbers* const last = run.final_method();
  return last == nullptr || !last->plan ? nullptr : &*last->plan;
}

std::vector<std::string> numbers_to(size_t count) {
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

size_t widest(const std::vector<LayerFacts>& layers) {
  size_t most = 0;
  for (const LayerFacts& facts : layers) most = std::max(most, static_cast<size_t>(facts.experts));
  return most;
}

struct Matrix {
  const char* name;
  const std::vector<float>* values;
};

// Weights beside the largest of each row, over all of the group's weight: how far from one-hot.
double mixing(const PlanGroup& group, const std::vector<float>& matrix) {
  double all = 0, largest = 0;
  for (int32_t row = 0; row < group.kept; ++row) {
    double top = 0;
    for (int32_t e = 0; e < group.experts; ++e) {
      const double value = std::abs(
          matrix[static_cast<size_t>(row) * static_cast<size_t>(group.experts) + static_cast<size_t>(e)]);
      all += value;
      top = std::max(top, value);
    }
    largest += top;
  }
  return all > 0 ? 1 - largest / all : 0;
}

std::string layers_text(const std::vector<int32_t>& layers) {
  if (layers.size() == 1) return fmt::format("layer {}", layers[0]);
  const bool run = layers.back() - layers.front() + 1 == static_cast<int32_t>(layers.size());
  return run ? fmt::format("layers {} to {}", layers.front(), layers.back())
             : fmt::format("layers {}", fmt::join(layers, ", "));
}

std::string draw_matrix(const PlanGroup& group, const Matrix& matrix, const std::string& id) {
  Grid grid;
  grid.text = {
      id, fmt::format("{}, {}", matrix.name, layers_text(group.layers)),
      fmt::format("{} rows of kept experts, {} columns of original experts.", group.kept, group.experts)};
  grid.column_label = grid.text.title + ": original expert";
  grid.row_label = "kept";
  grid.value_label = "coefficient";
  grid.rows = numbers_to(static_cast<size_t>(group.kept));
  grid.columns = numbers_to(static_cast<size_t>(group.experts));
  grid.cell = 22;
  if (grid.columns.size() * 22 > 680) grid.cell = 0;
  for (size_t at = 0; at < matrix.values->size(); ++at) {
    const double value = (*matrix.values)[at];
    grid.values.emplace_back(value);
    grid.is_signed |= value < 0;
    grid.notes.push_back(value == 0
                             ? ""
                             : fmt::format("{} row {}, expert {}: {}", matrix.name, at / grid.columns.size(),
                                           at % grid.columns.size(), (*matrix.values)[at]));
  }
  return draw(grid);
}

std::string draw_histogram(const std::vector<std::pair<const char*, std::vector<double>>>& values,
                           const std::string& id) {
  double most = 0;
  for (const auto& [name, own] : values) {
    for (const double value : own) most = std::max(most, std::abs(value));
  }
  XyChart chart;
  chart.text = {id, "Coefficients beside the largest of each row",
                "How many coefficients of the two matrices have which size."};
  chart.x_label = "coefficient (the largest of each row left out)";
  chart.y_label = "count";
  chart.height = 170;
  chart.from_zero = true;
  for (const auto& [name, own] : values) {
    if (own.empty()) continue;
    std::vector<int64_t> counts(kBins, 0);
    for (const double value : own)
      ++counts[static_cast<size_t>(
          std::clamp(static_cast<int>((value / most + 1) / 2 * kBins), 0, kBins - 1))];
    XySeries series{name, static_cast<int>(chart.series.size()), true, false, true};
    for (int bin = 0; bin < kBins; ++bin)
      series.marks.push_back({most * (2.0 * bin / kBins - 1),
                              static_cast<double>(counts[static_cast<size_t>(bin)]), std::nullopt, ""});
    series.marks.push_back({most, 0, std::nullopt, ""});
    chart.series.push_back(std::move(series));
  }
  return chart.series.empty() ? "" : draw(chart);
}

}  // namespace

void add_expert_map(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  const ExpertPlan* const plan = final_plan(run);
  if (plan == nullptr) return;
  const std::vector<LayerFacts> layers = layer_facts(*plan);
  Figure figure;
  figure.file = "experts";
  figure.title = "Experts that stay, and what is merged into them";
  figure.table.columns = {"layer", "expert", "kept", "saliency", "routed_tokens", "given_to", "coefficient"};
  Grid grid;
  grid.text = {id + "-experts", figure.title, ""};
  grid.column_label = "expert";
  grid.row_label = "layer";
  grid.columns = numbers_to(widest(layers));
  grid.marked_name = "stays";
  grid.arc_name = "weights that flow into an expert that stays";
  struct Weighted {
    Grid::Arc arc;
    float coefficient;
  };
  std::vector<Weighted> arcs;
  bool shaded = false;
  for (size_t row = 0; row < layers.size(); ++row) {
    const LayerFacts& facts = layers[row];
    grid.rows.push_back(std::to_string(facts.layer));
    const LayerStatistics* const statistics = statistics_of(run, facts);
    const std::vector<double> saliency = statistics ? saliency_of(*statistics) : std::vector<double>();
    double most = 0;
    for (const double value : saliency) most = std::max(most, value);
    shaded |= !saliency.empty();
    const std::set<int32_t> kept(facts.receivers.begin(), facts.receivers.end());
    for (size_t e = 0; e < grid.columns.size(); ++e) {
      const auto expert = static_cast<int32_t>(e);
      const bool stays = kept.count(expert) != 0;
      const bool here = expert < facts.experts;
      grid.marked.push_back(stays ? 1 : 0);
      if (!here) {
        grid.values.emplace_back();
        grid.notes.emplace_back();
        continue;
      }
      const Donation* gift = nullptr;
      for (const Donation& donation : facts.donations) {
        if (donation.from == expert && gift == nullptr) gift = &donation;
      }
      grid.values.emplace_back(saliency.empty() ? (stays ? 0.5 : 0.1) : most > 0 ? saliency[e] / most : 0.0);
      std::string note =
          fmt::format("layer {}, expert {}{}", facts.layer, e, stays ? ", stays" : ", removed");
      if (!saliency.empty()) note += fmt::format(", saliency {}", number_text(saliency[e]));
      grid.notes.push_back(note);
      figure.table.add({std::to_string(facts.layer), std::to_string(e), stays ? "true" : "false",
                        saliency.empty() ? "" : number_text(saliency[e]),
                        statistics == nullptr ? "" : number_text((*statistics)[ExpertSum::kCount][e]),
                        gift == nullptr ? "" : std::to_string(gift->to),
                        gift == nullptr ? "" : fmt::format("{}", gift->coefficient)});
    }
    for (const Donation& donation : facts.donations)
      arcs.push_back({{row, static_cast<size_t>(donation.from), static_cast<size_t>(donation.to), 0,
                       fmt::format("layer {}: expert {} gives {} to expert {}", facts.layer, donation.from,
                                   donation.coefficient, donation.to)},
                      donation.coefficient});
  }
  std::stable_sort(arcs.begin(), arcs.end(), [](const Weighted& a, const Weighted& b) {
    return std::abs(a.coefficient) > std::abs(b.coefficient);
  });
  const size_t all = arcs.size();
  if (arcs.size() > kMostArcs) arcs.resize(kMostArcs);
  for (Weighted& weighted : arcs) {
    weighted.arc.weight = std::abs(weighted.coefficient) / std::abs(arcs[0].coefficient);
    grid.arcs.push_back(weighted.arc);
  }
  grid.most = 1;
  if (shaded) grid.value_label = "saliency, of the layer's largest";
  grid.text.description = fmt::format("{} layers of {} experts; frames mark those that stay; {} merges.",
                                      layers.size(), grid.columns.size(), all);
  figure.words = shaded
                     ? "Shades: REAP's saliency on the train items (gate times norm of the output, mean over "
                       "routed tokens), of the layer's largest. "
                     : "";
  figure.words += "Frames mark the experts that stay.";
  if (all > 0)
    figure.words += fmt::format(
        " Arcs are the {} largest of {} coefficients of W<sub>EM</sub> beside each row's own "
        "expert.",
        arcs.size(), all);
  figure.body = draw(grid);
  figures->push_back(std::move(figure));
}

void add_coverage(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  const ExpertPlan* const plan = final_plan(run);
  if (plan == nullptr) return;
  const std::vector<LayerFacts> layers = layer_facts(*plan);
  Figure figure;
  figure.file = "coverage";
  figure.title = "Kept experts and coverage by layer";
  figure.table.columns = {"layer", "experts", "kept", "coverage", "effective_experts", "never_routed"};
  XyChart share, count;
  share.text = {id + "-coverage", "Routed calls that the kept experts had", ""};
  share.x_label = count.x_label = "layer";
  share.y_label = "coverage, %";
  share.percent = share.whole_x = count.whole_x = share.from_zero = count.from_zero = true;
  count.text = {id + "-counts", "Experts of each layer", ""};
  count.y_label = "experts";
  share.height = count.height = 170;
  XySeries covered{"coverage", 0, true, true}, kept{"kept", 0, true, true},
      effective{"effective number", 1, true, true};
  double worst = 2;
  int64_t never = 0;
  for (const LayerFacts& facts : layers) {
    const auto layer = static_cast<double>(facts.layer);
    const size_t stays = std::set<int32_t>(facts.receivers.begin(), facts.receivers.end()).size();
    kept.marks.push_back({layer, static_cast<double>(facts.kept), std::nullopt,
                          fmt::format("layer {}: {} kept of {}", facts.layer, facts.kept, facts.experts)});
    const LayerStatistics* const statistics = statistics_of(run, facts);
    if (statistics == nullptr) {
      figure.table.add({std::to_string(facts.layer), std::to_string(facts.experts),
                        std::to_string(facts.kept), "", "", ""});
      continue;
    }
    const Coverage coverage = coverage_of(facts, *statistics);
    worst = std::min(worst, coverage.kept_share);
    never += coverage.never;
    covered.marks.push_back(
        {layer, coverage.kept_share, std::nullopt,
         fmt::format("layer {}: {} ({}), {} different experts", facts.layer,
                     percent_text(coverage.kept_share), number_text(coverage.kept_share), stays)});
    effective.marks.push_back({layer, coverage.effective, std::nullopt,
                               fmt::format("layer {}: {}", facts.layer, number_text(coverage.effective))});
    figure.table.add({std::to_string(facts.layer), std::to_string(facts.experts), std::to_string(facts.kept),
                      number_text(coverage.kept_share), number_text(coverage.effective),
                      std::to_string(coverage.never)});
  }
  count.series = {kept};
  if (!covered.marks.empty()) {
    share.series = {covered};
    share.text.description = fmt::format("The least covered layer has {}.", percent_text(worst));
    figure.body += draw(share);
    count.series.push_back(effective);
    figure.words =
        "Share of the routed calls on the train items that went to experts which stay. The effective number "
        "is the exponential of the entropy of those calls: as many experts, equally used.";
    if (never > 0) figure.words += fmt::format(" {} experts were never routed to.", never);
  }
  count.text.description = fmt::format("Kept experts of {} layers.", layers.size());
  figure.body += draw(count);
  figures->push_back(std::move(figure));
}

void add_matrices(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  const ExpertPlan* const plan = final_plan(run);
  if (plan == nullptr) return;
  Figure figure;
  figure.file = "matrices";
  figure.title = "The matrices W_EM and W_RM";
  figure.table.columns = {"group", "layers", "matrix", "row", "expert", "coefficient"};
  std::vector<std::pair<const char*, std::vector<double>>> beside{{"W_EM", {}}, {"W_RM", {}}};
  struct Donor {
    size_t group;
    int32_t row, expert;
    float coefficient;
  };
  std::vector<Donor> donors;
  std::vector<std::pair<double, size_t>> order;
  for (size_t g = 0; g < plan->groups.size(); ++g) {
    const PlanGroup& group = plan->groups[g];
    order.emplace_back(-mixing(group, group.expert_merging) - mixing(group, group.router_mapping), g);
    const Matrix matrices[] = {{"W_EM", &group.expert_merging}, {"W_RM", &group.router_mapping}};
    for (size_t m = 0; m < 2; ++m) {
      for (int32_t row = 0; row < group.kept; ++row) {
        const float* values =
            matrices[m].values->data() + static_cast<size_t>(row) * static_cast<size_t>(group.experts);
        const auto largest = static_cast<int32_t>(
            std::max_element(values, values + group.experts,
                             [](float a, float b) { return std::abs(a) < std::abs(b); }) -
            values);
        for (int32_t e = 0; e < group.experts; ++e) {
          if (values[e] == 0.0f) continue;
          figure.table.add({std::to_string(g), fmt::format("{}", fmt::join(group.layers, " ")),
                            matrices[m].name, std::to_string(row), std::to_string(e),
                            fmt::format("{}", values[e])});
          if (e == largest) continue;
          beside[m].second.push_back(values[e]);
          if (m == 0) donors.push_back({g, row, e, values[e]});
        }
      }
    }
  }
  std::stable_sort(order.begin(), order.end());
  if (order.size() > kMostMatrices) order.resize(kMostMatrices);
  for (const auto& [mixed, g] : order) {
    const PlanGroup& group = plan->groups[g];
    figure.body += "<div class=\"pair\">";
    figure.body += draw_matrix(group, {"W_EM", &group.expert_merging}, fmt::format("{}-em{}", id, g));
    figure.body += draw_matrix(group, {"W_RM", &group.router_mapping}, fmt::format("{}-rm{}", id, g));
    figure.body += "</div>\n";
  }
  figure.words =
      "A row is an expert of the pruned model: what it is merged from (W<sub>EM</sub>), and which router "
      "outputs it answers to (W<sub>RM</sub>). One dark cell a row: nothing is merged.";
  if (order.size() < plan->groups.size())
    figure.words += fmt::format(" The {} groups of layers that mix most, of {}; the CSV file has all.",
                                order.size(), plan->groups.size());
  figure.body += draw_histogram(beside, id + "-histogram");
  std::stable_sort(donors.begin(), donors.end(), [](const Donor& a, const Donor& b) {
    return std::abs(a.coefficient) > std::abs(b.coefficient);
  });
  if (donors.size() > kTopDonors) donors.resize(kTopDonors);
  std::vector<std::vector<std::string>> rows;
  for (const Donor& donor : donors)
    rows.push_back({layers_text(plan->groups[donor.group].layers), std::to_string(donor.expert),
                    std::to_string(donor.row), fmt::format("{:.4g}", donor.coefficient)});
  if (!rows.empty())
    figure.body += "<details open><summary>Largest donors</summary>" +
                   html_table({"where", "donor", "into row", "coefficient"}, rows, 1) + "</details>\n";
  figures->push_back(std::move(figure));
}

void add_agreement(std::span<const RunRecord> runs, const std::string& id, std::vector<Figure>* figures) {
  struct Entry {
    std::string name;
    std::vector<LayerFacts> layers;
  };
  std::vector<Entry> entries;
  for (const RunRecord& run : runs) {
    for (const MethodNumbers& method : run.methods) {
      // Of several runs what each found; of one run every method. Draws at random are as many as one likes.
      if (!method.plan || method.name.starts_with("full") || method.name == "random") continue;
      if (runs.size() > 1 && &method != run.final_method()) continue;
      entries.push_back({runs.size() > 1 ? run.label : method.name, layer_facts(*method.plan)});
    }
  }
  if (entries.size() < 2 || entries.size() > 40) return;
  Figure figure;
  figure.file = runs.size() > 1 ? "agreement_runs" : "agreement";
  figure.title = "How far the lists of kept experts agree";
  figure.words =
      "Jaccard index of the kept experts, mean over layers: 1 for the same lists, 0 for nothing in common.";
  figure.table.columns = {"a", "b", "jaccard"};
  Grid grid;
  grid.text = {id + "-agreement", figure.title,
               fmt::format("Agreement of {} lists with each other.", entries.size())};
  grid.value_label = "Jaccard index";
  grid.most = 1;
  for (const Entry& a : entries) {
    grid.rows.push_back(a.name);
    grid.columns.push_back(a.name);
    for (const Entry& b : entries) {
      const Agreement agreement = keep_list_agreement(a.layers, b.layers);
      grid.values.push_back(agreement.comparable ? std::optional(agreement.jaccard) : std::nullopt);
      grid.cell_texts.push_back(agreement.comparable ? fmt::format("{:.2f}", agreement.jaccard) : "");
      const std::string number = agreement.comparable ? number_text(agreement.jaccard) : "";
      grid.notes.push_back(fmt::format("{} and {}: {}", a.name, b.name, number));
      figure.table.add({a.name, b.name, number});
    }
  }
  figure.body = draw(grid);
  figures->push_back(std::move(figure));
}

}  // namespace eep
