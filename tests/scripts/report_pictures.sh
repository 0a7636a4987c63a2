#!/usr/bin/env bash
# The report as a browser shows it: report_pictures.sh PROGRAM DIRECTORY. A small run's page in headless
# Chromium at two widths, light, and dark at the wide one: DIRECTORY/report-*.png to look at. Fails where the
# page is wider than its window or the picture stays blank; 77 without Chromium.
set -u
program=$1
pictures=$2
source=$(cd "$(dirname "$0")/../.." && pwd)
browser=
for name in chromium chromium-browser google-chrome; do
  command -v $name >/dev/null 2>&1 && browser=$name && break
done
[ -n "$browser" ] || { echo "report_pictures: no Chromium"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$pictures"
fail() { echo "report_pictures: $*"; exit 1; }
chrome() {
  HOME=$work timeout 120 "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars \
    --user-data-dir="$work/profile" "$@" 2>"$work/browser.log"
}

cat >"$work/small.yaml" <<YAML
name: pictures
model: {path: $source/experiments/demo/mixtral}
task: {name: sort, train: {limit: 24}, dev: {limit: 24}, test: {limit: 60}}
plan: {experts: 4, groups: 2}
search: {population: 6, dev_count: 4, prune: {evaluations: 24, initial: 12}, merge: {evaluations: 36}}
baselines: [full, random, frequency, reap, naee]
random_draws: 3
export: {format: hf}
YAML
export EEP_TASKS=$source/experiments/tasks
"$program" run "$work/small.yaml" --output "$work/run" --log-level error >/dev/null || fail "the run failed"
printf 'Sort: d b a c\nSorted:\nSort: f e a\nSorted:\n' >"$work/probe.txt"
"$program" generate "$work/run/model" --against "$source/experiments/demo/mixtral" --probe "$work/probe.txt" \
  --max-new 24 --json --log-level error >"$work/run/probe.json" || fail "the probe failed"
"$program" report "$work/run" --log-level error >/dev/null || fail "the report failed"

page=$work/run/report.html
# A copy that says how wide it is: a page that scrolls sideways is cut on paper and a nuisance on a telephone.
wide='document.title = "wide " + (document.documentElement.scrollWidth - innerWidth)'
sed -e '/Content-Security-Policy/d' -e "s#</body>#<script>$wide</script></body>#" \
  "$page" >"$work/measured.html"
for width in 420 1280; do
  chrome --window-size=$width,2000 --dump-dom "file://$work/measured.html" >"$work/dom" ||
    { cat "$work/browser.log"; echo "report_pictures: Chromium does not start here"; exit 77; }
  beyond=$(sed -n 's#.*<title>wide \(-*[0-9]*\)</title>.*#\1#p;T;q' "$work/dom")
  [ -n "$beyond" ] || fail "no width at $width pixels"
  [ "$beyond" -le 0 ] || fail "the page is $beyond pixels wider than a window of $width"
  chrome --window-size=$width,9000 --screenshot="$pictures/report-$width.png" "file://$page" >/dev/null ||
    fail "no picture at $width pixels"
done
chrome --window-size=1280,9000 --force-dark-mode --blink-settings=preferredColorScheme=0 \
  --screenshot="$pictures/report-1280-dark.png" "file://$page" >/dev/null
for picture in "$pictures"/report-*.png; do
  [ "$(stat -c %s "$picture")" -gt 30000 ] || fail "$picture is blank"
done
echo "report_pictures: ok ($pictures/report-*.png)"
