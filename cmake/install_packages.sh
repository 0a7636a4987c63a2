#!/usr/bin/env bash
# Installs the missing Debian packages of packages.txt: install_packages.sh [GROUP...] (default: build). As
# root or with sudo that asks for no password it calls apt; otherwise it prints the command and fails. With
# all packages there it prints nothing. On a system without dpkg it leaves the matter to CMake, which names
# what it misses.
set -u
list=$(dirname "$0")/packages.txt
groups=" ${*:-build} "

command -v dpkg-query >/dev/null 2>&1 || exit 0

wanted=() unknown=()
group=
while read -r package command _; do
  case $package in
    '' | '#'*) continue ;;
    '['*) group=${package//[\[\]]/} ;;
    *)
      [[ $groups == *" $group "* ]] || continue
      [ -n "$command" ] && command -v "$command" >/dev/null 2>&1 && continue
      wanted+=("$package") ;;
  esac
done <"$list"
[ ${#wanted[@]} -eq 0 ] && exit 0

installed=" $(dpkg-query -W -f='${Package}:${db:Status-Status} ' "${wanted[@]}" 2>/dev/null) "
for package in "${wanted[@]}"; do
  [[ $installed == *" $package:installed "* ]] || unknown+=("$package")
done
[ ${#unknown[@]} -eq 0 ] && exit 0

run=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; then
    run=(sudo -n)
  else
    echo "eep: these Debian packages are missing: ${unknown[*]}" >&2
    echo "eep: install them and run the command again:" >&2
    echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${unknown[*]}" >&2
    exit 1
  fi
fi

echo "eep: installing Debian packages: ${unknown[*]}" >&2
install=("${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
  "${unknown[@]}")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The package lists may be absent or stale: try as they are, then refresh them.
if "${install[@]}" </dev/null >"$log" 2>&1; then exit 0; fi
if "${run[@]}" apt-get update -q </dev/null >>"$log" 2>&1 &&
  "${install[@]}" </dev/null >>"$log" 2>&1; then exit 0; fi
tail -n 20 "$log" >&2
echo "eep: could not install ${unknown[*]}; try by hand:" >&2
echo "  apt-get update && apt-get install --no-install-recommends ${unknown[*]}" >&2
exit 1
