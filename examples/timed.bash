# Sourced by each bash that make starts for a command of a recipe ($BASH_ENV): adds a line with the
# seconds that the command took, and the command, to $TIMES, whether it ended well or not.
unset BASH_ENV # not for the shells that the command starts
if [ -n "${BASH_EXECUTION_STRING-}" ] && [ -d "$(dirname "$TIMES")" ]; then
    trap 'printf "%s\t%s\n" "$SECONDS" "${BASH_EXECUTION_STRING//$'"'\n'"'/ }" >> "$TIMES"' EXIT
fi
