# Installs what packages.txt lists and the machine lacks. Sourced: install_packages KIND...
# With no apt (another distribution) or no right to install it only says what is missing; the build
# then tells whether that matters.
install_packages() {
    local list kind name choice missing=() run=
    list=$(dirname "${BASH_SOURCE[0]}")/packages.txt
    if ! command -v dpkg-query > /dev/null; then
        echo "not a Debian system: see packages.txt for what is needed" >&2
        return 0
    fi
    while read -r kind name; do
        case " $* " in *" $kind "*) ;; *) continue ;; esac
        local found=
        for choice in ${name//|/ }; do
            if dpkg-query -W -f='${Status}' "$choice" 2> /dev/null | grep -q ' installed$'; then
                found=1
            fi
        done
        [ -n "$found" ] || missing+=("$name")
    done < <(grep -v '^#' "$list")
    [ ${#missing[@]} -gt 0 ] || return 0

    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo > /dev/null; then
            echo "missing packages, and neither root nor sudo to install them: ${missing[*]}" >&2
            return 1
        fi
        run=sudo
    fi
    echo "installing: ${missing[*]}"
    $run env DEBIAN_FRONTEND=noninteractive apt-get update -qq || return 1
    local names=()
    for name in "${missing[@]}"; do
        for choice in ${name//|/ }; do
            if apt-cache show "$choice" > /dev/null 2>&1; then
                names+=("$choice")
                continue 2
            fi
        done
        echo "no package for: $name" >&2
        return 1
    done
    $run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${names[@]}" > /dev/null
}
