#!/usr/bin/env bash
# Watch doorward verify real web traffic. Usage: demo.sh BINARY
# Everything happens in a temporary folder, which is removed at the end. Needs only doorward itself, bash, awk, sed and coreutils.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077

binary=${1:?usage: demo.sh BINARY}
connections=4
rate=160            # requests per second and connection
piece=40            # requests that a connection is fed at once, so that a new token is taken up soon
scratch=$(mktemp -d "${TMPDIR:-/tmp}/doorward-demo.XXXXXX")
tokens=$scratch/tokens
export DOORWARD_RUN_DIR=$scratch/run
mkdir "$tokens"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' blue=$'\e[34m' plain=$'\e[0m'
else
  bold='' dim='' blue='' plain=''
fi

clean_up() {
  status=$?
  trap - EXIT INT TERM
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null || true
  wait 2>/dev/null || true
  if [ "$status" -ne 0 ] && [ -s "$scratch/daemon.log" ]; then
    printf '\nThe demonstration failed. The end of the daemon'\''s log:\n' >&2
    tail -n 20 "$scratch/daemon.log" >&2
  fi
  rm -rf "$scratch"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
# On a descriptor of its own, so that a command is shown even where its output goes into a file.
exec 3>&1
show() { printf '%s$ %s%s\n' "$blue" "$1" "$plain" >&3; }
say() { printf '%s  %s%s\n' "$dim" "$1" "$plain"; }
doorward() { "$binary" "$@"; }

# Prints a command as it could be typed, and runs it.
run() {
  local word line='doorward'
  for word in "$@"; do
    case "$word" in
      *[!A-Za-z0-9._:/=,+-]*) line+=" '$word'" ;;
      *) line+=" $word" ;;
    esac
  done
  show "$line"
  doorward "$@"
}

# The value of a text field of a JSON document on standard input.
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# Makes a key. Its token goes from the answer into a file of its own, never into an argument.
create() {
  local account=$1 name=$2 answer=$scratch/answer
  shift 2
  run create --account "$account" --name "$name" "$@" --json >"$answer"
  field token <"$answer" >"$tokens/$account-$name"
  say "$(field id <"$answer"), its token kept in a file"
}

step "1. The daemon, in a temporary folder"
show "doorward serve --data-dir data --run-dir run --country-db testdata/country/flat.mmdb"
"$binary" serve --data-dir "$scratch/data" --run-dir "$DOORWARD_RUN_DIR" --country-db testdata/country/flat.mmdb >"$scratch/daemon.log" 2>&1 &
daemon=$!
for _ in $(seq 500); do
  if grep -qw ready "$scratch/daemon.log"; then break; fi
  kill -0 "$daemon" || exit 1
  sleep 0.02
done
grep -w ready "$scratch/daemon.log"

step "2. The functions of a web site's API; downloads are restricted: no wildcard covers them"
for function in pages.read blog.read blog.search feeds.read assets.read; do
  run functions add "$function" >/dev/null
done
run functions add files.download --restricted >/dev/null

step "3. Keys of several accounts, each with rules of its own"
create nordwind website --grant pages.read --grant 'blog.*' --grant assets.read --grant feeds.read --tag team=web --description "The public site"
create nordwind mirror --grant '*' --grant files.download --expires 365d
create kestrel crawler --grant '*'
create kestrel reader --grant 'feeds.*' --grant 'blog.*' --grant pages.read --country US --country CA --country GB
create tulip europe --grant pages.read --grant 'blog.*' --grant assets.read --country DE --country FR --country NL --country SE --country ES --country PL --unknown-country allow
create tulip office --grant '*' --network 66.249.0.0/16 --network 46.105.0.0/16 --network 2001:db8:1::/48
create acorn trial --grant '*' --expires 4s
run list

step "4. A real access log becomes requests: its paths are functions, its clients hold keys"
say "testdata/demo/access.log: $(wc -l <testdata/demo/access.log) requests of $(awk '{ print $1 }' testdata/demo/access.log | sort -u | wc -l) clients"
awk -F '"' '
  BEGIN { split("nordwind-website nordwind-website nordwind-website nordwind-mirror kestrel-crawler kestrel-crawler kestrel-reader tulip-europe tulip-europe tulip-office acorn-trial", keys, " ") }
  {
    split($1, head, " "); split($2, request, " "); path = request[2]
    called = "pages.read"
    if (path ~ /^\/files\//) called = "files.download"
    else if (path ~ /flav=|rss|atom|\.xml$/) called = "feeds.read"
    else if (path ~ /\.(png|jpg|jpeg|gif|ico|css|js|svg|ttf|woff)(\?.*)?$/) called = "assets.read"
    else if (path ~ /^\/blog\/tags/) called = "blog.search"
    else if (path ~ /^\/(blog|articles)/) called = "blog.read"
    else if (path ~ /\.php|^\/(misc|wp-|admin)/) called = "internal.debug"
    split(head[1], byte, "."); client = byte[1] * 7 + byte[2] * 13 + byte[3] * 17 + byte[4] * 29
    # Which client, what it calls, whose key it holds, and whether it takes up a new token as soon as there is one.
    print head[1], called, keys[client % 11 + 1], client % 2
  }' testdata/demo/access.log >"$scratch/requests"
awk '{ print $2 }' "$scratch/requests" | sort | uniq -c | sort -rn | awk '{ printf "  %6d  %s\n", $1, $2 }'

pause=$(awk -v piece="$piece" -v rate="$rate" 'BEGIN { printf "%.3f", 0.9 * piece / rate }')

# The requests of one connection, a piece at a time, each with the token that its client holds by then.
feed() {
  local share=$1 from=1 lines
  lines=$(wc -l <"$share")
  while [ "$from" -le "$lines" ]; do
    sed -n "${from},$((from + piece - 1))p" "$share" | awk -v folder="$tokens" '
      function token(name,    text) { text = ""; getline text < (folder "/" name); close(folder "/" name); return text }
      {
        held = $4 == 1 ? token($3 ".new") : ""
        if (held == "") held = token($3)
        printf "{\"token\":\"%s\",\"function\":\"%s\",\"ip\":\"%s\"}\n", held, $2, $1
      }'
    from=$((from + piece))
    # A little faster than the rate: so it is the rate that paces the requests, one at a time, and not the pieces.
    sleep "$pause"
  done
}

step "5. $connections connections replay it, $rate requests a second each"
workers=()
for n in $(seq "$connections"); do
  awk -v n="$n" -v of="$connections" 'NR % of == n % of' "$scratch/requests" >"$scratch/share.$n"
  show "doorward verify --jsonl --rate $rate --summary < share.$n > verdicts.$n &"
  feed "$scratch/share.$n" | "$binary" verify --jsonl --rate "$rate" --summary >"$scratch/verdicts.$n" 2>"$scratch/summary.$n" &
  workers+=($!)
done

sleep 2
step "6. While it runs: a new secret for nordwind/website; half of its clients take it up, the old one stays good for an hour"
run rotate nordwind/website --overlap 1h --json --as demo >"$scratch/answer"
field token <"$scratch/answer" >"$tokens/nordwind-website.new.part"
mv "$tokens/nordwind-website.new.part" "$tokens/nordwind-website.new"
say "version 2 of $(field id <"$scratch/answer")"

sleep 1.5
step "7. And kestrel/crawler misbehaves: its secret is revoked, from the next request on"
run revoke kestrel/crawler --as demo
for worker in "${workers[@]}"; do wait "$worker"; done

step "8. What the four connections saw"
cat "$scratch"/verdicts.* | sed -n 's/.*"verdict": *"\([a-z_]*\)".*/\1/p' | sort | uniq -c | sort -rn | awk '{ printf "  %6d  %s\n", $1, $2 }'
for n in $(seq "$connections"); do
  say "connection $n"
  sed 's/^/    /' "$scratch/summary.$n"
done

# Counters are flushed once a second.
sleep 1.2
step "9. Is all well?"
run status
step "10. Who called what, and from where"
run usage
step "11. The latest denials, with their reasons"
run denials --limit 8
step "12. Who still uses the old secret of nordwind/website?"
run usage nordwind/website --by secret
run show nordwind/website
step "13. What happened to that key"
run history nordwind/website

# What was promised above did happen.
answered=$(cat "$scratch"/verdicts.* | wc -l)
requests=$(wc -l <"$scratch/requests")
[ "$answered" -eq "$requests" ] || { echo "only $answered of $requests requests were answered" >&2; exit 1; }
for verdict in ok revoked expired address_denied country_denied function_denied function_restricted function_unknown; do
  grep -q "\"$verdict\"" "$scratch"/verdicts.* || { echo "no request got the verdict $verdict" >&2; exit 1; }
done

step "RESULT: $answered requests were answered, each as its key allows. The temporary folder is removed."
