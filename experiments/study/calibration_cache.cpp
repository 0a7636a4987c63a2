#include "experiments/study/calibration_cache.h"

#include "loaders/formats/json.h"

namespace eep {
namespace {

constexpr const char* kFormat = "eep-calibration";

}  // namespace

std::optional<Calibration> read_calibration(const std::string& path, const std::string& model,
                                            const std::string& data, const std::string& options) {
  if (!file_exists(path)) return std::nullopt;
  try {
    const Json json = parse_json(read_file(path), path);
    if (json.at("format") != kFormat || json.at("version") != 1 || json.at("options") != options)
      return std::nullopt;
    Calibration calibration{parse_statistics(json.at("statistics").dump(), path),
                            json.at("seconds").get<double>()};
    if (calibration.file.model != model || calibration.file.data != data) return std::nullopt;
    return calibration;
  } catch (const Error&) {  // whatever is wrong with it, the pass can be made again
    return std::nullopt;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

void write_calibration(const std::string& path, const Calibration& calibration, const std::string& options) {
  const Json json{{"format", kFormat},
                  {"version", 1},
                  {"options", options},
                  {"seconds", calibration.seconds},
                  {"statistics", parse_json(statistics_json(calibration.file), path)}};
  write_file_atomic(path, json.dump() + "\n");
}

}  // namespace eep
