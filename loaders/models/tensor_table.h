// All tensors of a directory by name, whichever file they lie in: which of them the architecture asked for,
// and views of those.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/raw_model.h"
#include "loaders/formats/safetensors.h"

namespace eep {

class TensorTable {
 public:
  // `stem`.safetensors, else the shards that `stem`.safetensors.index.json names, else all of
  // `stem`-00001-of-0000N.safetensors, which the note says.
  TensorTable(const std::string& directory, const std::string& stem);

  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  bool has_any(const std::string& prefix) const;                     // a tensor whose name begins so
  const std::vector<int64_t>& shape(const std::string& name) const;  // throws when missing

  // Throws when it is missing, or of another shape or dtype. With `allowed` it may also be coded so; the
  // tensor's dtype then means nothing.
  Tensor get(const std::string& name, const std::vector<int64_t>& shape, Code allowed = Code::kNone);
  bool is_coded(const std::string& name, Code code) const;

  // Reads past what nothing asked for so far and `known` says yes to.
  void skip(const std::function<bool(const std::string&)>& known);

  // A tensor that nothing asked for means another architecture or another count than the config's.
  void check_all_used() const;

  size_t used_bytes() const { return used_bytes_; }
  const std::string& note() const { return note_; }  // or ""
  std::vector<MappedFile> take_files() { return std::move(files_); }

 private:
  struct Item {
    SafetensorsEntry entry;
    const uint8_t* data;
    size_t file;
    bool used = false;
  };

  const Item& item(const std::string& name) const;
  // Names the tensor that lies in its place, if one does.
  [[noreturn]] void fail_missing_tensor(const std::string& name) const;
  void add_file(const std::string& path);
  void add_shards(const std::string& directory, const std::string& index_path);
  bool add_shards_without_index(const std::string& directory,
                                const std::string& stem);  // false: none is there

  std::vector<MappedFile> files_;
  std::unordered_map<std::string, Item> tensors_;
  size_t used_bytes_ = 0;
  std::string note_;
};

}  // namespace eep
