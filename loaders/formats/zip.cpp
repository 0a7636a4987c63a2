#include "loaders/formats/zip.h"

#include <algorithm>

#include "kernels/common/error.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"

namespace eep {

namespace {

constexpr size_t kEndBytes = 22, kCentralBytes = 46, kLocalBytes = 30;
constexpr size_t kMaxComment = 65535, kMaxMembers = 8192;
constexpr uint32_t kEndMark = 0x06054b50, kCentralMark = 0x02014b50, kLocalMark = 0x04034b50;

class Reader {
 public:
  Reader(const uint8_t* data, size_t size, const std::string& where)
      : data_(data), size_(size), where_(where) {}

  std::vector<ZipMember> read() {
    const size_t end = find_end();
    const size_t count = number(end + 10, 2);
    const size_t directory_bytes = number(end + 12, 4);
    size_t at = number(end + 16, 4);
    if (count == 0xffff || at == 0xffffffff) fail("64-bit zip archives are not read");
    if (count > kMaxMembers) fail("too many members");
    if (at > end || directory_bytes > end - at) fail("the central directory lies outside the file");
    const size_t stop = at + directory_bytes;
    std::vector<ZipMember> members;
    while (members.size() < count) at = member(at, stop, members);
    return members;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(ExitCode::kData, where_, what); }

  // Little-endian; the caller has made sure that it lies in the file.
  size_t number(size_t at, size_t bytes) const {
    size_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value |= size_t{data_[at + i]} << (8 * i);
    return value;
  }

  size_t find_end() const {
    const ForeignFile foreign =
        foreign_file({reinterpret_cast<const char*>(data_), std::min<size_t>(size_, size_t{100})});
    if (!foreign.what.empty() && !std::string_view(foreign.what).starts_with("a zip"))
      throw Error(ExitCode::kData, where_, foreign.what, foreign.hint);
    if (size_ < kEndBytes) fail("not a zip archive");
    const size_t first = size_ - std::min(size_, kEndBytes + kMaxComment);
    for (size_t at = size_ - kEndBytes + 1; at-- > first;) {
      if (number(at, 4) == kEndMark && at + kEndBytes + number(at + 20, 2) == size_) return at;
    }
    fail("not a zip archive, or cut short");
  }

  size_t member(size_t at, size_t stop, std::vector<ZipMember>& members) const {
    if (stop - at < kCentralBytes || number(at, 4) != kCentralMark) fail("damaged central directory");
    const size_t flags = number(at + 8, 2), method = number(at + 10, 2);
    const size_t packed = number(at + 20, 4), size = number(at + 24, 4);
    const size_t name_bytes = number(at + 28, 2), extra = number(at + 30, 2), comment = number(at + 32, 2);
    const size_t local = number(at + 42, 4);
    const size_t length = kCentralBytes + name_bytes + extra + comment;
    if (stop - at < length) fail("damaged central directory");
    ZipMember member;
    member.name.assign(reinterpret_cast<const char*>(data_ + at + kCentralBytes), name_bytes);
    const std::string shown = "member " + printable(member.name) + ": ";
    if ((flags & 1) != 0) fail(shown + "encrypted");
    if (method != 0 || packed != size) fail(shown + "compressed (expected stored, as PyTorch writes)");
    if (local > size_ || size_ - local < kLocalBytes || number(local, 4) != kLocalMark) {
      fail(shown + "no local header at its place");
    }
    const size_t begin = local + kLocalBytes + number(local + 26, 2) + number(local + 28, 2);
    if (begin > size_ || size > size_ - begin) fail(shown + "reaches beyond the end of the file");
    member.data = data_ + begin;
    member.size = size;
    const auto same = [&](const ZipMember& other) { return other.name == member.name; };
    if (std::any_of(members.begin(), members.end(), same)) fail(shown + "stored twice");
    members.push_back(std::move(member));
    return at + length;
  }

  const uint8_t* data_;
  size_t size_;
  const std::string& where_;
};

}  // namespace

std::vector<ZipMember> read_zip(const uint8_t* data, size_t size, const std::string& where) {
  return Reader(data, size, where).read();
}

}  // namespace eep
