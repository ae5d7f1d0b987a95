# For bin/prepare: the packages of the system that a purpose needs. Installed by apt on the distributions that packages.txt
# has a column for; on others what is missing is named.

table=$root/test/prepare/packages.txt
policy=/usr/sbin/policy-rc.d
cluster_defaults=/etc/postgresql-common/createcluster.conf
mark="only while Howdah's preparation runs"

# ---- what is needed, and what this distribution calls it ----------------------------------------------------------------

from_os_release() { (. /etc/os-release && eval "echo \"\${$1:-}\"") 2>/dev/null || true; }

# The column of packages.txt that apt installs from here; empty on other systems.
release=$(from_os_release ID)-$(from_os_release VERSION_ID)
case $release in
  debian-12 | debian-13 | ubuntu-22.04 | ubuntu-24.04) command -v apt-get >/dev/null || release= ;;
  *) release= ;;
esac

# needed COLUMN: of each row for this purpose a line "NAME IN THE COLUMN<tab>NAME IN THE FIRST COLUMN<tab>FOUND".
needed() {
  while read -r row first debian_13 ubuntu_22 ubuntu_24 dnf found; do
    case $row in demo | "$purpose") ;; *) continue ;; esac
    name=
    for cell in "debian-12 $first" "debian-13 $debian_13" "ubuntu-22.04 $ubuntu_22" "ubuntu-24.04 $ubuntu_24" "dnf $dnf"; do
      [ "${cell#* }" = = ] || name=${cell#* }
      [ "${cell%% *}" != "$1" ] || break
    done
    printf '%s\t%s\t%s\n' "$name" "$first" "$found"
  done <"$table"
}

# Of packages of this release, those that are not installed; removed but not purged counts as not installed.
missing_packages() {
  installed=" $(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' 2>/dev/null | sed -n 's/^.i  *//p' | tr '\n' ' ')"
  needed "$release" | while IFS='	' read -r alternatives _; do
    [ "$alternatives" != - ] || continue
    there=
    for package in $(echo "${alternatives%%>*}" | tr '|' ' '); do
      case $installed in *" $package "*) there=yes ;; esac
    done
    alternatives=${alternatives%%>*}
    [ -n "$there" ] || printf '%s ' "${alternatives%%|*}"
  done
}

# Of packages with a least version, those that are older, installed or as apt would install them.
packages_too_old() {
  needed "$release" | sed -n 's/^\([^|	]*\)>=\([^	]*\).*/\1 \2/p' | while read -r package least; do
    version=$(dpkg-query -W -f='${db:Status-Abbrev}${Version}' "$package" 2>/dev/null | sed -n 's/^.i  *//p')
    [ -n "$version" ] || version=$(apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9]\)/\1/p')
    [ -z "$version" ] || dpkg --compare-versions "$version" ge "$least" ||
      echo "$package is $version; $least or later is needed"
  done
}

refuse_old_packages() {
  old=$(packages_too_old)
  [ -z "$old" ] ||
    fail "$(from_os_release PRETTY_NAME) has packages that are too old:" "$old" \
      'Newer ones: https://www.rabbitmq.com/docs/install-debian and https://www.postgresql.org/download/linux/ubuntu'
}

