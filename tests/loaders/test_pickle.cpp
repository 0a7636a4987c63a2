// Coefficient files: archives and pickles as PyTorch writes them, everything else refused, nothing executed.
#include <doctest/doctest.h>

#include <cstring>

#include "loaders/formats/json.h"
#include "loaders/formats/zip.h"
#include "loaders/models/coefficients.h"
#include "tests/loaders/scratch.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

std::string number(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += i < 8 ? static_cast<char>(value >> (8 * i)) : '\0';
  return text;
}

// An archive of stored members, as torch.save lays it out: sizes in the central directory alone.
std::string zip(const std::vector<std::pair<std::string, std::string>>& members, int method = 0) {
  std::string file, directory;
  for (const auto& [name, bytes] : members) {
    const size_t local = file.size();
    file += number(0x04034b50, 4) + number(20, 2) + number(8, 2) + number(0, 2) + number(0, 16) +
            number(name.size(), 2) + number(3, 2) + name + "pad" + bytes;
    directory += number(0x02014b50, 4) + number(20, 4) + number(8, 2) +
                 number(static_cast<uint64_t>(method), 2) + number(0, 8) + number(bytes.size(), 4) +
                 number(bytes.size(), 4) + number(name.size(), 2) + number(0, 12) + number(local, 4) + name;
  }
  const size_t begin = file.size();
  return file + directory + number(0x06054b50, 4) + number(0, 4) + number(members.size(), 2) +
         number(members.size(), 2) + number(directory.size(), 4) + number(begin, 4) + number(0, 2);
}

std::string text(const std::string& value) { return "X" + number(value.size(), 4) + value; }
std::string small(int value) { return std::string("K") + static_cast<char>(value); }
std::string floats(const std::vector<float>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

// _rebuild_tensor_v2(storage, 0, (rows, columns), (columns, 1), False, OrderedDict())
std::string tensor(const std::string& key, int rows, int columns, int stored) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" + text(key) +
         text("cpu") + small(stored) + "tQ" + small(0) + small(rows) + small(columns) + "\x86" +
         small(columns) + small(1) + "\x86\x89" + "ccollections\nOrderedDict\n)Rt" + "R";
}

PthFile parse(const std::string& file) {
  return parse_pth(reinterpret_cast<const uint8_t*>(file.data()), file.size(), "f.pth");
}

const std::string kStart = std::string("\x80\x02", 2);

std::string archive(const std::string& pickle, const std::string& storage = floats({1, 2, 3, 4})) {
  return zip({{"any name/data.pkl", pickle}, {"any name/byteorder", "little"}, {"any name/data/0", storage}});
}

}  // namespace

TEST_CASE("coefficients: a dictionary of tensors, alone or with its metric") {
  const std::string dictionary =
      "}q\1(" + text("a") + tensor("0", 2, 2, 4) + text("b") + tensor("0", 1, 3, 4) + "u";
  const PthFile alone = parse(archive(kStart + dictionary + "."));
  REQUIRE(alone.tensors.size() == 2);
  CHECK(alone.tensors[0].name == "a");
  CHECK(alone.tensors[0].shape == std::vector<int64_t>{2, 2});
  CHECK(alone.tensors[0].values == std::vector<float>{1, 2, 3, 4});
  CHECK(alone.tensors[1].values == std::vector<float>{1, 2, 3});
  CHECK(!alone.metric);
  const std::string half("G\x3f\xe0\0\0\0\0\0\0", 9);
  CHECK(parse(archive(kStart + dictionary + half + "\x86.")).metric == 0.5);
}

TEST_CASE("coefficients: anything else in the pickle is refused by name") {
  const auto refuse = [](const std::string& pickle, const std::string& part) {
    check_error(ExitCode::kData, part, [&] { parse(archive(pickle)); });
  };
  refuse(kStart + "cos\nsystem\n(" + text("true") + "tR.", "names os.system, which is not called here");
  refuse(kStart + "cbuiltins\neval\n.", "builtins.eval");
  refuse(kStart + "I5\n.", "opcode 0x49");
  refuse(kStart + "ccollections\nOrderedDict\n(" + text("x") + "tR.", "not described");
  refuse(kStart + "}", "ends early");
  refuse(kStart + "u.", "no mark");
  refuse(kStart + ".", "empty stack");
  refuse(kStart + "(}0.", "opcode 0x30");
  refuse(kStart + "h\7.", "never stored");
  refuse(kStart + "K\1.", "holds no dictionary");
  refuse(kStart + "}(K\1K\2u.", "is no text");
  refuse(kStart + "}(" + text("a") + "K\2u.", "holds no float tensor");
  refuse(kStart + "}(" + text("a") + tensor("9", 2, 2, 4) + "u.", "no member data/9");
  refuse(kStart + "}(" + text("a") + tensor("0", 2, 2, 5) + "u.", "wrong size of its storage");
  refuse(kStart + "}(" + text("a") + tensor("0", 3, 2, 4) + "u.", "beyond its storage");
  refuse(kStart + "}(" + text("a") + tensor("0", 1, 2, 4) + text("a") + tensor("0", 1, 2, 4) + "u.", "twice");
  refuse(std::string("\x80\x01", 2) + "}.", "protocol");
  const auto refuse_file = [](const std::string& file, const std::string& part) {
    check_error(ExitCode::kData, part, [&] { parse(file); });
  };
  const std::string good = archive(kStart + "}.");
  refuse_file("", "not a zip archive");
  refuse_file(good.substr(0, good.size() - 1), "not a zip archive");
  refuse_file(zip({{"r/data.pkl", "x"}}, 8), "compressed");
  refuse_file(zip({{"r/other", "x"}}), "no member data.pkl");
  refuse_file(zip({{"r/data.pkl", kStart + "}."}, {"r/byteorder", "big"}}), "byte order");
  refuse_file(zip({{"r/data.pkl", "x"}, {"r/data.pkl", "x"}}), "twice");
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    CHECK_THROWS_AS(parse(good.substr(0, bytes)), Error);
  }
}

