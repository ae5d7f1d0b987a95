/**
 * A mount process that can be made to fail, on a directory as its backup. While the file `<directory>.shut` exists the
 * repository does not answer. SIGUSR2 closes the FUSE device under the engine, SIGHUP makes the main thread throw.
 */
import { closeSync, existsSync, readdirSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { mountProgram } from '../../agents/target/mount-process/program/mount-program.ts'
import { directorySource } from '../filesystem/support/directory-source.ts'

process.on('SIGUSR2', () => closeSync(deviceFd()))
process.on('SIGHUP', () => {
  throw new Error('the main thread fails on request')
})

await mountProgram(({ dataPlane: { ticket: directory } }) => {
  const source = directorySource(directory)
  return {
    ...source,
    async read(file, offset, length, signal) {
      while (existsSync(`${directory}.shut`)) await sleep(10, undefined, signal && { signal })
      return source.read(file, offset, length, signal)
    },
  }
})

function deviceFd(): number {
  const isDevice = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === '/dev/fuse'
    } catch {
      return false
    }
  }
  return Number(readdirSync('/proc/self/fd').find(isDevice))
}
