# Functions of the scripts in this folder, which source it in the root of the repository.
# shellcheck shell=bash

# What a package can be built for: the names that npm uses.
PLATFORMS="linux-x64 linux-arm64 darwin-x64 darwin-arm64"
# Archives of binaries and their checksums.
DIST=target/dist
# shellcheck disable=SC2034
GIT_CLIFF="git-cliff==2.14.2"
# Programs that the scripts install for themselves.
TOOLS=$PWD/target/packaging/tools

fail() {
  echo "${0##*/}: $1" >&2
  if [ -n "${2:-}" ]; then
    echo "hint: $2" >&2
  fi
  exit 1
}

# Prints the version that Cargo.toml states.
version() {
  sed -n '/^\[package\]/,/^\[dependencies\]/s/^version = "\(.*\)"$/\1/p' Cargo.toml
}

# Prints Rust's name of a platform.
target() {
  case $1 in
    linux-x64) echo x86_64-unknown-linux-gnu ;;
    linux-arm64) echo aarch64-unknown-linux-gnu ;;
    darwin-x64) echo x86_64-apple-darwin ;;
    darwin-arm64) echo aarch64-apple-darwin ;;
    *) fail "unknown platform '$1'" "one of: $PLATFORMS" ;;
  esac
}

# Prints the name of a platform's archive, which is also that of the only folder in it.
archive() {
  echo "claudejob-$(version)-$(target "$1")"
}

# Unpacks a platform's archive into a folder. Fails if there is none.
unpack() {
  local archive
  archive=$DIST/$(archive "$1").tar.gz
  [ -e "$archive" ] || fail "there is no $archive" "packaging/build-binaries $1"
  mkdir -p "$2"
  tar -xzf "$archive" -C "$2" --strip-components 1
}

# Prints the platforms that have an archive of this version.
built_platforms() {
  local platform
  for platform in $PLATFORMS; do
    if [ -e "$DIST/$(archive "$platform").tar.gz" ]; then
      echo "$platform"
    fi
  done
}

# Prints the checksums of files, in the format of sha256sum.
checksums() {
  if command -v sha256sum >/dev/null; then
    sha256sum "$@"
  else
    shasum -a 256 "$@"
  fi
}

# Installs packages from PyPI into a folder of its own, unless they are there: `python_tools zig
# ziglang==0.1 …`. Prints the folder of their programs.
python_tools() {
  local folder=$TOOLS/$1
  shift
  if [ "$(cat "$folder/installed" 2>/dev/null)" != "$*" ]; then
    command -v python3 >/dev/null || fail "python3 is not installed"
    rm -rf "$folder"
    python3 -m venv "$folder" >&2 || fail "python3 cannot make a virtual environment" "apt-get install python3-venv"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@" >&2 || fail "pip cannot install $*"
    echo "$*" >"$folder/installed"
  fi
  echo "$folder/bin"
}

# Installs a program from crates.io into a folder of its own, unless it is there: `cargo_tool cargo-deb
# 1.2.3`. It is built fast, because it runs once. Prints the folder of the program.
cargo_tool() {
  local folder=$TOOLS/$1-$2
  if [ ! -e "$folder/bin/$1" ]; then
    cargo install --quiet --locked --debug --root "$folder" --target-dir "target/packaging/$1" "$1@$2" >&2 ||
      fail "cargo cannot install $1"
    rm -rf "target/packaging/$1"
  fi
  echo "$folder/bin"
}

# Copies what belongs to a program of any platform: licence, manual, completions, skill, units.
copy_common_files() {
  local to=$1
  mkdir -p "$to/man" "$to/completions" "$to/skills/claudejob" "$to/openclaw" "$to/systemd"
  cp LICENSE README.md CHANGELOG.md "$to"
  cp docs/man/*.1 "$to/man"
  # What `claudejob completions` prints; a program for another processor cannot be run here.
  cp src/commands/completions/claudejob.bash src/commands/completions/claudejob.fish "$to/completions"
  cp src/commands/completions/claudejob.zsh "$to/completions/_claudejob"
  # OpenClaw copies the whole folder of a skill.
  cp SKILL.md "$to/skills/claudejob"
  cp -R packaging/openclaw/claudejob-recover "$to/openclaw"
  cp packaging/systemd/claudejob-recover.service "$to/systemd"
  find "$to" -type d -exec chmod 755 {} +
  find "$to" -type f -exec chmod 644 {} +
}

# Prints the address of the repository; nothing if it is not known.
repository_url() {
  if [ -n "${RELEASES_URL:-}" ]; then
    echo "${RELEASES_URL%/releases}"
  else
    sed -n 's/^repository = "\(.*\)"$/\1/p' Cargo.toml
  fi
}

# Prints the address of the releases.
releases_url() {
  local repository
  repository=$(repository_url)
  [ -n "$repository" ] || fail "the address of the releases is not known" \
    "RELEASES_URL=https://HOST/OWNER/claudejob/releases $0"
  echo "$repository/releases"
}

# Prints the section of CHANGELOG.md for a version, without its heading.
changelog_section() {
  awk -v heading="## [$1]" 'index($0, "## [") == 1 { inside = index($0, heading) == 1; next } inside' CHANGELOG.md
}
