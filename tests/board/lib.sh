# Names and paths of the boards. Sourced.
# board_arch ARCH: sets what differs from one architecture to the other.
board_arch() {
    case $1 in
    arm64)
        triplet=aarch64-linux-gnu
        family=aarch64
        kernel_package=linux-image-arm64
        ;;
    amd64)
        triplet=x86_64-linux-gnu
        family=x86_64
        kernel_package=linux-image-amd64
        ;;
    *)
        echo "no board called $1; there are: arm64 amd64" >&2
        return 2
        ;;
    esac
}
board_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
board_source=$(cd "$board_here/../.." && pwd)
board_cache=${EBB_BOARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ebb/board}

# board_key FILE-OR-WORD...: a name for what is made of these files' contents and these words.
board_key() {
    local x
    for x in "$@"; do
        if [ -f "$x" ]; then sha256sum < "$x"; else printf '%s\n' "$x"; fi
    done | sha256sum | cut -c1-16
}