TEST_CASE("coefficients: keys become layer groups") {
  const auto entry = [](const std::string& name, float first) { return PthTensor{name, {1, 2}, {first, 0}}; };
  PthFile file;
  file.tensors = {entry("layers.[0-1]", 1), entry("layers.2", 2), entry("others", 3),
                  entry("transfer.[0-2]", 4), entry("others_transfer", 5)};
  const ExpertPlan plan = coefficients_plan(file, 5, 2, "f");
  CHECK(plan.router_space == RouterSpace::kProbabilities);
  REQUIRE(plan.groups.size() == 3);
  CHECK(plan.groups[0].layers == std::vector<int32_t>{0, 1});
  CHECK(plan.groups[1].layers == std::vector<int32_t>{2});
  CHECK(plan.groups[1].expert_merging[0] == 2);
  CHECK(plan.groups[1].router_mapping[0] == 4);
  CHECK(plan.groups[2].layers == std::vector<int32_t>{3, 4});
  const auto refuse = [](PthFile wrong, int32_t layers, const std::string& part) {
    check_error(ExitCode::kData, part, [&] { coefficients_plan(wrong, layers, 2, "f"); });
  };
  refuse({}, 5, "no coefficients");
  refuse(file, 2, "layers.2: names no layer of 0..1");
  for (const char* name :
       {"layers.", "layers.x", "layers.[1]x", "layers.[2-1]", "layers.[1-", "layer.1", ""}) {
    PthFile wrong = file;
    wrong.tensors.push_back(entry(name, 1));
    refuse(wrong, 5, "unknown key");
  }
  PthFile wrong = file;
  wrong.tensors.pop_back();
  refuse(wrong, 5, "no coefficients for layer 3");
  wrong = file;
  wrong.tensors[2].shape = {2, 1};
  refuse(wrong, 5, "wrong shape");
  wrong = file;
  wrong.tensors[2] = PthTensor{"others", {2, 2}, {1, 0, 0, 1}};
  refuse(wrong, 5, "another shape");
  wrong = file;
  wrong.tensors[2].values[1] = NAN;
  refuse(wrong, 5, "not finite");
}

TEST_CASE("coefficients: the published files agree with their JSON copies to the bit") {
  const fs::path folder = fs::path(EEP_SOURCE_DIR) / "../shared/data/eep_coefficients";
  int compared = 0;
  if (fs::is_directory(folder)) {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".pth") continue;
      CAPTURE(entry.path().string());
      const PthFile file = read_pth(entry.path().string());
      fs::path copy = entry.path();
      const Json json = parse_json(read_file(copy.replace_extension(".json").string()), "copy");
      const Json& coefficients = json.at("coeff");
      REQUIRE(coefficients.size() == file.tensors.size());
      size_t i = 0;
      for (const auto& [key, rows] : coefficients.items()) {
        const PthTensor& tensor = file.tensors[i++];
        CHECK(tensor.name == key);
        size_t at = 0;
        bool same = tensor.shape == std::vector<int64_t>{static_cast<int64_t>(rows.size()), 8};
        for (const Json& row : rows) {
          for (const Json& value : row) {
            const float stored = value.get<float>();
            same = same && at < tensor.values.size() &&
                   std::memcmp(&stored, &tensor.values[at], sizeof(float)) == 0;
            ++at;
          }
        }
        CHECK(same);
      }
      const ExpertPlan plan = coefficients_plan(file, 32, 2, "f");
      CHECK(plan.groups.size() == file.tensors.size() / 2);
      CHECK(plan.groups.back().layers.back() == 31);  // others
      CHECK(plan.groups[0].kept == json.at("budget").get<int32_t>());
      check_plan(plan, std::vector<uint8_t>(32, 1), 8, "f");
      ++compared;
    }
    CHECK(compared == 22);
  } else {
    MESSAGE("skipped: no coefficient files beside the project");
  }
}

}  // namespace eep
