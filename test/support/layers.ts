/**
 * Owns directories of what a shell script adds to a Debian root, as `RUN` does in a Dockerfile. Each is made once for a
 * script and what is below it, and kept in /var/cache/howdah-test. Takes root, and the network when one is made.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, utimesSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const CACHE = '/var/cache/howdah-test'
/** Made by bin/prepare. */
export const DEBIAN_12: Layers = [`${CACHE}/debian-12`]
export const DEBIAN_13: Layers = [`${CACHE}/debian-13`]
/** As of the lock that one process holds while it makes a layer. */
const LOCK_SECONDS = 900

/** Directories for the option `lowerdir` of an overlay: the topmost first. */
export type Layers = readonly string[]

/** As in an image of Debian, packages start no services. */
const MAKE = `
  [ ! -d "$directory" ] || exit 0
  partial=$directory.partial
  rm -rf --one-file-system "$partial"
  mkdir -p "$partial/upper" "$partial/work" "$partial/root"
  root=$partial/root
  mount -t overlay overlay -o "lowerdir=$below,upperdir=$partial/upper,workdir=$partial/work" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
  printf '#!/bin/sh\\nexit 101\\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /bin/sh -c "$script"
  umount --recursive "$root"
  mv "$partial/upper" "$directory"
  rm -rf --one-file-system "$partial"
`

/** @throws Error with what the script printed when its status is not 0; no layer is kept then */
export async function layerOver(below: Layers, script: string): Promise<Layers> {
  const directory = path.join(CACHE, `layer-${digest(below, script)}`)
  if (!existsSync(directory)) {
    console.log(`making ${directory}, once (some minutes): ${script.split('\n', 1)[0]?.slice(0, 60)}…`)
    const alone = ['flock', `--timeout=${LOCK_SECONDS}`, path.join(CACHE, '.layers.lock')]
    const namespaces = ['unshare', '--mount', '--propagation=private', '--pid', '--fork', '--kill-child']
    const [program = '', ...args] = [...alone, ...namespaces, '/bin/sh', '-euc', MAKE]
    const env = { PATH: process.env.PATH, directory, below: below.join(':'), script }
    await run(program, args, { cwd: '/', env, maxBuffer: 64 * 1024 ** 2 }).catch(
      (error: Error & { stdout: string }) => {
        throw new Error(`${error.message}\n${error.stdout.slice(-4_000)}`)
      },
    )
  }
  // bin/prepare removes what nothing has used for a week.
  const now = new Date()
  utimesSync(directory, now, now)
  return [directory, ...below]
}

function digest(below: Layers, script: string): string {
  const base = readFileSync(path.join(below.at(-1) ?? '', 'var/lib/dpkg/status'))
  return createHash('sha256')
    .update(JSON.stringify([MAKE, below, script]))
    .update(base)
    .digest('hex')
    .slice(0, 16)
}
