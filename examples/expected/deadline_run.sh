# The three ways to end, and their exit codes.
"$1/deadline_run" 60000 one two three; echo "exit code $?"
"$1/deadline_run" 60000 one interrupt three; echo "exit code $?"
"$1/deadline_run" 50 one sleep three; echo "exit code $?"
