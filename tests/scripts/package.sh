#!/usr/bin/env bash
# The packages of a build: package.sh BUILD. The tarball runs in a root that holds nothing but it, a model and
# the C library; the Debian package depends on no -dev package, and its program runs. 77 where a tool is
# missing.
set -u
build=$1
source=$(cd "$(dirname "$0")/../.." && pwd)
for tool in cpack dpkg-deb dpkg-shlibdeps file ldd; do
  command -v $tool >/dev/null 2>&1 || { echo "package: no $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "package: $*"; exit 1; }
(cd "$build" && cpack -G 'DEB;TGZ' -B "$work/packages") >"$work/log" 2>&1 ||
  { cat "$work/log"; fail "cpack failed"; }

deb=$(ls "$work"/packages/eep_*.deb) || fail "no Debian package"
depends=$(dpkg-deb -f "$deb" Depends)
grep -q libc6 <<<"$depends" || fail "the Debian package depends on nothing: $depends"
grep -qE -- '-dev|mpi' <<<"$depends" && fail "the Debian package depends on more than it runs with: $depends"
dpkg-deb -x "$deb" "$work/deb"
"$work/deb/usr/bin/eep" --version >/dev/null || fail "the Debian package's program does not run"
[ -f "$work/deb/usr/share/eep/tasks/sort.yaml" ] || fail "the Debian package lacks tasks"
ls "$work"/deb/usr/lib*/*.a "$work"/deb/usr/include >/dev/null 2>&1 &&
  fail "the Debian package holds what developers need"

root=$work/root
mkdir -p "$root"
tar -xzf "$work"/packages/eep-*.tar.gz -C "$root" --strip-components=1 || fail "no tarball"
cp -rL "$source/experiments/demo/mixtral" "$root/model"
# The C library, where the loader looks for it.
while read -r library; do
  mkdir -p "$root/$(dirname "$library")"
  cp -L "$library" "$root/$library"
done < <(ldd "$root/bin/eep" | grep -oE '/[^ ]*/(libc|libm|ld-linux[^ ]*)\.so[^ ]*')
foreign=$(ldd "$root/bin/eep" | grep -oE '/[^ ]+' | grep -vE "^$root/|/(libc|libm|ld-linux[^ ]*)\\.so")
[ -z "$foreign" ] || fail "the tarball's program finds libraries elsewhere: $foreign"
# The loader asks /proc where the program lies.
mkdir "$root/proc"
enter=("$(command -v unshare)" --fork --pid "--mount-proc=$root/proc")
[ "$(id -u)" -eq 0 ] || enter+=(--map-root-user)
enter+=("$(command -v chroot)" "$root")
run() { env -i "${enter[@]}" "$@"; }
if ! run "$(cd "$root" && ls lib64/ld-linux* lib/ld-linux* 2>/dev/null | head -n 1 |
  sed 's#^#/#')" --version >"$work/log" 2>&1; then
  cat "$work/log"
  echo "package: its libraries are its own; no bare root here (unshare, chroot)"
  exit 77
fi
run /bin/eep --version >"$work/log" 2>&1 || { cat "$work/log"; fail \
  "the tarball's program does not run in a bare root"; }
run /bin/eep eval /model --task /share/eep/tasks/sort.yaml --limit 4 --threads 2 >"$work/eval" 2>&1 ||
  { cat "$work/eval"; fail "eval fails in a bare root"; }
grep -q '^sort test' "$work/eval" || { cat "$work/eval"; fail "eval prints no score"; }
echo "package: ok ($(du -h "$work"/packages/eep-*.tar.gz | cut -f1) tarball)"
