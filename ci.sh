#!/usr/bin/env bash
# The one entry to everything that checks this workspace. Without a word it lists its verbs.
set -euo pipefail
cd "$(dirname "$0")"

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
# Enough for a trace of calls, and a good deal faster to build and link than all of it.
export CARGO_PROFILE_DEV_DEBUG="${CARGO_PROFILE_DEV_DEBUG:-line-tables-only}"

# What is made to be used by others.
LIBRARIES=(virtio-net-tap virtio-net-rate-limiter virtio-net-snapshot virtio-net-queue virtio-net-device vhost-user-net)

usage() {
    cat <<'TEXT'
usage: ./ci.sh VERB [ARGUMENT...]

  fmt              formatting as rustfmt wants it
  lint             clippy without a warning, the directions of the crates, circles and sizes of files, language, the
                   conformance table, runbook, modules with unsafe code, packages
  doc              documentation without a warning
  test             all of the above, every test, the fuzz corpora, and real Linux guests; names what failed at the end
  simulate [STEPS [SEED]]
                   the device in simulated worlds, optimised (default: 100000000 steps); docs/simulation.md
  simulate --broken [PART]
                   engines that are broken on purpose, which the worlds have to find
  guest [PART]     real Linux guests alone; PART selects checks by name
  migrate [TIMES]  a Linux guest that moves so often (default 20) between two daemons while a stream goes through it
  killed [TIMES]   a daemon that is killed so often (default 100) while a stream goes through its Linux guest
  fuzz [SECONDS]   every fuzz target for so long (default 60); needs nightly and cargo-fuzz
  corpus           packs what the fuzzer found so far, the least that covers it all, into fuzz/corpus
  soak [SECONDS]   traffic on four pairs while everything happens to the device, in random order (default 60); where to
                   begin: SOAK_SEED
  bench [NAME...]  benchmarks, with ratios to a baseline of the same run; NAME: ring, datapath, coalesce, limiter, limits or
                   snapshot, and behind datapath, coalesce and limits words that choose rows; layouts [--ring] [--against REVISION]
                   [ROW...] is datapath over random orders of its functions, by medians
  asan [TEST...]   tests of net-queue and net-device under AddressSanitizer; TEST selects them by name; needs nightly
  tsan [TEST...]   the same under ThreadSanitizer
  miri [TEST...]   unit tests of net-queue's unsafe modules, interpreted by Miri; TEST selects others by name; needs
                   nightly with miri and rust-src
  deb              a package for Debian in target/debian, installed into a folder of its own and started
  deny [CHECK...]  dependencies: advisories, licences, sources (deny.toml); needs cargo-deny
  semver [REV]     public interfaces of the crates against a revision (default: the last tag); needs cargo-semver-checks
  targets          cargo check with the oldest Rust that is declared, and for the other targets of Linux, as far as they
                   are installed
  coverage         lines of net-queue and net-device that tests reach; fails below 95 %; needs Debian's llvm-19
  mutants CRATE [ARGUMENT...]
                   faults put into CRATE (its folder) one by one, that its own tests should notice; fails below 95 %;
                   ARGUMENTs are those of cargo-mutants, such as --file or --re
  all              test, then fuzz and bench
TEXT
}

# has NAME [VERSION]: the program is there, and not older.
has() {
    local path version
    path="$(PATH="$PATH:/usr/sbin:/sbin" command -v "$1")" || return 1
    [ -n "${2:-}" ] || return 0
    version="$("$path" --version | grep -oE -m1 '[0-9]+(\.[0-9]+)+' | head -n 1)"
    [ "$(printf '%s\n' "$2" "$version" | sort -V | head -n 1)" = "$2" ]
}

# The packages that bring programs which are not there or too old: on each line the least version or '-', and the names.
missing_packages() {
    local word names program least
    while read -r word names; do
        case "$word" in '' | '#'*) continue ;; esac
        program="${word%%>=*}"
        least="${word#"$program"}"
        least="${least#>=}"
        has "$program" "$least" || echo "${least:--} $names"
    done <tests/guest/packages.txt
}

