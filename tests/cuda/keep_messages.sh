#!/bin/sh
# keep_messages.sh FILE COMMAND...: runs the command and keeps what it writes to stderr in the file, too. Of what ptxas -v
# says on success nothing is shown.
log=$1
shift
"$@" 2>"$log"
status=$?
if [ $status -eq 0 ]; then
  grep -v -e '^ptxas info' -e 'bytes stack frame' "$log" >&2
else
  cat "$log" >&2
fi
exit $status
