# Commands of a page, which run from the page itself. A script that sources this file sets `work`,
# `root` and `target`, and counts in `failed`.

# The time limit of a page, in seconds.
LIMIT=1200

# Prints the commands of a page, for the profile.
commands() {
    sed -n '/^```console$/,/^```$/{/^```/d;p}' "$1" | sed "s|target/release/|target/${PROFILE:-release}/|g"
}

# What runs before them. They are typed by a user, who has jobs, and a pause is long enough.
prelude() {
    cat <<'END'
set -euo pipefail -m
# Waits until every job listens.
sleep() {
    local job
    for job in $(jobs -p); do
        until listens "$job"; do
            kill -0 "$job"
            command sleep 0.05
        done
    done
}
listens() {
    local file inode
    for file in /proc/"$1"/fd/*; do
        inode=$(readlink "$file" | sed -n 's/^socket:\[\(.*\)\]$/\1/p')
        [[ -n $inode ]] || continue
        awk -v inode="$inode" '$4 == "0A" && $10 == inode { found = 1 } END { exit !found }' /proc/net/tcp && return 0
    done
    return 1
}
end_jobs() {
    local job
    for job in $(jobs -p); do
        kill "$job" 2>/dev/null || true
    done
}
trap end_jobs EXIT
END
}

# Succeeds if a file has the expected lines in their order, whatever is between.
as_expected() {
    local file=$1 line next=0
    shift
    local expected=("$@")
    while IFS= read -r line; do
        ((next == ${#expected[@]})) || [[ $line != *"${expected[next]}"* ]] || next=$((next + 1))
    done <"$file"
    ((next == ${#expected[@]})) || ! echo "nothing like '${expected[next]}' (expectation $next)"
}

# Runs a script in `here` of a folder, and reports whether it prints what is expected:
# run_page NAME FOLDER EXPECTED...
run_page() {
    local name=$1 folder=$2 status=0
    shift 2
    (
        cd "$folder/here"
        export root target HOME=$folder/home PATH=$folder/bin:$PATH LC_ALL=C
        timeout --foreground "$LIMIT" bash "$folder/page" </dev/null
    ) >"$folder/out" 2>"$folder/err" || status=$?
    if ((status == 0)) && as_expected "$folder/out" "$@" >"$folder/why"; then
        echo "PASS $name"
    else
        echo "FAIL $name (status $status)"
        (cd "$folder" && tail -n 30 out err why 2>/dev/null) | sed 's/^/    /' || true
        failed=1
    fi
}

# The folder into which cargo builds in a workspace.
target_of() {
    (cd "$1" && cargo metadata --no-deps --format-version 1) | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4
}
