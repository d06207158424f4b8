#!/bin/bash
# In the guest: takes "ID SECONDS BASE64-COMMAND" a line over a virtio-serial port and answers
# "ID STATUS BASE64-OUTPUT".
port=
while [ -z "$port" ]; do
    for x in /sys/class/virtio-ports/*; do
        if [ "$(cat "$x/name" 2> /dev/null)" = agent ]; then port=/dev/${x##*/}; fi
    done
    [ -n "$port" ] || sleep 0.2
done
mkdir -p /run/board
while :; do
    exec 3<> "$port"
    while read -r id seconds command <&3; do
        printf %s "$command" | base64 -d > /run/board/command
        timeout -k 5 "$seconds" bash /run/board/command > /run/board/output 2>&1 < /dev/null 3>&-
        status=$?
        printf '%s %s %s\n' "$id" $status "$(base64 -w0 < /run/board/output)" >&3
    done
    exec 3>&-
    sleep 0.2 # nobody is connected
done
