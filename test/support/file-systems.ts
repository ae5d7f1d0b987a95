/** File systems made for a test, in files by loop devices where they need a device. Removed with everything in them. */
import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)
const MIB = 1024 * 1024

export interface MadeFileSystem {
  /** A directory on it, in which anybody may make files as in /var/tmp. */
  readonly directory: string
  /** Takes all of its space but these bytes, or a little more. */
  leave(bytes: number): Promise<void>
  remove(): Promise<void>
}

interface Made {
  readonly directory: string
  /** Mount points, to be unmounted in this order. */
  readonly mounts: readonly string[]
}

/** Makes one in the directory `home`. `image`: a file for a device. */
type Make = (home: string, image: string, bytes: number) => Promise<Made>

const ofDevice =
  (mkfs: readonly [string, ...string[]], options = 'defaults'): Make =>
  async (home, image, bytes) => {
    await run('truncate', ['-s', String(bytes), image])
    const [program, ...args] = mkfs
    await run(program, [...args, image])
    const directory = `${home}/mounted`
    mkdirSync(directory)
    await run('mount', ['-o', `loop,${options}`, image, directory])
    return { directory, mounts: [directory] }
  }

const ext4 = ofDevice(['mkfs.ext4', '-q', '-F'])
const btrfs = (options?: string) => ofDevice(['mkfs.btrfs', '-q'], options)
/** Bytes of the quota of `btrfs with a quota`. */
export const BTRFS_QUOTA = 96 * MIB

export const FILE_SYSTEMS = {
  ext4,
  xfs: ofDevice(['mkfs.xfs', '-q', '-f']),
  btrfs: btrfs(),
  'btrfs with compression': btrfs('compress-force=zstd'),
  'btrfs without copy on write': btrfs('nodatacow'),
  'btrfs with a quota': async (home, image, bytes) => {
    const { directory: root, mounts } = await btrfs()(home, image, bytes)
    const directory = `${root}/limited`
    await run('btrfs', ['quota', 'enable', root])
    await run('btrfs', ['subvolume', 'create', directory])
    await run('btrfs', ['qgroup', 'limit', String(BTRFS_QUOTA), directory])
    return { directory, mounts }
  },
  tmpfs: async (home, _image, bytes) => {
    const directory = `${home}/mounted`
    mkdirSync(directory)
    await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', directory])
    return { directory, mounts: [directory] }
  },
  overlay: async (home, image, bytes) => {
    const { directory: below } = await ext4(home, image, bytes)
    for (const name of ['lower', 'upper', 'work']) mkdirSync(`${below}/${name}`)
    const directory = `${home}/overlay`
    mkdirSync(directory)
    const options = `lowerdir=${below}/lower,upperdir=${below}/upper,workdir=${below}/work`
    await run('mount', ['-t', 'overlay', '-o', options, 'overlay', directory])
    return { directory, mounts: [directory, below] }
  },
} as const satisfies Record<string, Make>

export type FileSystemName = keyof typeof FILE_SYSTEMS

/** A loop device or a process that ends may hold it for a moment. */
async function unmount(mountPoint: string): Promise<void> {
  for (const giveUp = Date.now() + 10_000; ; await sleep(50)) {
    try {
      await run('umount', [mountPoint])
      return
    } catch (error) {
      if (Date.now() > giveUp) throw error
    }
  }
}

/** `bytes`: its size, most of which takes no space. Needs root. */
export async function makeFileSystem(name: FileSystemName, bytes = 2048 * MIB): Promise<MadeFileSystem> {
  const home = mkdtempSync('/var/tmp/howdah-fs-')
  chmodSync(home, 0o755)
  try {
    const { directory, mounts } = await FILE_SYSTEMS[name](home, `${home}/image`, bytes)
    chmodSync(directory, 0o1777)
    return {
      directory,
      async leave(bytes) {
        const { bavail, bsize } = statfsSync(directory)
        await run('fallocate', ['-l', String(bavail * bsize - bytes), `${directory}/ballast`])
      },
      async remove() {
        for (const mount of mounts) await unmount(mount)
        rmSync(home, { recursive: true })
      },
    }
  } catch (error) {
    await run('umount', ['-l', `${home}/mounted`]).catch(() => undefined)
    rmSync(home, { recursive: true, force: true })
    throw error
  }
}
