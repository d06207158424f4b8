#!/bin/bash
# trace.sh start PID [stacks] | stop: which threads of a process the kernel holds for being above
# memory.high, when and how long ("over" and "back"), and which of them it lets reclaim, each an event
# `high`. With "stacks" also every charge, and on which way into the kernel it was made.
set -eu
cd /sys/kernel/tracing
case $1 in
start)
    echo 0 > tracing_on
    echo 0 > events/enable
    echo > kprobe_events
    echo 'p:over mem_cgroup_handle_over_high' > kprobe_events
    echo 'r:back mem_cgroup_handle_over_high' >> kprobe_events
    echo 'p:event reclaim_high' >> kprobe_events || echo "no reclaim_high to trace" >&2
    if [ "${3:-}" = stacks ]; then
        for f in charge:__mem_cgroup_charge charge_object:obj_cgroup_charge \
            charge_page:__memcg_kmem_charge_page; do
            echo "p:${f%:*} ${f#*:}" >> kprobe_events
            echo stacktrace > "events/kprobes/${f%:*}/trigger"
        done
    fi
    echo mono > trace_clock
    echo 2048 > buffer_size_kb
    (cd "/proc/$2/task" && ls) > set_event_pid
    echo 1 > events/kprobes/enable
    echo > trace
    echo 1 > tracing_on
    ;;
stop)
    echo 0 > tracing_on
    grep -v '^#' trace || true
    echo 0 > events/kprobes/enable
    for t in events/kprobes/charge*/trigger; do
        [ ! -e "$t" ] || echo '!stacktrace' > "$t"
    done
    ;;
esac
