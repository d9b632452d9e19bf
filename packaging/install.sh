#!/bin/sh
# Installs claudejob for the user who runs it.
set -eu

usage() {
  cat <<'USAGE'
Installs claudejob for the user who runs it: the program, its manual pages and its completions.

  sh install.sh [--to DIR] [--releases URL] [--version VERSION]
  sh install.sh --uninstall [--to DIR]

DIR is the folder of programs, ~/.local/bin by default; the rest goes into share/ beside it. URL is the address of
the releases. Nothing is installed whose checksum is wrong. Needs curl or wget, tar, gzip, and sha256sum or shasum.
Jobs that run while the program is replaced continue.
USAGE
}

releases=${CLAUDEJOB_RELEASES:-@RELEASES@}
bin=${HOME:+$HOME/.local/bin}
version=
uninstall=false
part=

fail() {
  echo "error: $1" >&2
  if [ -n "${2:-}" ]; then
    echo "hint: $2" >&2
  fi
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --uninstall) uninstall=true && shift && continue ;;
    --to | --releases | --version) [ $# -gt 1 ] || fail "$1 needs a value" ;;
    -h | --help) usage && exit ;;
    *) fail "unexpected argument '$1'" "sh install.sh --help" ;;
  esac
  case $1 in
    --to) bin=$2 ;;
    --releases) releases=$2 ;;
    --version) version=${2#v} ;;
  esac
  shift 2
done

case $bin in
  '') fail "HOME is not set, and there is no --to" "sh install.sh --to DIR" ;;
  /*) ;;
  *) bin=$PWD/$bin ;;
esac
share=${bin%/*}/share
man=$share/man/man1
bash=$share/bash-completion/completions/claudejob
zsh=$share/zsh/site-functions/_claudejob
fish=$share/fish/vendor_completions.d/claudejob.fish
data=$share/claudejob

# Fails if one of the folders can be neither written to nor made: before anything is changed, rather than halfway.
check_folders() {
  for folder in "$bin" "$man" "${bash%/*}" "${zsh%/*}" "${fish%/*}" "$data"; do
    while [ ! -e "$folder" ]; do
      folder=${folder%/*}
      folder=${folder:-/}
    done
    [ -d "$folder" ] || fail "not a directory: $folder" "$1"
    [ -w "$folder" ] || fail "cannot write to $folder" "$1"
  done
}

if $uninstall; then
  [ -e "$bin/claudejob" ] || [ -e "$data" ] || fail "claudejob is not installed in $bin" "sh install.sh --uninstall --to DIR"
  check_folders "run it as the user who installed claudejob"
  rm -f "$bin/claudejob" "$man"/claudejob.1 "$man"/claudejob-*.1 "$bash" "$zsh" "$fish"
  rm -rf "$data"
  echo "Removed $bin/claudejob. Jobs that are running continue; the jobs directory is left as it is."
  exit
fi

case $releases in
  http://* | https://*) ;;
  *) fail "the address of the releases is not known" "sh install.sh --releases https://HOST/OWNER/claudejob/releases" ;;
esac

case $(uname -s)-$(uname -m) in
  Linux-x86_64 | Linux-amd64) target=x86_64-unknown-linux-gnu ;;
  Linux-aarch64 | Linux-arm64) target=aarch64-unknown-linux-gnu ;;
  Darwin-x86_64) target=x86_64-apple-darwin ;;
  Darwin-arm64) target=aarch64-apple-darwin ;;
  *) fail "there is no program for $(uname -s) on $(uname -m)" "cargo install claudejob" ;;
esac
case $target in
  *-linux-gnu)
    loader=
    for file in /lib*/ld-linux-* /lib/*/ld-linux-*; do
      [ ! -e "$file" ] || loader=$file
    done
    [ -n "$loader" ] || fail "this system has no glibc" "cargo install claudejob"
    ;;
esac

for tool in tar gzip; do
  command -v "$tool" >/dev/null || fail "$tool is not installed"
done
if command -v curl >/dev/null; then
  get() { curl --fail --silent --show-error --location --output "$2" "$1"; }
elif command -v wget >/dev/null; then
  get() { wget -q -O "$2" "$1"; }
else
  fail "neither curl nor wget is installed"
fi
if command -v sha256sum >/dev/null; then
  sum() { sha256sum "$1"; }
elif command -v shasum >/dev/null; then
  sum() { shasum -a 256 "$1"; }
else
  fail "neither sha256sum nor shasum is installed"
fi

[ ! -d "$bin/claudejob" ] || fail "a directory: $bin/claudejob" "sh install.sh --to DIR"
check_folders "sh install.sh --to DIR  # a folder of yours; or run it as root"

temporary=$(mktemp -d)
trap 'rm -rf "$temporary" ${part:+"$part"}' EXIT
trap 'exit 1' HUP INT TERM

if [ -n "$version" ]; then
  from=$releases/download/v$version
else
  from=$releases/latest/download
fi
get "$from/SHA256SUMS" "$temporary/SHA256SUMS" || fail "cannot download $from/SHA256SUMS"
line=$(grep -E "^[0-9a-f]{64}  claudejob-[0-9][0-9A-Za-z.+-]*-$target\.tar\.gz\$" "$temporary/SHA256SUMS" | head -n 1) ||
  fail "the release has no program for $target" "cargo install claudejob"
[ -n "$line" ] || fail "the release has no program for $target" "cargo install claudejob"
archive=${line#*  }
get "$from/$archive" "$temporary/$archive" || fail "cannot download $from/$archive"
found=$(sum "$temporary/$archive")
if [ "${found%% *}" != "${line%% *}" ]; then
  fail "the checksum of $archive is ${found%% *}, and not ${line%% *}: nothing was installed"
fi
tar -xzf "$temporary/$archive" -C "$temporary"
folder=$temporary/${archive%.tar.gz}
"$folder/claudejob" --version >/dev/null || fail "the program does not run on this system"

# Renamed into place: a call during the installation finds the old program or the new one.
mkdir -p "$bin" "$man" "${bash%/*}" "${zsh%/*}" "${fish%/*}"
part=$bin/.claudejob.$$
cp "$folder/claudejob" "$part"
chmod 755 "$part"
mv -f "$part" "$bin/claudejob"
rm -f "$man"/claudejob-*.1
cp "$folder"/man/*.1 "$man/"
cp "$folder/completions/claudejob.bash" "$bash"
cp "$folder/completions/_claudejob" "$zsh"
cp "$folder/completions/claudejob.fish" "$fish"
rm -rf "$data"
mkdir -p "$data"
cp -R "$folder/skills" "$folder/openclaw" "$folder/systemd" "$folder/LICENSE" "$data/"

echo "Installed $("$bin/claudejob" --version) as $bin/claudejob"
case :$PATH: in
  *":$bin:"*) ;;
  *) echo "hint: export PATH=\"$bin:\$PATH\"  # in the file that your shell reads first" ;;
esac
echo "Try: claudejob demo"