# newest NAME VERSION: the package as apt is to install it, from Debian's backports if the release has an older one. They
# are added to apt's sources then, of which apt takes nothing unasked.
newest() {
    local offered release
    offered="$(apt-cache policy "$1" | awk '/Candidate:/ { sub(/^[0-9]+:/, "", $2); print $2 }')"
    if dpkg --compare-versions "$offered" ge "$2"; then
        echo "$1"
        return
    fi
    release="$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME-backports")" || {
        echo "ci.sh: this system's package $1 is ${offered:-not there}, and $2 or newer is needed: install it by hand" >&2
        return 1
    }
    echo "deb http://deb.debian.org/debian $release main" >/etc/apt/sources.list.d/"$release".list
    apt-get update -qq
    echo "$1/$release"
}

packages() {
    local missing least names chosen=()
    missing="$(missing_packages)"
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "ci.sh: packages are missing or too old, install them (as root this does):" >&2
        sed -E 's/^- //; s/^([0-9.]+) (.*)/\2 (\1 or newer)/; s/^/    /' <<<"$missing" >&2
        exit 1
    fi
    apt-get update -qq
    while read -r least names; do
        [ "$least" = - ] || names="$(newest "$names" "$least")"
        # shellcheck disable=SC2206 # one word for each package
        chosen+=($names)
    done <<<"$missing"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${chosen[@]}" >/dev/null
}

step() { echo "== $*" >&2; }

fmt() {
    step rustfmt
    cargo fmt --all --check
    cargo fmt --check --manifest-path fuzz/Cargo.toml
}

# No crate may use another one that the layer map does not show below it.
directions() {
    step "directions of the crates"
    local crate allowed used
    while read -r crate allowed; do
        used="$(cargo tree -q -p "$crate" --depth 1 -e normal --prefix none | tail -n +2 | awk '{print $1}' |
            grep -xE 'virtio-net-.*|vhost-user-net|tests' | sort | tr '\n' ' ' || true)"
        if [ "${used% }" != "$allowed" ]; then
            echo "ci.sh: $crate uses '${used% }' of this workspace, not '$allowed'" >&2
            exit 1
        fi
    done <<'TEXT'
virtio-net-tap
virtio-net-rate-limiter
virtio-net-snapshot
virtio-net-queue virtio-net-rate-limiter
virtio-net-device virtio-net-queue virtio-net-rate-limiter virtio-net-snapshot virtio-net-tap
vhost-user-net virtio-net-device
virtio-net-demo virtio-net-device
TEXT
}

# Files of a crate import only from storeys below.
file_cycles() {
    step "circles of files"
    python3 lints/test_lints.py -q
    python3 lints/file_cycles.py tap rate-limiter snapshot net-queue net-device vhost-user-net demo tests fuzz
}

# Documentation opens with what it describes, and names are the field's.
words() {
    step "language"
    python3 lints/words.py tap rate-limiter snapshot net-queue net-device vhost-user-net demo tests fuzz
}

# A file is one concept, which fits 500 lines.
file_sizes() {
    step "sizes of files"
    local long
    long="$(find . -path ./target -prune -o -path ./fuzz/target -prune -o -name '*.rs' -exec awk 'END { if (NR > 500) print FILENAME ": " NR " lines" }' {} \;)"
    [ -z "$long" ] || {
        echo "$long" >&2
        echo "ci.sh: a file has at most 500 lines" >&2
        exit 1
    }
}

# docs/conformance.md is what the code and its tests say.
conformance() {
    step "conformance table"
    python3 lints/conformance.py
    step "runbook"
    python3 lints/log_lines.py
}

