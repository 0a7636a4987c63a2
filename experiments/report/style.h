// The style sheet of a report: light and dark by the reader's setting, wide and narrow, on paper.
#pragma once

#include <string_view>

namespace eep {

// Series have Okabe and Ito's colours, which people with any kind of colour blindness tell apart; on dark
// ground the darker ones are lightened.
inline constexpr std::string_view kReportStyle = R"(
:root{color-scheme:light dark;--bg:#fff;--ink:#1b1f24;--soft:#57606a;--grid:#dfe3e8;--band:#f3f5f7;--rule:#c9d0d8;
--high:#0072b2;--low:#d55e00;--arc:#b34700;--warn:#fff4d6;--warnrule:#e69f00;
--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#d55e00;--c4:#cc79a7;--c5:#56b4e9;--c6:#1b1f24;--c7:#8a7a00}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--ink:#e7eaee;--soft:#a3adb8;--grid:#2c333b;--band:#1c2127;
--rule:#3a434d;--high:#56b4e9;--low:#ff8a3d;--arc:#ffb380;--warn:#332a12;--warnrule:#e69f00;
--c0:#56b4e9;--c1:#e69f00;--c2:#2fc79b;--c3:#ff8a3d;--c4:#e39bc5;--c5:#0083c9;--c6:#e7eaee;--c7:#f0e442}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:62rem;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.4rem 0 .6rem;border-bottom:1px solid var(--rule);padding-bottom:.2rem;overflow-wrap:anywhere}
h3{font-size:1.05rem;margin:1.8rem 0 .3rem;overflow-wrap:anywhere}
p{margin:.3rem 0 .6rem}a{color:var(--high)}code,pre{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--band);padding:.6rem .8rem;border-radius:6px;margin:.5rem 0}
.lead{font-size:1.05rem;color:var(--soft)}.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));
gap:.6rem;margin:1rem 0}.figures div{background:var(--band);border-radius:8px;padding:.6rem .8rem}
.figures b{display:block;font-size:1.35rem;line-height:1.25;overflow-wrap:anywhere}.figures span{color:var(--soft);font-size:.85rem}
.notes{background:var(--warn);border-left:4px solid var(--warnrule);padding:.5rem .9rem;margin:1rem 0}
.notes p{margin:.2rem 0;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.8rem 0;font-size:.92rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
nav{font-size:.92rem;margin:.6rem 0}nav a{margin-right:.9rem;white-space:nowrap}
figure{margin:0 0 .5rem;break-inside:avoid}figcaption{color:var(--soft);font-size:.92rem;margin:0 0 .5rem}
.chart,.wide{overflow-x:auto}.chart>svg{display:block;width:100%;min-width:36rem;height:auto}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:.8rem 1.2rem}
.panels>div{min-width:0;break-inside:avoid}.panels h4{margin:.4rem 0 .2rem;font-size:.95rem;overflow-wrap:anywhere}
.panels svg{display:block;width:100%;height:auto}
.pair{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start;margin:.4rem 0}
.pair>svg{display:block;height:auto;max-width:100%;flex:0 1 auto}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;min-width:100%}
th,td{text-align:left;padding:.28rem .6rem;border-bottom:1px solid var(--grid);vertical-align:top;white-space:pre-line;
max-width:26rem;overflow-wrap:break-word}
th{color:var(--soft);font-weight:600;white-space:nowrap}td.number,th.number{text-align:right;white-space:nowrap}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--soft)}
svg text{fill:var(--ink);font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
svg .soft{fill:var(--soft)}svg .onshade{fill:var(--bg)}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}
.c6{--c:var(--c6)}.c7{--c:var(--c7)}
svg circle,svg path,svg .bar{fill:var(--c);stroke:none}svg line[class^="c"]{stroke:var(--c);stroke-width:2}
svg .line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}svg .hollow{fill:none;stroke:var(--c);stroke-width:1.8}
svg line.whisker{stroke:var(--c);stroke-width:1.6}svg circle.faint,svg path.faint{fill-opacity:.4}
svg .grid{stroke:var(--grid);stroke-width:1}svg .axis{stroke:var(--soft);stroke-width:1}
svg .level{stroke:var(--soft);stroke-width:1;stroke-dasharray:5 4}svg .leader{stroke:var(--soft);stroke-width:.7}
svg .band{fill:var(--band)}svg .high{fill:var(--high);stroke:var(--grid);stroke-width:.6}
svg .low{fill:var(--low);stroke:var(--grid);stroke-width:.6}
svg .frame{fill:none;stroke:var(--ink);stroke-width:1.7}svg .thin{stroke-width:.6}
svg .arc{fill:none;stroke:var(--arc);stroke-width:1.1}svg .strong{stroke-width:2.2}svg .arcend{fill:var(--arc)}
@media print{:root{color-scheme:light;--bg:#fff;--ink:#000;--soft:#444;--grid:#ddd;--band:#f5f5f5;--rule:#bbb;--high:#0072b2;
--low:#d55e00;--arc:#b34700;--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#d55e00;--c4:#cc79a7;--c5:#56b4e9;--c6:#000;--c7:#8a7a00}
body{max-width:none;padding:0;font-size:11pt}nav{display:none}.chart>svg{min-width:0}.chart,.wide{overflow:visible}
h2,h3{break-after:avoid}tr{break-inside:avoid}}
)";

}  // namespace eep
