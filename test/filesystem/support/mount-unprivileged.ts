/** A program: checks FUSE, mounts a directory as the user that runs it, reads it, unmounts, and prints what it saw as JSON. */
import { readFileSync, writeFileSync } from 'node:fs'
import { checkFuse } from '../../../agents/target/preflight/fuse.ts'
import { makeScratch, startMount } from './mounted.ts'

const findings = await checkFuse()
let seen = {}
if (findings.length === 0) {
  const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
  const scratch = await makeScratch(owner)
  try {
    writeFileSync(`${scratch.base}/file`, 'of the backup')
    const mount = await startMount(scratch, scratch.base, owner, { driver: 'fuse-native', allowOther: false })
    const maps = readFileSync(`/proc/${mount.pid}/maps`, 'utf8')
    seen = {
      read: readFileSync(`${scratch.data}/file`, 'utf8'),
      libfuse: [...new Set(maps.match(/\/.*libfuse\.so.*/g))],
    }
  } finally {
    await scratch.remove()
  }
}
process.stdout.write(JSON.stringify({ findings: findings.map(({ message }) => message), ...seen }))