# Unsafe code lives in the modules that say so in their first lines, and these are named here.
unsafe_modules() {
    step "modules with unsafe code"
    local found expected
    found="$(grep -rlE 'allow\(unsafe_code' --include='*.rs' . | grep -vE '^./(target|fuzz/target)/|^\./[^/]+/tests/' | sort)"
    expected="$(sort docs/unsafe-modules.txt)"
    diff <(echo "$expected") <(echo "$found") || {
        echo "ci.sh: docs/unsafe-modules.txt (left) is not what the sources say (right)" >&2
        exit 1
    }
}

# Every package can be published as it is; a warning of cargo is a failure.
packaging() {
    step "packages for the registry"
    local said
    said="$(cargo package -q --workspace --exclude tests --no-verify --allow-dirty 2>&1)" && [ -z "$said" ] || {
        echo "$said" >&2
        exit 1
    }
}

clippy() {
    step clippy
    cargo clippy -q --workspace --all-targets -- -D warnings
    cargo clippy -q --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings
    step "clippy, the device without its cargo features"
    cargo clippy -q -p virtio-net-device --no-default-features --all-targets -- -D warnings
}

lint() {
    clippy
    directions
    file_cycles
    words
    file_sizes
    conformance
    unsafe_modules
    packaging
}

doc() {
    step rustdoc
    export RUSTDOCFLAGS="-D warnings"
    cargo doc -q --workspace --no-deps
    # Each as the registry builds it, without what others switch on.
    local package
    for package in "${LIBRARIES[@]}"; do
        cargo doc -q --package "$package" --no-deps
    done
}

crate_tests() {
    step "tests of the crates"
    cargo test -q --no-fail-fast --workspace --exclude tests
}

examples() {
    step "examples"
    cargo run -q -p virtio-net-device --example virtio_mmio
}

device_tests() {
    step "tests of the device, and real Linux guests"
    SOAK_SECONDS="${SOAK_SECONDS:-60}" cargo test -q --no-fail-fast -p tests --tests --lib
}

corpora() {
    step "fuzz corpora, replayed"
    cargo test -q --manifest-path fuzz/Cargo.toml
}

# A tenth as many steps again are those of devices that are saved and restored all the time.
simulate() {
    if [ "${1:-}" = --broken ]; then
        shift
        step "engines that are broken on purpose"
        python3 lints/broken_engines.py "$@"
        return
    fi
    local steps="${1:-100000000}" seed="${2:-1}"
    step "simulated worlds, $steps steps from seed $seed"
    # Without a minute of optimisation over all crates at once.
    SIMULATE_STEPS="$steps" SIMULATE_SEED="$seed" \
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo test -q --release -p tests --test world -- --nocapture --test-threads 2 nothing a_device
}

guest() {
    packages
    step "real Linux guests"
    cargo test -q -p tests --test linux_guest -- "$@"
}

migrate() {
    packages
    step "live migration, ${1:-20} times"
    LINUX_GUEST_MIGRATIONS="${1:-20}" cargo test -q -p tests --test linux_guest -- "live migration"
}

killed() {
    packages
    step "a daemon that is killed ${1:-100} times"
    LINUX_GUEST_KILLS="${1:-100}" cargo test -q -p tests --test linux_guest -- "killed under a stream"
}

# Builds of later steps, in the gaps that tests leave. Those steps say what is wrong with them.
build_ahead() {
    nice -n 19 cargo build -q --release -p vhost-user-net
    nice -n 19 cargo test -q --no-run --manifest-path fuzz/Cargo.toml
} >/dev/null 2>&1 </dev/null

