# shellcheck shell=bash
# Functions of the launch scripts. Usage of each script:
#
#     CONFIG=configs/demo.py WORKDIR=runs/demo launch/SCRIPT [--dry_run] [-- flags of automoe_jax.main]
#
# --dry_run prints every command and runs none. It needs the variables but none of the tools.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DRY_RUN=false

fail() {
  echo "error: $*" >&2
  exit 1
}

# Reads the arguments of a script that starts training; sets MAIN to the arguments of `python`.
read_arguments() {
  while (($#)); do
    case $1 in
      --dry_run) DRY_RUN=true ;;
      --help | -h) print_help; exit 0 ;;
      --) shift; break ;;
      *) fail "$0 has no option '$1'; flags of automoe_jax.main come after --, as in: $0 -- $1" ;;
    esac
    shift
  done
  need_variable CONFIG "the experiment's configuration file" configs/demo.py
  need_variable WORKDIR "the folder of the run, visible to every process" "${WORKDIR_EXAMPLE:-runs/demo}"
  # shellcheck disable=SC2034  # the scripts use it
  MAIN=(-m automoe_jax.main "--config=$CONFIG" "--workdir=$WORKDIR" "$@")
}

# Prints the comment at the top of the script.
print_help() {
  sed -n '2,/^[^#]/ { /^#SBATCH/d; s/^# \{0,1\}//p; }' "$0"
}

# need_variable NAME MEANING EXAMPLE
need_variable() {
  [[ -n ${!1:-} ]] || fail "$1 is not set; set it to $2, such as $1=$3"
}

# need_count NAME: the variable must be a positive whole number
need_count() {
  [[ ${!1} =~ ^[1-9][0-9]*$ ]] || fail "$1=${!1} is not a whole number above zero; set it to one, such as $1=4"
}

# need_one_of NAME VALUE ...
need_one_of() {
  local name=$1 value
  shift
  for value; do
    [[ ${!name} != "$value" ]] || return 0
  done
  fail "$name=${!name} is none of: $*; set it to one of them"
}

# WORKDIR must be a bucket or an absolute path, which may be a shared mount.
need_shared_workdir() {
  [[ $WORKDIR == gs://* || $WORKDIR == /* ]] ||
    fail "WORKDIR=$WORKDIR is a folder of one machine; set it to storage that all machines share, such as WORKDIR=$WORKDIR_EXAMPLE"
}

# need_tool NAME WAY_OUT
need_tool() {
  $DRY_RUN || command -v "$1" >/dev/null || fail "there is no '$1' on this machine; $2"
}

# Sets PYTHON, unless it is set, to that of the repository's virtual environment.
need_python() {
  PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
  need_tool "$PYTHON" "run launch/install.sh $1 first, or set PYTHON to one that has automoe_jax"
}

# Quotes words for a shell.
command_line() {
  local word line="" quote="'" escaped="'\\''"
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//$quote/$escaped}'"
    line+=" $word"
  done
  echo "${line# }"
}

# Prints a command: to stdout in a dry run, otherwise to stderr.
show() {
  if $DRY_RUN; then command_line "$@"; else echo "+ $(command_line "$@")" >&2; fi
}

# Prints a command and runs it unless this is a dry run.
run() {
  show "$@"
  $DRY_RUN || "$@"
}

# The same for a script's last command, which replaces the script and so receives its signals.
become() {
  show "$@"
  $DRY_RUN || exec "$@"
}
