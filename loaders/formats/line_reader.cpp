#include "loaders/formats/line_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernels/common/error.h"
#include "kernels/common/mapped_file.h"

namespace eep {

namespace {

constexpr size_t kBlock = size_t{1} << 18;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

LineReader::LineReader(const std::string& path) : path_(path) {
  check_file_name(path);
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    throw Error(missing ? ExitCode::kNoInput : ExitCode::kIo, path,
                std::string("cannot open: ") + std::strerror(errno));
  }
}

LineReader::~LineReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool LineReader::fill() {
  if (ended_) return false;
  buffer_.erase(0, at_);
  at_ = 0;
  const size_t held = buffer_.size();
  buffer_.resize(held + kBlock);
  ssize_t count = 0;
  do {
    count = ::read(descriptor_, buffer_.data() + held, kBlock);
  } while (count < 0 && errno == EINTR);
  if (count < 0) throw Error(ExitCode::kIo, path_, std::string("cannot read: ") + std::strerror(errno));
  buffer_.resize(held + static_cast<size_t>(count));
  ended_ = count == 0;
  return !ended_;
}

std::string_view LineReader::begin(size_t bytes) {
  while (buffer_.size() < bytes && fill()) {
  }
  return buffer_;
}

bool LineReader::next(std::string& line) {
  if (number_ == 0 && begin(kByteOrderMark.size()).starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
  size_t searched = 0, end = 0;
  while ((end = buffer_.find('\n', at_ + searched)) == std::string::npos) {
    searched = buffer_.size() - at_;
    if (searched > kMaxLine) {
      throw Error(ExitCode::kData, path_ + ":" + std::to_string(number_ + 1),
                  "line too long (expected at most " + std::to_string(kMaxLine) + " bytes)");
    }
    if (!fill()) {
      if (searched == 0) return false;
      end = buffer_.size();
      break;
    }
  }
  line.assign(buffer_, at_, end - at_);
  if (line.ends_with('\r')) line.pop_back();
  at_ = std::min(end + 1, buffer_.size());
  ++number_;
  return true;
}

}  // namespace eep
