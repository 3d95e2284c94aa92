#!/bin/sh
# Installs mhostd as a systemd service on Debian 12 or later, or upgrades or removes it.
set -eu
umask 022 # all of it is for every user to read

usage() {
	cat <<'EOF'
usage: sudo ./install.sh [--root DIR] [--uninstall]

Installs mhostd from this checkout and starts it; run again, it upgrades.

  --root DIR   install into DIR instead of /, as for an image; starts nothing (or DESTDIR=DIR)
  --uninstall  stop it and remove what was installed; configuration and state are kept

PYTHON names the interpreter (/usr/bin/python3).

  /opt/mhostd                        a virtual environment with all of it
  /usr/local/bin                     mhostd, mhostctl
  /usr/local/share                   manual pages, bash and zsh completion
  /usr/local/lib/systemd/system      mhostd.service
  /usr/local/lib/sysusers.d          the user and group mhost
  /etc/mhostd/mhostd.toml            the configuration; never overwritten
EOF
}

say() { echo "mhostd: $*"; }
die() { echo "install.sh: $*" >&2; exit 1; }

HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-/usr/bin/python3}
ROOT=${DESTDIR:-}
uninstall=
while [ $# -gt 0 ]; do
	case $1 in
	--root) ROOT=${2:-}; [ -n "$ROOT" ] || die "--root: want a directory"; shift ;;
	--root=*) ROOT=${1#*=}; [ -n "$ROOT" ] || die "--root: want a directory" ;;
	--uninstall) uninstall=yes ;;
	-h | --help) usage; exit ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
if [ -n "$ROOT" ]; then
	mkdir -p "$ROOT"
	ROOT=$(cd "$ROOT" && pwd)
	ROOT=${ROOT%/} # `--root /` is no other root
fi
[ -n "$ROOT" ] || [ "$(id -u)" -eq 0 ] || die "not root; run: sudo $0"

VENV=$ROOT/opt/mhostd
CONFIG=$ROOT/etc/mhostd/mhostd.toml
UNIT=$ROOT/usr/local/lib/systemd/system/mhostd.service
SYSUSERS=$ROOT/usr/local/lib/sysusers.d/mhostd.conf
LINKS='bin/mhostd bin/mhostctl share/man/man1/mhostctl.1 share/man/man8/mhostd.8
	share/man/man3/libmhost.3
	share/bash-completion/completions/mhostctl share/zsh/site-functions/_mhostctl'

systemd_runs() { [ -z "$ROOT" ] && [ -d /run/systemd/system ]; }

remove() {
	if systemd_runs && [ -e "$UNIT" ]; then
		say "stopping the service"
		systemctl disable --quiet --now mhostd
	fi
	say "removing $VENV and what is in $ROOT/usr/local"
	for link in $LINKS; do
		case $(readlink "$ROOT/usr/local/$link") in
		*/opt/mhostd/*) rm "$ROOT/usr/local/$link" ;;
		esac
	done
	rm -f "$UNIT" "$SYSUSERS"
	[ ! -e "$VENV/pyvenv.cfg" ] || rm -r "$VENV"
	! systemd_runs || systemctl daemon-reload
	say "kept: $ROOT/etc/mhostd, $ROOT/var/lib/mhostd, the user and group mhost"
}

packages() {
	command -v apt-get >/dev/null || return 0 # not Debian: what is missing, pip says
	missing=
	for package in gcc libc6-dev python3-dev python3-venv netbase ca-certificates; do
		dpkg-query -W -f='${Status}\n' $package 2>/dev/null | grep -q 'ok installed' \
			|| missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	[ "$(id -u)" -eq 0 ] || die "packages are missing; as root run: apt-get install$missing"
	say "apt:$missing"
	apt-get -qq update
	DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install -y --no-install-recommends $missing >/dev/null
}

environment() {
	command -v "$PYTHON" >/dev/null || die "no $PYTHON; install it, or set PYTHON"
	version='import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))'
	found=$("$PYTHON" -c "$version") \
		|| die "$PYTHON is Python $found; mhostd needs 3.11 or later: set PYTHON"
	# A Python that was replaced by another version leaves an environment that is none.
	if [ "$("$VENV/bin/python" -c "$version" 2>/dev/null)" != "$found" ]; then
		say "Python $found environment in $VENV"
		"$PYTHON" -m venv --clear "$VENV"
	fi
	say "building and installing from $HERE"
	"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
		--no-warn-script-location --root-user-action=ignore "$HERE" \
		|| die "pip could not install it; the lines above say why"
	[ -n "$ROOT" ] || return 0
	# They run where they are now and also once DIR has become /: sh finds python beside
	# the file, and Python sees a string.
	for script in "$VENV/bin/mhostd" "$VENV/bin/mhostctl"; do
		sed -i "1c\\
#!/bin/sh\\
'''exec' \"\$(dirname \"\$(readlink -f \"\$0\")\")/python\" \"\$0\" \"\$@\"\\
' '''" "$script"
	done
}

files() {
	say "commands, manual pages and completion in $ROOT/usr/local"
	for link in $LINKS; do
		mkdir -p "$(dirname "$ROOT/usr/local/$link")"
		# relative, so that it holds in DIR too
		up=$(echo "usr/local/${link%/*}" | sed 's|[^/]*|..|g')
		ln -sfn "$up/opt/mhostd/$link" "$ROOT/usr/local/$link"
	done
	install -D -m 644 "$HERE/systemd/mhostd.service" "$UNIT"
	install -D -m 644 "$HERE/systemd/mhostd.sysusers" "$SYSUSERS"
	if [ -e "$CONFIG" ]; then
		say "keeping $CONFIG"
		"$VENV/bin/mhostctl" config check "$CONFIG" >/dev/null \
			|| die "correct $CONFIG ($HERE/systemd/mhostd.toml explains every key), then run this again"
	else
		say "sample configuration in $CONFIG"
		install -D -m 644 "$HERE/systemd/mhostd.toml" "$CONFIG"
	fi
}

user() {
	getent passwd mhost >/dev/null && getent group mhost >/dev/null && return
	say "user and group mhost"
	if command -v systemd-sysusers >/dev/null; then
		systemd-sysusers "$SYSUSERS"
	else
		getent group mhost >/dev/null || groupadd --system mhost
		useradd --system --gid mhost --home-dir /var/lib/mhostd --no-create-home \
			--shell /usr/sbin/nologin mhost
	fi
}

start() {
	if ! systemd_runs; then
		say "installed; systemd does not run here. Start the daemon as root with: mhostd"
		return
	fi
	say "starting the service"
	systemctl daemon-reload
	systemctl enable --quiet mhostd
	systemctl restart mhostd || die "it did not start; see: journalctl -u mhostd"
	say "running; applications need the group mhost (usermod -aG mhost USER). See: mhostctl status"
}

if [ -n "$uninstall" ]; then
	remove
	exit
fi
packages
environment
files
if [ -n "$ROOT" ]; then
	say "installed in $ROOT"
	exit
fi
user
start