# Runs every step, whatever became of those before, and tells at the end which ones failed.
run_tests() {
    local name status failed=()
    build_ahead &
    for name in packages fmt clippy directions file_cycles words file_sizes conformance unsafe_modules packaging doc crate_tests examples device_tests corpora; do
        # Not `|| failed+=...`: behind that bash would let a step go on after its own failures.
        set +e
        (set -e; "$name")
        status=$?
        set -e
        [ "$status" = 0 ] || failed+=("$name")
    done
    if [ ${#failed[@]} -gt 0 ]; then
        echo "ci.sh: failed: ${failed[*]}" >&2
        return 1
    fi
}

# Tests of the libraries and of the device, built with a sanitizer. Nightly's rust-src is needed to build the standard
# library with it too. Without that tests/sanitizers/tsan.txt lists what ThreadSanitizer does not see of it, and tests
# with worker threads are out of its reach.
sanitized() {
    local sanitizer="$1" host sysroot file standard=() device=() status=0
    shift
    host="$(rustc +nightly -vV | sed -n 's/^host: //p')"
    sysroot="$(rustc +nightly --print sysroot)"
    [ ! -d "$sysroot/lib/rustlib/src/rust/library" ] || standard=(-Zbuild-std)
    # Real guests and the package run a daemon, which is a program of its own; a sanitizer's calls pass no filter, and
    # its memory is not what a device takes. It does not know a child in the memory of its parent, which tries the kernel.
    for file in tests/tests/*; do
        file="$(basename "$file" .rs)"
        [[ "$file" =~ ^(linux_guest|debian_package|gso|seccomp|idle)$ ]] || device+=(--test "$file")
    done
    set -- --target "$host" --target-dir "target/$sanitizer" "${standard[@]}" -- "$@"
    step "$sanitizer: crates"
    cargo +nightly test -q --no-fail-fast -p virtio-net-queue -p virtio-net-device --lib --tests "$@" || status=1
    # Mutexes that are waited for are locked inside the standard library.
    if [ "$sanitizer" = tsan ] && [ ${#standard[@]} -eq 0 ]; then
        echo "ci.sh: tests of the device are left out, for rust-src: rustup component add --toolchain nightly rust-src" >&2
        return "$status"
    fi
    step "$sanitizer: device"
    cargo +nightly test -q --no-fail-fast -p tests --lib "${device[@]}" "$@" || status=1
    return "$status"
}

asan() { RUSTFLAGS="--cfg sanitized -Zsanitizer=address" sanitized asan "$@"; }

tsan() {
    TSAN_OPTIONS="suppressions=$PWD/tests/sanitizers/tsan.txt" \
        RUSTFLAGS="--cfg sanitized -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" sanitized tsan "$@"
}

# What these modules do with pointers, with Miri's portable accesses to guest memory in place of the guarded ones.
# Tests that make system calls which Miri lacks are left out where they are written.
miri() {
    [ $# -gt 0 ] || set -- memory:: backend:: limit::
    step miri
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test -q -p virtio-net-queue --lib -- "$@"
}

needs_cargo_fuzz() {
    command -v cargo-fuzz >/dev/null || {
        echo "ci.sh: cargo-fuzz is missing, install it: cargo install cargo-fuzz" >&2
        exit 1
    }
}

# Unpacks what a fuzzer found for a target before, into the folder that it prints. Nothing removes what it adds there.
unpack_corpus() {
    local folder="fuzz/target/corpus/$1"
    mkdir -p "$folder"
    [ ! -e "fuzz/corpus/$1.tar.gz" ] || tar -xzf "fuzz/corpus/$1.tar.gz" -C "$folder"
    echo "$folder"
}

fuzz() {
    local seconds="${1:-60}" name
    needs_cargo_fuzz
    for name in $(cargo +nightly fuzz list); do
        step "fuzz $name for $seconds s"
        cargo +nightly fuzz run "$name" "$(unpack_corpus "$name")" "fuzz/seeds/$name" -- \
            -max_total_time="$seconds" -print_final_stats=1
    done
}

# Packs the smallest set of inputs that covers what all found so far cover; the same inputs make the same archive.
corpus() {
    local name folder
    needs_cargo_fuzz
    for name in $(cargo +nightly fuzz list); do
        step "corpus of $name"
        folder="$(unpack_corpus "$name")"
        cargo +nightly fuzz cmin "$name" "$folder"
        (cd "$folder" && find . -type f -printf '%P\n' | LC_ALL=C sort |
            tar --format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=644 -cf - -T -) |
            gzip -n9 >"fuzz/corpus/$name.tar.gz"
    done
}

# The test of the same name, which takes a few seconds among the others.
soak() {
    SOAK_SECONDS="${1:-60}" cargo test -q -p tests --test soak -- --nocapture
}

bench() {
    local name="${1:-}"
    [ $# -eq 0 ] || shift
    case "$name" in
        ring) cargo bench -q -p virtio-net-queue -- "$@" ;;
        datapath) cargo bench -q -p tests --bench datapath -- "$@" ;;
        layouts) tests/benches/layouts.py "$@" ;;
        snapshot) cargo bench -q -p tests --bench snapshot -- "$@" ;;
        coalesce)
            packages
            cargo bench -q -p tests --bench coalesce -- "$@"
            ;;
        limiter)
            cargo bench -q -p virtio-net-rate-limiter
            cargo bench -q -p tests --bench limits -- cost
            ;;
        limits)
            packages
            [ $# -gt 0 ] || set -- tcp udp
            cargo bench -q -p tests --bench limits -- "$@"
            ;;
        '') for name in ring datapath coalesce limiter limits snapshot; do bench "$name"; done ;;
        *)
            echo "ci.sh: there is no benchmark $name" >&2
            exit 2
            ;;
    esac
}

# Ends with a hint unless a subcommand of cargo is there.
needs() {
    command -v "$1" >/dev/null || {
        echo "ci.sh: $1 is missing, install it: cargo install --locked $1" >&2
        exit 1
    }
}

# The test of the same name, which does not take as much time to compress it.
deb() {
    packages
    step "package for Debian"
    DEBIAN_PACKAGE_SMALL=1 cargo test -q -p tests --test debian_package
    ls "${CARGO_TARGET_DIR:-target}"/debian/*.deb
}

deny() {
    needs cargo-deny
    if [ $# -gt 0 ]; then
        cargo deny --workspace check "$@"
        return
    fi
    cargo deny --workspace check bans licenses sources
    # Apart, since they need a database that lies elsewhere.
    cargo deny --workspace check advisories || {
        echo "ci.sh: bans, licences and sources are right; advisories are not, or could not be looked up: their" \
            "database comes from https://github.com/RustSec/advisory-db" >&2
        return 1
    }
}

semver() {
    local revision="${1:-}" package selected=()
    needs cargo-semver-checks
    [ -n "$revision" ] || revision="$(git describe --tags --abbrev=0 2>/dev/null)" || {
        echo "ci.sh: there is no tag to compare with, name a revision" >&2
        exit 2
    }
    for package in "${LIBRARIES[@]}"; do selected+=(--package "$package"); done
    cargo semver-checks --baseline-rev "$revision" "${selected[@]}"
}

targets() {
    local target package oldest toolchain selected=() oldest_selected=()
    oldest="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
    for package in "${LIBRARIES[@]}"; do
        selected+=(--package "$package")
        # The daemon declares a later one.
        [ "$package" = vhost-user-net ] || oldest_selected+=(--package "$package")
    done
    toolchain="$(rustup toolchain list 2>/dev/null | grep -oE "^${oldest//./\\.}(\.[0-9]+)?-" | head -1 || true)"
    if [ -n "$toolchain" ]; then
        step "Rust ${toolchain%-}"
        cargo "+${toolchain%-}" check -q --target-dir target/oldest "${oldest_selected[@]}"
    else
        echo "ci.sh: Rust $oldest is left out: rustup toolchain install $oldest --profile minimal" >&2
    fi
    for target in x86_64-unknown-linux-musl aarch64-unknown-linux-gnu aarch64-unknown-linux-musl; do
        if [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
            step "$target"
            cargo check -q --target "$target" "${selected[@]}"
        else
            echo "ci.sh: $target is left out, its standard library is missing: rustup target add $target" >&2
        fi
    done
}

# Lines of net-queue and net-device that all tests together reach; real guests are left out.
coverage() {
    local profiles="$PWD/target/coverage" object objects=() file tests=() status=0
    for file in llvm-profdata-19 llvm-cov-19; do
        command -v "$file" >/dev/null || {
            echo "ci.sh: $file is missing, install it: apt-get install llvm-19" >&2
            exit 1
        }
    done
    for file in tests/tests/*.rs tests/tests/*/main.rs; do
        file="${file#tests/tests/}"
        file="${file%/main.rs}"
        # Guests take long, and the package has a daemon of its own.
        case "$file" in linux_guest.rs | debian_package.rs) ;; *) tests+=(--test "${file%.rs}") ;; esac
    done
    rm -rf "$profiles/raw"
    # Counters lie in the files themselves (%c): a daemon's filter lets it open none at its end, and a signal leaves no time.
    export RUSTFLAGS="-C instrument-coverage -C llvm-args=-runtime-counter-relocation" CARGO_TARGET_DIR="$profiles/build"
    export LLVM_PROFILE_FILE="$profiles/raw/%m%c.profraw"
    # A daemon that may write no file may not make this one either.
    cargo test -q --no-fail-fast -p virtio-net-queue -p virtio-net-device -p vhost-user-net --lib --tests -- \
        --skip a_capture_beyond_the_limit_of_file_sizes || status=1
    cargo test -q --no-fail-fast -p tests --lib "${tests[@]}" || status=1
    llvm-profdata-19 merge -sparse "$profiles"/raw/*.profraw -o "$profiles/merged.profdata"
    # Programs of this build alone: what earlier ones left would count as lines that nothing reached.
    while read -r object; do objects+=(--object "$object"); done < <(
        {
            cargo test -q --no-run --message-format=json -p virtio-net-queue -p virtio-net-device -p vhost-user-net --lib --tests
            cargo test -q --no-run --message-format=json -p tests --lib "${tests[@]}"
        } | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | sort -u)
    llvm-cov-19 report "${objects[@]}" --instr-profile "$profiles/merged.profdata" --show-region-summary=false \
        --show-branch-summary=false --ignore-filename-regex='/(tests|testing|race)(/|\.rs)|registry|rustc|rate-limiter|snapshot|tap/src|vhost-user-net' |
        tee "$profiles/report"
    # The fifth column counts a file's lines, the sixth those that no test reached.
    awk '$1 ~ /^net-(queue|device)\// { split($1, path, "/"); lines[path[1]] += $5; missed[path[1]] += $6 }
         END { for (name in lines) { share = 100 - 100 * missed[name] / lines[name]; printf "%s: %.2f %% of the lines\n", name, share
                   if (share < 95) low = 1 }
               exit low || !length(lines) }' "$profiles/report" || status=1
    return "$status"
}

mutants() {
    local folder="${1:-}" package out status=0
    [ -f "$folder/Cargo.toml" ] || {
        echo "ci.sh: name the folder of a crate, there is none '$folder'" >&2
        exit 2
    }
    shift
    needs cargo-mutants
    package="$(sed -n 's/^name = "\(.*\)"/\1/p' "$folder/Cargo.toml" | head -1)"
    out="target/mutants/$folder"
    mkdir -p "$out"
    # A missed one is an exit status of 2, and a timeout 3: what counts is the share.
    cargo mutants --package "$package" --output "$out" "$@" || status=$?
    case "$status" in 0 | 2 | 3) ;; *) exit "$status" ;; esac
    python3 lints/mutants.py "$out/mutants.out/outcomes.json"
}

verb="${1:-}"
[ $# -eq 0 ] || shift
case "$verb" in
    fmt | lint | doc | simulate | guest | migrate | killed | fuzz | corpus | soak | bench | asan | tsan | miri | coverage | deb | deny | semver | targets | mutants) "$verb" "$@" ;;
    test) run_tests ;;
    all)
        run_tests
        fuzz
        bench
        ;;
    '' | help | -h | --help) usage ;;
    *)
        usage >&2
        exit 2
        ;;
esac
