# From here on the script is the same for every study.

say() { printf 'robustsearch job: %s\n' "$*" >&2; }
fail() { say "$*"; exit 6; }

# The IPv4 address under which other nodes reach this one: many a hosts file maps a node's own name to 127.0.1.1.
address_of() {
    local found
    found=$(getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }')
    case $found in
        "" | 127.*) found=$(hostname -I 2>/dev/null | tr ' ' '\n' | grep -m 1 -E '^[0-9]+(\.[0-9]+){3}$') ;;
    esac
    printf %s "$found"
}

private_folder() {
    mkdir -m 700 -- "$1" 2>/dev/null || { [ -O "$1" ] && [ ! -L "$1" ] && chmod 700 -- "$1"; } ||
        fail "$(hostname): cannot make the private folder $1; set \`temp\` in the cluster file"
}

sees_storage() {
    local try
    [ -z "$RS_MARK" ] && return
    for ((try = 0; try < 30; try++)); do
        [ -e "$RS_MARK" ] && return
        sleep 1
    done
    fail "$(hostname) does not see $RS_MARK: the storage must be a directory that all nodes share, or a URI"
}

# Slurm ends all steps, on a preemption with a time of grace alone these: the launch is told in the head's step, before
# Ray ends under it.
tell_launch() {
    : 2>/dev/null >"$folder/told"
    scancel --batch --signal=TERM "$SLURM_JOB_ID" 2>/dev/null
}

# One node of the Ray cluster, in a step of Slurm: `ray_node FOLDER ARGUMENTS-OF-RAY-START`.
ray_node() {
    local token=$RS_TOKEN started='' signals=0 tell=: host port
    folder=$1
    shift
    unset RS_TOKEN
    [[ $1 != --head ]] || tell=tell_launch
    trap 'signals=$((signals + 1)); $tell; [ -z "$started" ] || kill -TERM "$started" 2>/dev/null' TERM
    trap 'signals=$((signals + 1))' USR1
    private_folder "$folder"
    sees_storage
    export RAY_AUTH_TOKEN_PATH=$folder/token
    # Also where a start that was killed has left a folder, whose token is not that of this start.
    (umask 077 && printf %s "$token" >"$RAY_AUTH_TOKEN_PATH")
    if [[ $1 == --address=* ]]; then
        trap 'rm -rf -- "$folder"' EXIT
        IFS=: read -r host port <<<"${1#--address=}"
        reach "$host" "$port"
        [ "$signals" -eq 0 ] || exit 143
    fi
    # Ray makes its folder writable for all; the one around it stays private. Another job may have its usual ports.
    ray start "$@" --block --dashboard-agent-listen-port=0 --temp-dir="$folder/r" --node-ip-address="$(address_of "${SLURMD_NODENAME:-$(hostname)}")" \
        --num-cpus="$RS_CPUS" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --object-store-memory=268435456 \
        --min-worker-port=0 --max-worker-port=0 &
    started=$!
    await "$started"
    say "Ray has ended on $(hostname) with code $code"
    exit "$code"
}

