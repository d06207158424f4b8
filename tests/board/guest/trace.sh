# trace.sh start PID | stop: which threads of a process the kernel holds for being above memory.high,
# when and how long ("over" and "back"), and which of them it lets reclaim, each an event `high`.
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
    echo mono > trace_clock
    echo 512 > buffer_size_kb
    (cd "/proc/$2/task" && ls) > set_event_pid
    echo 1 > events/kprobes/enable
    echo > trace
    echo 1 > tracing_on
    ;;
stop)
    echo 0 > tracing_on
    grep -v '^#' trace || true
    echo 0 > events/kprobes/enable
    ;;
esac
