#include "loaders/models/export_shards.h"

#include <fmt/format.h>

#include "kernels/common/interrupt.h"
#include "loaders/formats/json.h"
#include "loaders/models/finite.h"

namespace eep {

size_t tensor_bytes(const SafetensorsSpec& spec) {
  size_t bytes = element_bytes(spec);
  for (int64_t extent : spec.shape) bytes *= static_cast<size_t>(extent);
  return bytes;
}

std::vector<std::string> shard_names(const std::vector<StreamedTensor>& tensors, const std::string& stem,
                                     size_t limit) {
  std::vector<size_t> shard;
  size_t filled = 0, count = 1;
  for (const StreamedTensor& tensor : tensors) {
    const size_t bytes = tensor_bytes(tensor.spec);
    if (limit > 0 && filled > 0 && filled + bytes > limit) {
      ++count;
      filled = 0;
    }
    filled += bytes;
    shard.push_back(count);
  }
  std::vector<std::string> names;
  for (size_t number : shard) {
    names.push_back(count == 1 ? stem + ".safetensors"
                               : fmt::format("{}-{:05}-of-{:05}.safetensors", stem, number, count));
  }
  return names;
}

void write_shards(const std::string& directory, const std::string& stem,
                  const std::vector<StreamedTensor>& tensors, size_t limit, const ByteProgress& progress) {
  const std::vector<std::string> names = shard_names(tensors, stem, limit);
  size_t total = 0, done = 0;
  Json map = Json::object();
  for (size_t i = 0; i < tensors.size(); ++i) {
    total += tensor_bytes(tensors[i].spec);
    map.get_ref<Json::object_t&>().emplace_back(tensors[i].spec.name, names[i]);
  }
  for (size_t begin = 0; begin < tensors.size();) {
    size_t end = begin;
    std::vector<SafetensorsSpec> specs;
    for (; end < tensors.size() && names[end] == names[begin]; ++end) specs.push_back(tensors[end].spec);
    SafetensorsWriter writer(join_path(directory, names[begin]), specs);
    for (; begin < end; ++begin) {
      tensors[begin].produce([&](const void* data, size_t bytes) {
        check_interrupted();
        const SafetensorsSpec& spec = tensors[begin].spec;
        const size_t count = bytes / element_bytes(spec);
        if (spec.dtype != DType::kI32 && first_not_finite(data, count, spec.dtype, spec.code) < count) {
          throw Error(ExitCode::kData, spec.name,
                      "a value is not finite: the source's is not, or a merged one exceeds the dtype");
        }
        writer.append(data, bytes);
        done += bytes;
        if (progress) progress(done, total);
      });
    }
    writer.commit();
  }
  if (!names.empty() && names.front() != stem + ".safetensors") {
    const Json index{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}};
    write_file_atomic(join_path(directory, stem + ".safetensors.index.json"), index.dump(2) + "\n");
  }
}

}  // namespace eep