# Wait until something listens at a host and port, or a signal asks to end.
reach() {
    local try
    for ((try = 0; try < RS_START_TIMEOUT && signals == 0; try++)); do
        (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null && return
        sleep 1
    done
    return 1
}

# Wait for a process, also where signals interrupt that, and leave its code in `code`.
await() {
    local before
    while :; do
        before=$signals
        wait "$1"
        code=$?
        [ "$before" -eq "$signals" ] && break
    done
}

# Become a step of Slurm that runs a task: `step TASK ARGUMENTS-OF-SRUN`.
step() {
    local task=$1
    shift
    export RS_TOKEN=$token
    exec srun --overlap --exact --ntasks-per-node=1 --cpus-per-task="$RS_CPUS" --kill-on-bad-exit=0 "$@" \
        bash -c "$(declare -f say fail address_of private_folder sees_storage reach await tell_launch ray_node); $task"
}

# Run a command of Slurm, whose controller may be too busy to answer at once.
insist() {
    local try
    for ((try = 0; try < 5; try++)); do
        "$@" && return
        sleep 3
    done
    return 1
}

terminate() {
    signals=$((signals + 1))
    [ -z "$launch" ] || kill -TERM "$launch" 2>/dev/null
}

# End the launch where Ray's head ends before it.
watch_head() {
    while kill -0 "$1" 2>/dev/null; do sleep 1; done
    : >"$folder/headless"
    kill -TERM $$
}

# End the steps, and remove what this node has kept. A signal to `srun` itself would kill them. USR1 ends all of Ray at
# once, where TERM lets it drain for 30 s, which Slurm cuts short before a node has removed its folder.
leave() {
    local try
    kill "$watcher" 2>/dev/null
    scancel --signal=USR1 "$SLURM_JOB_ID"
    for ((try = 0; try < 20; try++)); do
        kill -0 "${steps[@]}" 2>/dev/null || break
        sleep 1
    done
    kill -TERM "${steps[@]}" 2>/dev/null
    [ -z "$RS_MARK" ] || rm -f -- "$RS_MARK"
    rm -rf -- "$folder"
}

launch='' signals=0 code=0
trap terminate TERM
for program in ray robustsearch; do
    command -v "$program" >/dev/null ||
        fail "$(hostname) finds no \`$program\`: \`setup\` in the cluster file must activate its environment"
done

folder=$RS_TEMP/rs-$SLURM_JOB_ID
private_folder "$folder"
rm -f -- "$folder/headless" "$folder/told"
token=$(od -An -N 32 -tx1 /dev/urandom | tr -d ' \n')
(umask 077 && printf %s "$token" >"$folder/token")
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# How long `ray start` waits for the head, 20 s by default, and for its own node, 30 s; a busy machine takes longer.
export RAY_gcs_server_port_wait_time_s=$RS_START_TIMEOUT RAY_raylet_start_wait_time_s=$RS_START_TIMEOUT
export OMP_NUM_THREADS=$RS_THREADS RS_CPUS RS_START_TIMEOUT
[ -z "$RS_MARK" ] || { RS_MARK=$RS_MARK-$SLURM_JOB_ID && mkdir -p -- "${RS_MARK%/*}" && : >"$RS_MARK"; } ||
    fail "$(hostname) cannot write ${RS_MARK%/*}"
export RS_MARK

nodes=$SLURM_JOB_NUM_NODES
port=$((20000 + SLURM_JOB_ID % 10000))
address=$(address_of "$SLURMD_NODENAME"):$port
say "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST; Ray's head at $address"
step "ray_node $(printf %q "$folder") --head --port=$port --ray-client-server-port=$((port - 10000)) --dashboard-host=127.0.0.1 \
    --dashboard-port=$((30000 + SLURM_JOB_ID % 2700))" \
    --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" &
steps=($!)
watch_head "${steps[0]}" &
watcher=$!
if [ "$nodes" -gt 1 ]; then
    step "ray_node $(printf %q "$folder")-\$SLURM_PROCID --address=$address" \
        --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$SLURMD_NODENAME" &
    steps+=($!)
fi

study >"$folder/study.yaml"
{ cluster && printf 'address: "%s"\ntoken_file: "%s"\n' "$address" "$folder/token"; } >"$folder/cluster.yaml"
reach "${address%:*}" "$port" || { [ "$signals" -gt 0 ] || say "Ray's head did not come up within $RS_START_TIMEOUT s"; }
robustsearch launch "$folder/study.yaml" --cluster "$folder/cluster.yaml" "${RS_WORDS[@]}" &
launch=$!
[ "$signals" -eq 0 ] || kill -TERM "$launch"
await "$launch"
[ ! -e "$folder/headless" ] || [ -e "$folder/told" ] || [ "$code" -ne 143 ] || code=6
leave

# The time limit, or a preemption that leaves the job where it is: the next start resumes. A job that somebody
# cancels or requeues is no longer RUNNING; SIGNALING it is while the signal of `leave` is on its way to all nodes.
if [ "$code" -eq 143 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$RS_REQUEUES" ] &&
    [[ $(insist squeue -h -j "$SLURM_JOB_ID" -o %T) =~ ^(RUNNING|SIGNALING)$ ]]; then
    say "requeued to resume"
    insist scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit "$code"
