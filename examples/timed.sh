#!/usr/bin/env bash
# The shell of the recipes: make calls `bash timed.sh COMMAND` for each command (.SHELLFLAGS in
# voc.mk). Runs the command and adds the line "SECONDS <tab> COMMAND" to the file $TIMES, even if
# the command fails or is interrupted; summary.py adds up these times.
# usage: timed.sh COMMAND
set -euo pipefail

command=$1

write_time() {
    # $(shell …) of make has no $TIMES; before the first mkdir its folder does not exist.
    [ -n "${TIMES-}" ] && [ -d "$(dirname "$TIMES")" ] || return 0
    printf '%s\t%s\n' "$SECONDS" "${command//$'\n'/ }" >> "$TIMES"
}
trap write_time EXIT

eval "$command"
