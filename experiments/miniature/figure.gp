# results/NAME.svg of a compact table: gnuplot -e "name='mixtral'" figure.gp (in this folder). A row a task, half the experts on
# the left and a quarter on the right; a mark a method.
set terminal svg size 900,460 dynamic font "Helvetica,13" background "#ffffff"
set output sprintf("results/%s.svg", name)
rows(experts) = sprintf("< awk 'NR > 2 && $2 == %d {n = split($1, w, \"_\"); t = w[1]; for (i = 2; i <= n; ++i) t = t \"-\" w[i]; print ++k, t, $3, $6, $7, $9, $10}' results/%s.txt", experts, name)
set multiplot layout 1,2 margins 0.13,0.98,0.24,0.91 spacing 0.14
set xrange [0:100]
set yrange [11.7:0.3]
set xlabel "test accuracy, %"
set grid xtics lc rgb "#dfe3e8"
set tics nomirror textcolor rgb "#1b1f24"
set border 3 lc rgb "#8a929a"
do for [experts in wide] {
  set title sprintf("%s of %s experts", experts, all)
  unset key
  if (experts eq word(wide, 1)) { set key at screen 0.5,0.02 center bottom horizontal maxcols 5 maxrows 1 samplen 0.5 width -4 font ",12" }
  plot rows(experts + 0) using 3:1:ytic(2) with points pt 1 ps 1.2 lw 2 lc rgb "#1b1f24" title "full model", \
       '' using 4:1 with points pt 6 ps 1 lw 2 lc rgb "#e69f00" title "pruned", \
       '' using 5:1 with points pt 8 ps 1 lw 2 lc rgb "#009e73" title "pruning only", \
       '' using 6:1 with points pt 5 ps 0.8 lc rgb "#d55e00" title "merged, eep", \
       '' using 7:1 with points pt 7 ps 1 lc rgb "#0072b2" title "merged, rsgn"
}
unset multiplot