is_found() {
  for way in $(echo "$1" | tr '|' ' '); do
    case $way in
      lib:*) PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -qF "${way#lib:} " && return ;;
      python:*) python3 -c "import ${way#python:}" 2>/dev/null && return ;;
      # The pattern is meant to be expanded.
      # shellcheck disable=SC2086
      /*) ls $way >/dev/null 2>&1 && return ;;
      *) command -v "$way" >/dev/null && return ;;
    esac
  done
  return 1
}

# missing_files COLUMN: by the files that are used, what is missing: "PACKAGE", or "PACKAGE?" where the column has none and
# it is Debian's name.
missing_files() {
  needed "$1" | while IFS='	' read -r name debian_name found; do
    if is_found "$found"; then continue; fi
    [ "$name" != - ] || name=${debian_name%%>*}?
    [ "$name" != '-?' ] || continue
    name=${name%%>*}
    printf '%s ' "${name%%|*}" | tr ',' ' '
  done
}

# ---- installing them ------------------------------------------------------------------------------------------------------

restore_policy() {
  if [ -f "$policy" ] && grep -qF "$mark" "$policy"; then
    if [ -e "$policy.howdah-saved" ]; then mv "$policy.howdah-saved" "$policy"; else rm "$policy"; fi
  fi
}

restore_cluster_defaults() {
  if [ -f "$cluster_defaults" ] && grep -qF "$mark" "$cluster_defaults"; then
    sed -i "/$mark/d" "$cluster_defaults"
  fi
}

# While apt runs, no service is started, stopped or restarted, whatever the install scripts request.
deny_services() {
  restore_policy
  if [ -e "$policy" ]; then mv "$policy" "$policy.howdah-saved"; fi
  printf '#!/bin/sh\n# Here %s.\nexit 101\n' "$mark" >"$policy"
  chmod 755 "$policy"
}

apt_install() {
  apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"
}

apt_update() {
  run 'refreshing the list of packages' apt-get -q -o DPkg::Lock::Timeout=300 update || apt_failed
}

apt_failed() {
  show_log
  fail 'the packages could not be installed; the end of apt'"'"'s output is above.' \
    'Is a mirror of the distribution reachable from here?' \
    "Try by hand:  apt-get update && apt-get install --no-install-recommends $missing"
}

# install_with_apt PACKAGE…: refreshes the package list only if installing without that fails.
install_with_apt() {
  what="installing $*"
  run "$what" apt_install "$@" && return
  if [ -z "${updated:-}" ]; then
    updated=yes
    apt_update
    run "$what" apt_install "$@" && return
  fi
  apt_failed
}

install_packages() {
  need_log
  # One apt at a time, across checkouts; the lock is on a system file, so no lock file is left.
  exec 8</etc/os-release
  flock -w 900 8 || fail 'another bin/prepare has been installing packages for 15 minutes; see what it waits for.'
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0

  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C.UTF-8
  changed=yes
  deny_services
  case " $missing" in
    *' postgresql-'[0-9]*)
      # No cluster is made: the setting belongs to postgresql-common, which therefore comes first.
      [ -e "$cluster_defaults" ] || install_with_apt postgresql-common
      restore_cluster_defaults
      echo "create_main_cluster = false # $mark" >>"$cluster_defaults"
      ;;
  esac
  # shellcheck disable=SC2086 -- a list of names
  install_with_apt $missing
  case " $missing" in
    *' rabbitmq-server '*)
      if [ -d /run/systemd/system ]; then
        run 'keeping the new rabbitmq-server from starting at boot' \
          systemctl disable rabbitmq-server.service epmd.socket epmd.service || true
      fi
      ;;
  esac
  case " $missing" in
    *' openssh-server '*)
      if [ -d /run/systemd/system ]; then
        run 'keeping the new sshd from starting at boot' systemctl disable ssh.service ssh.socket || true
      fi
      ;;
  esac
  restore_policy
  restore_cluster_defaults
}

prepare_system() {
  if [ -n "$release" ]; then
    refuse_old_packages
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] ||
      fail 'packages are missing, and only root can install them:' \
        "sudo apt-get install --no-install-recommends $missing" \
        'No cluster and no broker of these packages is needed; they may be stopped and disabled.'
    install_packages
    refuse_old_packages
  else
    name_missing_packages
  fi
}

# Where nothing is installed: says what to install.
name_missing_packages() {
  this=$(from_os_release PRETTY_NAME)
  elsewhere="this is ${this:-$(uname -s)}, where nothing is installed for you."
  least='RabbitMQ 3.10 or later, a PostgreSQL server, pgBackRest 2.45 or later, and libfuse 2.9 with fusermount are needed.'
  if command -v dnf >/dev/null; then
    missing=$(missing_files dnf)
    [ -n "$missing" ] || return 0
    packages=$(echo "$missing" | tr ' ' '\n' | grep -v '?' | tr '\n' ' ')
    unknown=$(echo "$missing" | tr ' ' '\n' | sed -n 's/?$//p' | tr '\n' ' ')
    fail "$elsewhere Missing is:" "dnf install $packages" \
      ${unknown:+"and what Debian calls:  $unknown"} \
      'PostgreSQL, pgBackRest and Barman are in the repository of PGDG (https://yum.postgresql.org), RabbitMQ in its own' \
      '(https://www.rabbitmq.com/docs/install-rpm), others in EPEL. These names were not tried.' "$least"
  fi
  missing=$(missing_files debian-13 | tr -d '?')
  [ -z "$missing" ] || fail "$elsewhere Missing is what Debian 13 calls:" "$missing" "$least"
}
