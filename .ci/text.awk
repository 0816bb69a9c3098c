# ASCII, no space at the end of a line; in C no tabs, and 100 columns at most.
/[^ -~\t]/ { print FILENAME ":" FNR ": not ASCII"; bad = 1 }
/ $/ { print FILENAME ":" FNR ": space at the end"; bad = 1 }
FILENAME ~ /\.(c|cc|h)$/ && /\t/ { print FILENAME ":" FNR ": tab"; bad = 1 }
FILENAME ~ /\.(c|cc|h)$/ && length($0) > 100 { print FILENAME ":" FNR ": " length($0) " columns"; bad = 1 }
END { exit bad }
