/**
 * Measures opening a backup of 100,000 files: a pgBackRest manifest that lists as many, served over the data plane and mounted.
 * The files that are listed are all stored as one; none is read.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { makeProduction } from '../../support/production.ts'
import { serveBackup } from '../data-plane.ts'
import type { Figure } from '../figure.ts'
import { residentMib } from '../machine.ts'
import type { Scope } from '../scope.ts'
import type { Workshop } from '../workshop.ts'

const FILES = 100_000
const FIRST_NUMBER = 1_000_000

export async function manyFiles(workshop: Workshop, scope: Scope): Promise<readonly Figure[]> {
  const production = await makeProduction({ tablespace: false, compress: 'none' })
  scope.defer('a production', () => production.remove())
  const label = await production.backup('full')
  await production.stop()
  await listMore(path.join(production.path, 'backup', production.stanza, label, 'backup.manifest'))

  const opened: number[] = []
  const memory: number[] = []
  const listed: number[] = []
  for (let turn = 0; turn < workshop.amounts.turns; turn++) {
    scope.check()
    workshop.say(`  a backup of ${FILES} files, ${turn + 1} of ${workshop.amounts.turns} …`)
    const inner = scope.inner()
    try {
      const plane = await serveBackup(
        inner,
        { format: 'pgbackrest', path: production.path },
        { instance: production.stanza, backup: label },
      )
      const mount = await plane.mount(inner)
      opened.push(mount.seconds)
      const started = performance.now()
      const { stdout } = await promisify(execFile)('find', [mount.data, '-type', 'f', '-printf', '%s\\n'], {
        maxBuffer: 1024 ** 3,
      })
      listed.push((performance.now() - started) / 1000)
      const count = stdout.trimEnd().split('\n').length
      if (count < FILES) throw new Error(`the mount has ${count} files, not ${FILES}`)
      memory.push(residentMib(mount.process.pid))
    } finally {
      await inner.close()
    }
  }
  return [
    {
      ...{ name: 'opening a backup of 100,000 files', unit: 's', better: 'less', howdah: opened },
      target: { of: 'value', limit: 1 },
    },
    { name: 'listing them all, with sizes', unit: 's', better: 'less', howdah: listed },
    {
      ...{ name: 'mount process after that', unit: 'MiB', better: 'less', howdah: memory },
      target: { of: 'value', limit: 200 },
    },
  ]
}

/**
 * Lists FILES more relations in a manifest, and signs it: `backrest-checksum` is the SHA-1 of all before it as JSON
 * (pgBackRest's src/info/info.c).
 */
async function listMore(manifest: string): Promise<void> {
  const sections = new Map<string, Map<string, string>>()
  let section = new Map<string, string>()
  for (const line of (await readFile(manifest, 'utf8')).split('\n')) {
    if (line === '') continue
    if (line.startsWith('[')) {
      section = new Map()
      // The checksum has a section of its own at the end, of the same name as the first.
      if (!sections.has(line.slice(1, -1))) sections.set(line.slice(1, -1), section)
      continue
    }
    const equals = line.indexOf('=')
    section.set(line.slice(0, equals), line.slice(equals + 1))
  }
  const files = sections.get('target:file')
  const [name, fields] = [...(files ?? [])].find(([key]) => /^pg_data\/base\/\d+\/\d+$/.test(key)) ?? []
  if (files === undefined || name === undefined || fields === undefined) {
    throw new Error(`${manifest} lists no relation`)
  }
  const directory = path.dirname(name)
  for (let number = FIRST_NUMBER; number < FIRST_NUMBER + FILES; number++) {
    files.set(`${directory}/${number}`, fields)
  }
  const hash = createHash('sha1').update('{')
  const lines: string[] = []
  let separator = ''
  for (const [title, entries] of sections) {
    if (entries.size > 0) {
      const contents = [...entries].map(([key, value]) => `${JSON.stringify(key)}:${value}`)
      hash.update(`${separator}${JSON.stringify(title)}:{${contents.join(',')}`)
      separator = '},'
    }
    lines.push(`[${title}]`, ...[...entries].map(([key, value]) => `${key}=${value}`))
    lines.push('')
  }
  lines.push('[backrest]', `backrest-checksum="${hash.update('}}').digest('hex')}"`, '')
  await writeFile(manifest, lines.join('\n'))
}
