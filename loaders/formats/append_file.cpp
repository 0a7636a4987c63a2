#include "loaders/formats/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/common/error.h"

namespace eep {

void append_to_file(const std::string& path, std::string_view bytes) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  int reason = file < 0 ? errno : 0;
  while (reason == 0 && !bytes.empty()) {
    const ssize_t count = ::write(file, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) reason = errno;
    if (count > 0) bytes.remove_prefix(static_cast<size_t>(count));
  }
  if (file >= 0 && ::close(file) != 0 && reason == 0) reason = errno;
  if (reason != 0) throw Error(ExitCode::kIo, path, std::string("cannot write: ") + std::strerror(reason));
}

}  // namespace eep
