# The trace goes into the directory of the build.
"$1/trace_part" "$1/trace_part.json"
