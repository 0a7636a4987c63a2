# Sourced by the checks: goes to the root of the project; `sources PATTERN...` lists its files that match.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

# Committed and new files, or, outside a repository, all that are not build output.
sources() {
  if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard -- "$@" | while IFS= read -r file; do
      [ -f "$file" ] && printf '%s\n' "$file"
    done
  else
    local pattern names=()
    for pattern in "$@"; do names+=(-o -name "$pattern"); done
    find . \( -name 'build*' -o -name runs -o -name .git \) -prune -o -type f \( "${names[@]:1}" \) -print |
      sed 's|^\./||'
  fi
}
